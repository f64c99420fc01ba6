select
    shift_id,
    work_center_id,
    start_local,
    end_local,
    weekdays,
    effective_from at time zone 'UTC' as effective_from,
    effective_to at time zone 'UTC' as effective_to
from {{ source('site', 'shifts') }}
