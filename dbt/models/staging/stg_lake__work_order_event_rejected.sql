{{ rejected_rows('work_order_event_rejected', 'job_order_id', 'occurred_at') }}
