with version as (
    select
        *,
        -- what else depends on the sample or on the chart's memory is with the points
        case
            when chart in ('xbar_r', 'xbar_s', 'i_mr', 'dnom', 'dnom_i_mr') then sigma / sqrt(subgroup_size)
            when chart in ('i_mr_r', 'i_mr_s') then sigma_means
            when chart = 'z_mr' then 1
            when chart = 'c' then sigma * sqrt(mu)
        end as location_error,
        case when chart = 'z_mr' then 0 when chart not in ('np', 'cusum', 'g', 't') then mu end as location_cl
    from {{ ref('stg_lake__spc_limits') }}
)

select
    version.characteristic_id,
    version.equipment_id,
    version.limit_version,
    version.effective_from,
    version.effective_to,
    version.effective_to is null as is_newest,
    version.chart,
    characteristic.unit,
    version.mu,
    version.sigma,
    version.sigma_means,
    version.estimator,
    version.k,
    version.subgroup_size,
    case
        when version.chart = 'c' and version.location_cl < version.k * version.location_error then 0
        else version.location_cl - version.k * version.location_error
    end as location_lcl,
    version.location_cl,
    version.location_cl + version.k * version.location_error as location_ucl,
    version.baseline_from,
    version.baseline_to,
    version.n_subgroups,
    version.excluded_subgroup_ids,
    version.exclusion_cause,
    version.approved_by,
    version.reason,
    version.supersedes,
    version.warning,
    version.inputs_hash
from version
left join {{ ref('dim_characteristic') }} as characteristic
    on
        version.characteristic_id = characteristic.characteristic_id
        and version.equipment_id = characteristic.equipment_id
