select
    shift.equipment_id,
    shift.production_date,
    shift.shift_id,
    shift.work_center_id,
    shift.in_force,
    shift.mes_good,
    shift.mes_scrap,
    shift.mes_rework,
    shift.counter_good,
    shift.counter_scrap,
    shift.difference,
    shift.agrees,
    shift.across_gap,
    shift.refused,
    known.as_of
from {{ ref('stg_lake__count_comparison') }} as shift
left join {{ as_of_dates() }} as known
    on shift.production_date = known.production_date
