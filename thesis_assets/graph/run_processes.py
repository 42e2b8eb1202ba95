"""Which process makes a run, and whether it is still there: nobody else would ever say that a run ended whose process was killed.

A run carries who makes it: the process of a command line from its start, a process of the daemon from its first resource on. The
daemon's code server notices when a process that it started is gone, but not when it is killed with it, or was; and Dagster's
monitoring does not ask after processes of the default launcher. Such a run would stay `STARTED` for good, count against the pools,
and keep its cells from being asked for again.
"""

import os
import socket

import dagster as dg

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
HOST_TAG = "thesis_assets/host"
PROCESS_TAG = "thesis_assets/process"
"""Of a run of the command line: process id, its start time (ids come round again), and the run."""
WORKER_TAG = "thesis_assets/worker"
"""The same of a run that a daemon started."""


def holder_tags(run_id: str) -> dict[str, str]:
    """Of a run that this command line makes."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: _this_process(run_id)}


def say_who_makes(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """In the process of a run: leave in its tags which one that is, where a command line has not."""
    if not made_by_command_line(run):
        tags = {HOST_TAG: socket.gethostname(), WORKER_TAG: _this_process(run.run_id)}
        instance.add_run_tags(run.run_id, tags)


def made_by_command_line(run: dg.DagsterRun) -> bool:
    """Whether the process of a command line makes this run."""
    return _own(run, PROCESS_TAG) is not None


def is_dead(run: dg.DagsterRun) -> bool:
    """Whether the process of an unfinished run was on this host and is gone."""
    if run.tags.get(HOST_TAG) != socket.gethostname():
        return False
    if (holder := _own(run, PROCESS_TAG)) is not None:
        return not _is_alive(holder)
    holder = _own(run, WORKER_TAG)
    # One that is being cancelled is ended by Dagster's monitoring, and as cancelled.
    return holder is not None and run.status == dg.DagsterRunStatus.STARTED and not _is_alive(holder)


def _this_process(run_id: str) -> str:
    import psutil

    return f"{os.getpid()}-{psutil.Process().create_time():.2f}-{run_id}"


def _own(run: dg.DagsterRun, tag: str) -> str | None:
    """`<process id>-<start time>` of a run; None where there is none, or where it is the parent's: a run that is started again,
    by the daemon or in the UI, has all tags of the one before."""
    process_id, _, rest = run.tags.get(tag, "").partition("-")
    started, _, run_id = rest.partition("-")
    if run_id == run.run_id or (
        started and not run_id and run.parent_run_id is None
    ):  # without a run: of an earlier version
        return f"{process_id}-{started}"
    return None


def _is_alive(holder: str) -> bool:
    import psutil

    process_id, _, started = holder.partition("-")
    try:
        process = psutil.Process(int(process_id))
        # In a container often nobody waits for processes that lost their parent: they stay as zombies.
        return f"{process.create_time():.2f}" == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
