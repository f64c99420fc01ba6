select
    material_definition_id,
    segment_id,
    sequence,
    equipment_id,
    description
from {{ ref('stg_site__routings') }}
