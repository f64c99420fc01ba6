select
    job_order_id,
    revision,
    is_newest,
    state,
    case when state = 'acknowledged' then settled_at end as acknowledged_at,
    case when state = 'refused' then settled_at end as refused_at,
    case when state in ('pending', 'sent') then next_attempt_at end as next_attempt_at,
    attempts,
    entered_at,
    last_error,
    payload_sha256
from {{ ref('stg_erp__outbox') }}
