select
    item_id,
    segment_id,
    occurred_at,
    event_type,
    finding,
    quantity,
    balance,
    rule,
    production_date,
    (select max(as_of) from {{ ref('stg_lake__wip_interval') }}) as as_of
from {{ ref('stg_lake__wip_finding') }}
