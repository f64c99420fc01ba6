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
    reasons,
    cycle_items,
    cycle_records
from {{ ref('stg_lake__lot_genealogy_refused') }}
