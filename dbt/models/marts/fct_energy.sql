select
    energy.equipment_id,
    energy.production_date,
    energy.shift_id,
    energy.material_definition_id,
    energy.state,
    energy.time_element,
    energy.work_center_id,
    energy.energy_kwh,
    energy.estimated_kwh,
    energy.gap_kwh,
    energy.metered_s,
    energy.unmetered_s,
    known.as_of
from {{ ref('stg_lake__energy_by_state') }} as energy
left join {{ as_of_dates() }} as known
    on energy.production_date = known.production_date
