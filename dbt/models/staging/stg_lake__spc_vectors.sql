select
    chart_id,
    equipment_id,
    vector_id,
    serial_number,
    vector_at at time zone 'UTC' as vector_at,
    characteristic_id,
    value,
    production_date
from {{ source('lake', 'spc_vectors') }}
