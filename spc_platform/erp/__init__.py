"""What the platform tells the ERP: a durable outbox of production summaries and their delivery."""
