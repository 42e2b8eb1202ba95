"""Runs of command lines that were killed outright: nobody else would ever say that they ended.

A run in this process carries who makes it. The daemon watches only runs that it launched; a killed one of ours would stay
`STARTED` for good and count against the pools.
"""

import os
import socket

import dagster as dg
import psutil

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
HOST_TAG = "thesis_assets/host"
PROCESS_TAG = "thesis_assets/process"


def holder_tags() -> dict[str, str]:
    """Who makes a run: host, and process id with its start time (ids come round again)."""
    started = psutil.Process().create_time()
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: f"{os.getpid()}-{started:.2f}"}


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed every unfinished run whose process on this host is gone; returns their ids."""
    dead = dead_runs(instance)
    for run in dead:
        instance.report_run_failed(run, "the process that made this run was killed; what it published stays")
    return [run.run_id for run in dead]


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The unfinished runs whose process on this host is gone."""
    filters = dg.RunsFilter(statuses=IN_PROGRESS, tags={HOST_TAG: socket.gethostname()})
    return [run for run in instance.get_runs(filters) if not _is_alive(run.tags[PROCESS_TAG])]


def _is_alive(holder: str) -> bool:
    process_id, _, started = holder.partition("-")
    try:
        return f"{psutil.Process(int(process_id)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False
