{{ rejected_rows('telemetry_rejected', 'stream_id', 'observed_at') }}
