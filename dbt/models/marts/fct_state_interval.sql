select
    piece.equipment_id,
    piece.start_at,
    piece.end_at,
    piece.work_center_id,
    piece.production_date,
    piece.shift_id,
    piece.material_definition_id,
    piece.event_id,
    piece.state,
    piece.reason_code,
    piece.time_element,
    piece.stop_class,
    piece.duration_s,
    piece.event_duration_s,
    piece.is_open,
    piece.as_of
from {{ ref('stg_lake__state_interval') }} as piece
