"""Dagster nouns only: assets, checks, IO manager, resources, jobs, sensors, schedules; and the operations that they start."""
