{{ rejected_rows('signal_event_rejected', 'equipment_id', 'occurred_at') }}
