select
    equipment_id,
    work_center_id,
    shift_id,
    event_id,
    state,
    reason_code,
    loss_category,
    time_element,
    stop_class,
    start_at at time zone 'UTC' as start_at,
    end_at at time zone 'UTC' as end_at,
    duration_s,
    is_open,
    as_of at time zone 'UTC' as as_of,
    production_date
from {{ source('lake', 'downtime_event') }}
