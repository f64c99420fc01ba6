select
    subgroup.subgroup_id,
    subgroup.characteristic_id,
    subgroup.equipment_id,
    subgroup.production_date,
    subgroup.subgroup_at,
    subgroup.subgroup_end_at,
    subgroup.shift_id,
    subgroup.material_lot_id,
    subgroup.job_order_id,
    subgroup.specification_version,
    characteristic.unit,
    subgroup.n_observed,
    subgroup.mean,
    subgroup.median,
    subgroup.m2,
    subgroup.range,
    subgroup.s,
    subgroup.minimum,
    subgroup.maximum,
    subgroup.n_masked,
    subgroup.mean_unmasked,
    subgroup.m2_unmasked
from {{ ref('stg_lake__spc_subgroups') }} as subgroup
left join {{ ref('dim_characteristic') }} as characteristic
    on
        subgroup.characteristic_id = characteristic.characteristic_id
        and subgroup.equipment_id = characteristic.equipment_id
