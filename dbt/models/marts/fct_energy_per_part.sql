select
    energy.equipment_id,
    energy.production_date,
    energy.shift_id,
    energy.material_definition_id,
    energy.work_center_id,
    energy.energy_kwh,
    energy.estimated_kwh,
    energy.gap_kwh,
    energy.metered_s,
    energy.unmetered_s,
    energy.productive_kwh,
    energy.idle_kwh,
    energy.gq,
    energy.kwh_per_good_part,
    energy.no_ratio_reason,
    energy.is_complete,
    energy.end_at,
    known.as_of
from {{ ref('stg_lake__energy_per_part') }} as energy
left join {{ as_of_dates() }} as known
    on energy.production_date = known.production_date
