select
    equipment_id,
    work_center_id,
    shift_id,
    in_force,
    mes_good,
    mes_scrap,
    mes_rework,
    counter_good,
    counter_scrap,
    difference,
    agrees,
    across_gap,
    refused,
    production_date
from {{ source('lake', 'count_comparison') }}
