select
    equipment_id,
    work_center_id,
    shift_id,
    material_definition_id,
    event_id,
    state,
    reason_code,
    time_element,
    stop_class,
    start_at at time zone 'UTC' as start_at,
    end_at at time zone 'UTC' as end_at,
    duration_s,
    event_duration_s,
    is_open,
    unknown_reason,
    as_of at time zone 'UTC' as as_of,
    production_date
from {{ source('lake', 'state_interval') }}
