select
    item_id,
    segment_id,
    occurred_at,
    event_type,
    finding,
    quantity,
    balance,
    rule,
    production_date
from {{ ref('stg_lake__wip_finding') }}
