select
    unit.equipment_id,
    unit.production_date,
    unit.window_start,
    unit.operating_s,
    unit.failures,
    unit.open_failures,
    unit.repair_s,
    unit.mtbf_s,
    unit.mtbf_low_s,
    unit.mtbf_high_s,
    unit.mttf_s,
    unit.mttr_s,
    unit.mttr_low_s,
    unit.mttr_high_s,
    unit.availability,
    unit.confidence,
    unit.reason,
    known.as_of
from {{ ref('stg_lake__reliability') }} as unit
left join {{ as_of_dates() }} as known
    on unit.production_date = known.production_date
