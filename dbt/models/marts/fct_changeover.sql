select
    change.equipment_id,
    change.start_at,
    change.work_center_id,
    change.shift_id,
    change.from_material_definition_id,
    change.to_material_definition_id,
    change.end_at,
    change.setup_s,
    change.duration_s,
    change.production_date,
    known.as_of
from {{ ref('stg_lake__changeover') }} as change
left join {{ as_of_dates() }} as known
    on change.production_date = known.production_date
