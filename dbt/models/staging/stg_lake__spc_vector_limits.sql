select
    chart_id,
    equipment_id,
    limit_version,
    chart,
    characteristic_id,
    other_characteristic_id,
    mean,
    covariance,
    k,
    n_vectors,
    baseline_from at time zone 'UTC' as baseline_from,
    baseline_to at time zone 'UTC' as baseline_to,
    approved_by,
    reason,
    inputs_hash,
    effective_from at time zone 'UTC' as effective_from
from {{ source('lake', 'spc_vector_limits') }}
