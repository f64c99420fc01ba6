select
    stop.equipment_id,
    stop.event_id,
    stop.work_center_id,
    stop.production_date,
    stop.shift_id,
    stop.state,
    stop.reason_code,
    reason.description as reason_description,
    stop.loss_category,
    stop.time_element,
    stop.stop_class,
    stop.stop_class in ('micro_stop', 'breakdown', 'setup', 'unknown') as is_loss,
    stop.start_at,
    stop.end_at,
    stop.duration_s,
    stop.is_open,
    stop.as_of
from {{ ref('stg_lake__downtime_event') }} as stop
left join {{ ref('dim_reason') }} as reason
    on stop.reason_code = reason.reason_code
