with point as (
    select
        *,
        -- the statistics of a dispersion panel are never negative, so neither are its zones
        case when panel = 'dispersion' then 0 else '-infinity'::double end as floor_value
    from {{ ref('stg_lake__spc_points') }}
)

select
    point.subgroup_id,
    point.panel,
    point.characteristic_id,
    point.equipment_id,
    equipment.work_center_id,
    point.production_date,
    subgroup.shift_id,
    subgroup.material_lot_id,
    subgroup.job_order_id,
    row_number() over chart as point_number,
    point.subgroup_at,
    subgroup.subgroup_end_at,
    point.chart,
    point.statistic,
    characteristic.unit,
    point.value,
    point.n_observed,
    point.n_masked,
    case
        when point.cl is null then 'no_limits'
        when point.n_masked = point.n_observed then 'masked'
        when point.n_masked > 0 then 'partly_masked'
        else 'used'
    end as status,
    point.cl,
    point.lcl,
    point.ucl,
    greatest(point.cl - 2 * point.standard_error, point.floor_value) as minus_2_sigma,
    greatest(point.cl - point.standard_error, point.floor_value) as minus_1_sigma,
    point.cl + point.standard_error as plus_1_sigma,
    point.cl + 2 * point.standard_error as plus_2_sigma,
    point.standard_error,
    point.z,
    point.rules is not null as is_violation,
    point.rules,
    point.limit_version,
    point.is_baseline,
    subgroup.specification_version,
    case when point.panel = 'location' then specification.lsl end as lsl,
    case when point.panel = 'location' then specification.target end as target,
    case when point.panel = 'location' then specification.usl end as usl
from point
left join {{ ref('stg_lake__spc_subgroups') }} as subgroup
    on point.subgroup_id = subgroup.subgroup_id
left join {{ ref('dim_characteristic') }} as characteristic
    on
        point.characteristic_id = characteristic.characteristic_id
        and point.equipment_id = characteristic.equipment_id
left join {{ ref('dim_specification') }} as specification
    on
        point.characteristic_id = specification.characteristic_id
        and subgroup.specification_version = specification.specification_version
left join {{ ref('dim_equipment') }} as equipment
    on point.equipment_id = equipment.equipment_id
window chart as (
    partition by point.characteristic_id, point.equipment_id, point.panel
    order by point.subgroup_at, point.subgroup_id
)
