select
    equipment_id,
    work_center_id,
    shift_id,
    start_at at time zone 'UTC' as start_at,
    end_at at time zone 'UTC' as end_at,
    duration_s,
    planned_down_s,
    production_date
from {{ source('lake', 'shift_calendar') }}
