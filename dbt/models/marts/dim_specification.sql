select
    characteristic_id,
    version as specification_version,
    effective_from,
    effective_to,
    lsl,
    target,
    usl,
    unit,
    resolution
from {{ ref('stg_site__specifications') }}
