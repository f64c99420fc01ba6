select
    vector.vector_id,
    vector.production_date,
    vector.characteristic_id,
    vector.chart_id,
    vector.equipment_id,
    vector.serial_number,
    vector.vector_at,
    vector.value,
    characteristic.unit,
    frozen.mean as mean_in_force,
    sqrt(frozen.covariance) as sigma_in_force,
    case when frozen.covariance > 0 then (vector.value - frozen.mean) / sqrt(frozen.covariance) end as z,
    vector.characteristic_id = point.largest_contribution as is_largest_contribution,
    point.limit_version
from {{ ref('stg_lake__spc_vectors') }} as vector
left join {{ ref('stg_lake__spc_vector_points') }} as point
    on
        vector.vector_id = point.vector_id
        and vector.production_date = point.production_date
left join {{ ref('stg_lake__spc_vector_limits') }} as frozen
    on
        point.chart_id = frozen.chart_id
        and point.limit_version = frozen.limit_version
        and vector.characteristic_id = frozen.characteristic_id
        and frozen.characteristic_id = frozen.other_characteristic_id
left join {{ ref('dim_characteristic') }} as characteristic
    on
        vector.characteristic_id = characteristic.characteristic_id
        and vector.equipment_id = characteristic.equipment_id
