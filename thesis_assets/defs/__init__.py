"""Dagster nouns only: assets, checks, IO manager, resources, jobs, sensors, schedules, automation. What they do stands in `operations/`."""
