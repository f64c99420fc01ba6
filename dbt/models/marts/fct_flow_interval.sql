select
    piece.equipment_id,
    piece.start_at,
    piece.work_center_id,
    piece.shift_id,
    piece.flow_state,
    piece.time_element,
    piece.end_at,
    piece.duration_s,
    piece.production_date,
    known.as_of
from {{ ref('stg_lake__flow_interval') }} as piece
left join {{ as_of_dates() }} as known
    on piece.production_date = known.production_date
