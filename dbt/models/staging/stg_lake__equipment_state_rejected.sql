select
    source_id,
    record_id,
    revision,
    updated_at at time zone 'UTC' as updated_at,
    page_sha256,
    page_row,
    production_date,
    raw_record,
    equipment_id,
    start_at at time zone 'UTC' as start_at,
    reasons
from {{ source('lake', 'equipment_state_rejected') }}
