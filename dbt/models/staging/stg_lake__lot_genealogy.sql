select
    source_id,
    record_id,
    revision,
    updated_at at time zone 'UTC' as updated_at,
    parent_id,
    child_id,
    link_type,
    quantity,
    occurred_at at time zone 'UTC' as occurred_at,
    equipment_id,
    job_order_id,
    parent_made_at at time zone 'UTC' as parent_made_at,
    time_issue
from {{ source('lake', 'lot_genealogy') }}
