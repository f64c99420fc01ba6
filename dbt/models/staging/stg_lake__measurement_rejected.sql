select
    source_id,
    record_id,
    revision,
    updated_at at time zone 'UTC' as updated_at,
    page_sha256,
    page_row,
    production_date,
    raw_record,
    characteristic_id,
    measured_at at time zone 'UTC' as measured_at,
    reasons
from {{ source('lake', 'measurement_rejected') }}
