select
    item_id,
    item_kind,
    segment_id,
    work_center_id,
    job_order_id,
    material_definition_id,
    place,
    quantity,
    entered_at at time zone 'UTC' as entered_at,
    start_at at time zone 'UTC' as start_at,
    end_at at time zone 'UTC' as end_at,
    is_open,
    is_rework,
    as_of at time zone 'UTC' as as_of,
    production_date
from {{ source('lake', 'wip_interval') }}
