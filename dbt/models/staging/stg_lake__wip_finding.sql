select
    item_id,
    segment_id,
    occurred_at at time zone 'UTC' as occurred_at,
    event_type,
    finding,
    quantity,
    balance,
    rule,
    production_date
from {{ source('lake', 'wip_finding') }}
