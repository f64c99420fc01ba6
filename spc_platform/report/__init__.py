"""Pictures of control charts and OEE."""
