select
    characteristic_id,
    equipment_id,
    chart,
    estimator,
    n_subgroups,
    n_observed,
    mu,
    sigma,
    sigma_means,
    window_from at time zone 'UTC' as window_from,
    window_to at time zone 'UTC' as window_to,
    warning,
    inputs_hash
from {{ source('lake', 'spc_limit_estimates') }}
