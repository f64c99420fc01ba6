select
    violation.subgroup_id,
    violation.panel,
    violation.rule,
    violation.characteristic_id,
    violation.equipment_id,
    equipment.work_center_id,
    violation.production_date,
    violation.subgroup_at,
    violation.rule_set,
    violation.rule_text,
    violation.side,
    violation.z,
    point.value,
    {{ statistic_unit('point', 'characteristic') }} as unit,
    point.cl,
    point.lcl,
    point.ucl,
    point.n_masked,
    point.is_baseline,
    violation.limit_version,
    violation.window_subgroup_ids
from {{ ref('stg_lake__spc_violations') }} as violation
left join {{ ref('stg_lake__spc_points') }} as point
    on
        violation.subgroup_id = point.subgroup_id
        and violation.panel = point.panel
left join {{ ref('dim_characteristic') }} as characteristic
    on
        violation.characteristic_id = characteristic.characteristic_id
        and violation.equipment_id = characteristic.equipment_id
left join {{ ref('dim_equipment') }} as equipment
    on violation.equipment_id = equipment.equipment_id
