select
    equipment_id,
    work_center_id,
    shift_id,
    material_definition_id,
    state,
    time_element,
    energy_kwh,
    estimated_kwh,
    gap_kwh,
    metered_s,
    unmetered_s,
    production_date
from {{ source('lake', 'energy_by_state') }}
