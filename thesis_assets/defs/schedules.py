"""The schedules: nightly the backfill of new scenes, weekly a look at every file.

Both are off until somebody turns them on. What changed of the scenes is observed every night: that makes nothing. Does not belong
here: what they start (`jobs`). Concept: https://docs.dagster.io/guides/automate/schedules
"""

import dagster as dg

from thesis_assets.defs.jobs import OBSERVE, integrity_audit, new_dataset_backfill
from thesis_assets.settings import Settings

NIGHT = "0 1 * * *"
SUNDAY = "0 4 * * 0"


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Nightly and weekly; those that start work are off until they are turned on."""
    return [
        dg.ScheduleDefinition(
            name="nightly_scene_files",
            job=OBSERVE,
            cron_schedule=NIGHT,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Every night: which exported scenes hold other files now, so that the UI marks their shards stale.",
        ),
        dg.ScheduleDefinition(
            name="new_dataset_backfill",
            job=new_dataset_backfill,
            cron_schedule=settings.nightly_at,
            description="Every night: what new scenes and declared runs still lack, through all levels, tuning included.",
        ),
        dg.ScheduleDefinition(
            name="weekly_integrity_audit",
            job=integrity_audit,
            cron_schedule=SUNDAY,
            description="Every Sunday: one run reads every file of all partitions, and computes every number again.",
        ),
    ]
