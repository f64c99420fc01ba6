with version as (
    select
        *,
        max(covariance) filter (where characteristic_id = other_characteristic_id) over own as variance,
        max(covariance) filter (where characteristic_id = other_characteristic_id) over other as other_variance,
        limit_version = max(limit_version) over (partition by chart_id) as is_newest
    from {{ ref('stg_lake__spc_vector_limits') }}
    window
        own as (partition by chart_id, limit_version, characteristic_id),
        other as (partition by chart_id, limit_version, other_characteristic_id)
)

select
    version.chart_id,
    version.limit_version,
    version.characteristic_id,
    version.other_characteristic_id,
    version.equipment_id,
    version.chart,
    version.is_newest,
    version.mean,
    sqrt(version.variance) as sigma,
    characteristic.unit,
    version.covariance,
    version.covariance / sqrt(version.variance) / sqrt(version.other_variance) as correlation,
    version.k,
    version.n_vectors,
    version.baseline_from,
    version.baseline_to,
    version.approved_by,
    version.reason,
    version.inputs_hash,
    version.effective_from
from version
left join {{ ref('dim_characteristic') }} as characteristic
    on
        version.characteristic_id = characteristic.characteristic_id
        and version.equipment_id = characteristic.equipment_id
