"""Statistical process control and OEE on factory data, orchestrated by Dagster."""

__version__ = "0.1.0"
