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
    version.estimator,
    version.k,
    version.subgroup_size,
    version.mu - version.k * version.sigma / sqrt(version.subgroup_size) as location_lcl,
    version.mu as location_cl,
    version.mu + version.k * version.sigma / sqrt(version.subgroup_size) as location_ucl,
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
from {{ ref('stg_lake__spc_limits') }} as version
left join {{ ref('dim_characteristic') }} as characteristic
    on
        version.characteristic_id = characteristic.characteristic_id
        and version.equipment_id = characteristic.equipment_id
