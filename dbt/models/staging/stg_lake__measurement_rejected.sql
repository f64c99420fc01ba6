{{ rejected_rows('measurement_rejected', 'characteristic_id', 'measured_at') }}
