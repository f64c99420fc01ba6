select
    subgroup.subgroup_id,
    subgroup.characteristic_id,
    subgroup.equipment_id,
    subgroup.subgroup_at,
    subgroup.subgroup_end_at,
    subgroup.shift_id,
    subgroup.job_order_id,
    characteristic.counted,
    subgroup.n_observed,
    subgroup.count,
    subgroup.size,
    case when subgroup.size > 0 then subgroup.count / subgroup.size end as rate,
    subgroup.production_date
from {{ ref('stg_lake__spc_count_subgroups') }} as subgroup
left join {{ ref('dim_characteristic') }} as characteristic
    on
        subgroup.characteristic_id = characteristic.characteristic_id
        and subgroup.equipment_id = characteristic.equipment_id
