{{ rejected_rows('equipment_state_rejected', 'equipment_id', 'start_at') }}
