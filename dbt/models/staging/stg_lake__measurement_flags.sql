select
    source_id,
    record_id,
    characteristic_id,
    equipment_id,
    measured_at at time zone 'UTC' as measured_at,
    value,
    iqr_low,
    iqr_high,
    hampel_score,
    mask_reason,
    is_masked,
    value_cleaned,
    production_date
from {{ source('lake', 'measurement_flags') }}
