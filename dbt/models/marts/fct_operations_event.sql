select
    production_date,
    sequence,
    event_id,
    event_type,
    source_id,
    record_id,
    revision,
    equipment_id,
    effective_at,
    recorded_at,
    is_deleted,
    payload,
    decode_error,
    prev_hash,
    chain_hash
from {{ ref('stg_lake__operations_event') }}
