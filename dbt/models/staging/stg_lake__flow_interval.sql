select
    equipment_id,
    work_center_id,
    shift_id,
    flow_state,
    time_element,
    start_at at time zone 'UTC' as start_at,
    end_at at time zone 'UTC' as end_at,
    duration_s,
    production_date
from {{ source('lake', 'flow_interval') }}
