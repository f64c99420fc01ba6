select
    equipment_id,
    work_center_id,
    shift_id,
    from_material_definition_id,
    to_material_definition_id,
    start_at at time zone 'UTC' as start_at,
    end_at at time zone 'UTC' as end_at,
    setup_s,
    duration_s,
    production_date
from {{ source('lake', 'changeover') }}
