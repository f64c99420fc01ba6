with point as (
    select
        *,
        -- ranges, standard deviations, counts, rates and waiting times are never negative, shares never above 1
        case
            when panel in ('dispersion', 'within') or statistic in ('p', 'np', 'c', 'u', 'g', 't') then 0
            else '-infinity'::double
        end as smallest_value,
        case statistic when 'p' then 1 when 'np' then n_observed else 'infinity'::double end as largest_value,
        -- specification limits judge values in the unit of the characteristic, not deviations or standardized values
        panel = 'location' and chart not in ('z_mr', 'dnom', 'dnom_i_mr') as has_specification
    from {{ ref('stg_lake__spc_points') }}
)

select
    point.subgroup_id,
    point.panel,
    point.characteristic_id,
    point.equipment_id,
    equipment.work_center_id,
    point.production_date,
    coalesce(subgroup.shift_id, counted.shift_id) as shift_id,
    subgroup.material_lot_id,
    coalesce(subgroup.job_order_id, counted.job_order_id) as job_order_id,
    row_number() over chart as point_number,
    point.subgroup_at,
    coalesce(subgroup.subgroup_end_at, counted.subgroup_end_at) as subgroup_end_at,
    point.chart,
    point.statistic,
    {{ statistic_unit('point', 'characteristic') }} as unit,
    point.value,
    point.n_observed,
    point.n_masked,
    counted.count,
    counted.size,
    case
        when point.cl is null then 'no_limits'
        when point.n_masked = point.n_observed then 'masked'
        when point.n_masked > 0 then 'partly_masked'
        else 'used'
    end as status,
    point.cl,
    point.lcl,
    point.ucl,
    {{ zone_line('point', -2) }} as minus_2_sigma,
    {{ zone_line('point', -1) }} as minus_1_sigma,
    {{ zone_line('point', 1) }} as plus_1_sigma,
    {{ zone_line('point', 2) }} as plus_2_sigma,
    point.standard_error,
    point.z,
    point.rules is not null as is_violation,
    point.rules,
    point.limit_version,
    point.is_baseline,
    subgroup.specification_version,
    case when point.has_specification then specification.lsl end as lsl,
    case when point.has_specification then specification.target end as target,
    case when point.has_specification then specification.usl end as usl
from point
left join {{ ref('stg_lake__spc_subgroups') }} as subgroup
    on point.subgroup_id = subgroup.subgroup_id
left join {{ ref('stg_lake__spc_count_subgroups') }} as counted
    on point.subgroup_id = counted.subgroup_id
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
