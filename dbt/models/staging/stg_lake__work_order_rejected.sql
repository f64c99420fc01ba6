{{ rejected_rows('work_order_rejected', 'work_center_id', 'start_at') }}
