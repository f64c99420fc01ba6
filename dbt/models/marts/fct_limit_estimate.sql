select
    estimate.characteristic_id,
    estimate.equipment_id,
    estimate.chart,
    characteristic.unit,
    estimate.estimator,
    estimate.n_subgroups,
    estimate.n_observed,
    estimate.mu,
    estimate.sigma,
    estimate.sigma_means,
    in_force.limit_version as version_in_force,
    in_force.mu as mu_in_force,
    in_force.sigma as sigma_in_force,
    in_force.sigma_means as sigma_means_in_force,
    estimate.window_from,
    estimate.window_to,
    estimate.warning,
    estimate.inputs_hash
from {{ ref('stg_lake__spc_limit_estimates') }} as estimate
left join {{ ref('stg_lake__spc_limits') }} as in_force
    on
        estimate.characteristic_id = in_force.characteristic_id
        and estimate.equipment_id = in_force.equipment_id
        and in_force.effective_to is null
left join {{ ref('dim_characteristic') }} as characteristic
    on
        estimate.characteristic_id = characteristic.characteristic_id
        and estimate.equipment_id = characteristic.equipment_id
