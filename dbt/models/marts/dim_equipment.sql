with equipment as (
    select * from {{ ref('stg_site__equipment') }}
)

select
    unit.equipment_id,
    unit.equipment_level,
    unit.parent_equipment_id,
    unit.description,
    case 'work_center'
        when unit.equipment_level then unit.equipment_id
        when parent.equipment_level then parent.equipment_id
    end as work_center_id,
    case 'area'
        when unit.equipment_level then unit.equipment_id
        when parent.equipment_level then parent.equipment_id
        when grandparent.equipment_level then grandparent.equipment_id
    end as area_id,
    case 'site'
        when unit.equipment_level then unit.equipment_id
        when parent.equipment_level then parent.equipment_id
        when grandparent.equipment_level then grandparent.equipment_id
        when great.equipment_level then great.equipment_id
    end as site_id
from equipment as unit
left join equipment as parent on unit.parent_equipment_id = parent.equipment_id
left join equipment as grandparent on parent.parent_equipment_id = grandparent.equipment_id
left join equipment as great on grandparent.parent_equipment_id = great.equipment_id
