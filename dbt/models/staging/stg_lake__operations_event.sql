select
    event_id,
    event_type,
    source_id,
    record_id,
    revision,
    equipment_id,
    effective_at at time zone 'UTC' as effective_at,
    recorded_at at time zone 'UTC' as recorded_at,
    is_deleted,
    payload,
    decode_error,
    sequence,
    prev_hash,
    chain_hash,
    production_date
from {{ source('lake', 'operations_event') }}
