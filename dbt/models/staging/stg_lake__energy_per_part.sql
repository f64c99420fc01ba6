select
    equipment_id,
    work_center_id,
    shift_id,
    material_definition_id,
    energy_kwh,
    estimated_kwh,
    gap_kwh,
    metered_s,
    unmetered_s,
    productive_kwh,
    idle_kwh,
    gq,
    kwh_per_good_part,
    no_ratio_reason,
    is_complete,
    end_at at time zone 'UTC' as end_at,
    production_date
from {{ source('lake', 'energy_per_part') }}
