"""Whether a daemon runs on the instance: it makes backfills and watches runs; the command line does so where there is none."""

import time

import dagster as dg

BACKFILL_DAEMON = "BACKFILL"
HEARTBEAT_SECONDS = 90.0
"""A daemon reports every 30 s; one silent for longer is not there. What `thesis-assets ui` started is unheard of at once when it ends."""


def daemon_runs(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that makes backfills has been heard of lately."""
    heartbeat = instance.get_daemon_heartbeats().get(BACKFILL_DAEMON)
    return heartbeat is not None and time.time() - heartbeat.timestamp < HEARTBEAT_SECONDS
