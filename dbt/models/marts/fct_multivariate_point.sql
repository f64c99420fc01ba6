select
    point.vector_id,
    point.production_date,
    point.chart_id,
    point.equipment_id,
    point.serial_number,
    point.vector_at,
    point.chart,
    point.value,
    point.cl,
    point.ucl,
    point.z,
    point.is_signal,
    point.is_baseline,
    point.largest_contribution,
    point.contribution,
    point.limit_version
from {{ ref('stg_lake__spc_vector_points') }} as point
