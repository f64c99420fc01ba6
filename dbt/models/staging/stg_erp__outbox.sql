select
    job_order_id,
    revision,
    is_newest,
    state,
    payload_sha256,
    attempts,
    entered_at at time zone 'UTC' as entered_at,
    settled_at at time zone 'UTC' as settled_at,
    next_attempt_at at time zone 'UTC' as next_attempt_at,
    last_error
from {{ source('erp', 'outbox') }}
