select
    source_id,
    record_id,
    revision,
    updated_at at time zone 'UTC' as updated_at,
    page_sha256,
    page_row,
    production_date,
    raw_record,
    stream_id,
    observed_at at time zone 'UTC' as observed_at,
    reasons
from {{ source('lake', 'telemetry_rejected') }}
