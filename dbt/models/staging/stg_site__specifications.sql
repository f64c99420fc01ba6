select
    characteristic_id,
    version,
    effective_from at time zone 'UTC' as effective_from,
    effective_to at time zone 'UTC' as effective_to,
    lsl,
    target,
    usl,
    unit,
    resolution
from {{ source('site', 'specifications') }}
