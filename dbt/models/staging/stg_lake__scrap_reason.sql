select
    equipment_id,
    work_center_id,
    shift_id,
    material_definition_id,
    reason_code,
    loss_category,
    scrap_quantity,
    rework_quantity,
    ideal_s,
    production_date
from {{ source('lake', 'scrap_reason') }}
