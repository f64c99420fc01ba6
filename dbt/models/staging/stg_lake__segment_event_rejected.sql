{{ rejected_rows('segment_event_rejected', 'item_id', 'occurred_at') }}
