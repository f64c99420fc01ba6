select
    shift_id,
    work_center_id,
    start_local,
    end_local,
    weekdays,
    effective_from,
    effective_to
from {{ ref('stg_site__shifts') }}
