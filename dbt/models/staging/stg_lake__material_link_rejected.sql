{{ rejected_rows('material_link_rejected', 'child_id', 'occurred_at') }}
