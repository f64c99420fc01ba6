"""The thin Dagster shell: assets, checks, partitions, sensors, automation, jobs and schedules."""
