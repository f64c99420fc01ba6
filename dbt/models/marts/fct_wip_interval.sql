select
    item_id,
    segment_id,
    place,
    start_at,
    item_kind,
    work_center_id,
    job_order_id,
    material_definition_id,
    quantity,
    entered_at,
    end_at,
    is_open,
    is_rework,
    as_of,
    production_date
from {{ ref('stg_lake__wip_interval') }}
