select
    equipment_id,
    production_date,
    shift_id,
    material_definition_id,
    work_center_id,
    pbt_s,
    equipment_failure_s,
    setup_and_adjustment_s,
    idling_and_minor_stops_s,
    reduced_speed_s,
    process_defects_s,
    reduced_yield_s,
    no_order_s,
    unknown_s,
    value_adding_s,
    as_of
from {{ ref('stg_lake__oee_loss') }}
