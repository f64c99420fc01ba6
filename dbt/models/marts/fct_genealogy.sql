select
    source_id,
    record_id,
    revision,
    updated_at,
    parent_id,
    child_id,
    link_type,
    quantity,
    occurred_at,
    equipment_id,
    job_order_id,
    parent_made_at,
    time_issue
from {{ ref('stg_lake__lot_genealogy') }}
