select
    equipment_id,
    start_at,
    work_center_id,
    shift_id,
    flow_state,
    time_element,
    end_at,
    duration_s,
    production_date
from {{ ref('stg_lake__flow_interval') }}
