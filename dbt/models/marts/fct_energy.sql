select
    equipment_id,
    production_date,
    shift_id,
    material_definition_id,
    state,
    time_element,
    work_center_id,
    energy_kwh,
    estimated_kwh,
    gap_kwh,
    metered_s,
    unmetered_s
from {{ ref('stg_lake__energy_by_state') }}
