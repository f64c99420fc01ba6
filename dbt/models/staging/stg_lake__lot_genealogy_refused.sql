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
    reasons,
    cycle_items,
    cycle_records
from {{ source('lake', 'lot_genealogy_refused') }}
