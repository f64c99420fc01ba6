{{ rejected_rows('production_count_rejected', 'equipment_id', 'counted_at') }}
