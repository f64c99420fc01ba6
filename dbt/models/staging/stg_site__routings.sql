select
    material_definition_id,
    segment_id,
    sequence,
    equipment_id,
    description
from {{ source('site', 'routings') }}
