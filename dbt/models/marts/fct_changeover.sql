select
    equipment_id,
    start_at,
    work_center_id,
    shift_id,
    from_material_definition_id,
    to_material_definition_id,
    end_at,
    setup_s,
    duration_s,
    production_date
from {{ ref('stg_lake__changeover') }}
