"""What the platform tells of itself: metrics, structured logs and traces."""
