select
    chart_id,
    equipment_id,
    vector_id,
    serial_number,
    vector_at at time zone 'UTC' as vector_at,
    chart,
    value,
    cl,
    ucl,
    z,
    is_signal,
    is_baseline,
    largest_contribution,
    contribution,
    limit_version,
    production_date
from {{ source('lake', 'spc_vector_points') }}
