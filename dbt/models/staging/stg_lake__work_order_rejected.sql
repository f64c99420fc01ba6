select
    source_id,
    record_id,
    revision,
    updated_at at time zone 'UTC' as updated_at,
    page_sha256,
    page_row,
    production_date,
    raw_record,
    work_center_id,
    start_at at time zone 'UTC' as start_at,
    reasons
from {{ source('lake', 'work_order_rejected') }}
