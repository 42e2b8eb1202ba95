"""Dagster nouns only: partitions, assets, checks, IO manager, resources, jobs, sensors, schedules."""
