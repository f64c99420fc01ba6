"""Equipment states, calendar, OEE elements and downtime. Pure functions over frames."""
