select
    scrap.equipment_id,
    scrap.production_date,
    scrap.shift_id,
    scrap.material_definition_id,
    scrap.reason_code,
    reason.description as reason_description,
    scrap.work_center_id,
    scrap.loss_category,
    scrap.scrap_quantity,
    scrap.rework_quantity,
    scrap.ideal_s,
    known.as_of
from {{ ref('stg_lake__scrap_reason') }} as scrap
left join {{ ref('dim_reason') }} as reason
    on scrap.reason_code = reason.reason_code
left join {{ as_of_dates() }} as known
    on scrap.production_date = known.production_date
