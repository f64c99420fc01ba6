select
    unit.equipment_id,
    unit.production_date,
    unit.shift_id,
    unit.work_center_id,
    unit.active_s,
    unit.momentary_s,
    unit.sole_s,
    unit.shifting_s,
    unit.is_bottleneck,
    known.as_of
from {{ ref('stg_lake__bottleneck') }} as unit
left join {{ as_of_dates() }} as known
    on unit.production_date = known.production_date
