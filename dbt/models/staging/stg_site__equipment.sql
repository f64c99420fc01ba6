select
    equipment_id,
    equipment_level,
    parent_equipment_id,
    description
from {{ source('site', 'equipment') }}
