"""Finding and ending every process of a job, also those that left its group or lost their parent."""

import contextlib
import os
import signal
import time

import psutil

JOB_VARIABLE = "THESIS_ASSETS_JOB"
"""Every process of a job inherits this variable: `accelerate launch` starts the trainer as a grandchild, and a grandchild
whose parent died, or that opened a session of its own, is found by nothing else."""

KILL_SECONDS = 5.0


def members(job_id: str, process_group: int | None = None) -> list[psutil.Process]:
    """The live processes that carry the job's id in their environment, or belong to its group. No zombies.

    The group is only meaningful while the job's first process has not been waited for; later its number may be another's.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            in_group = process_group is not None and os.getpgid(process.pid) == process_group
            if in_group or process.environ().get(JOB_VARIABLE) == job_id:
                found.append(process)
    return found


def end_tree(process_group: int | None, job_id: str, *, grace_seconds: float) -> None:
    """Ask every process of the job to end (SIGTERM), and after `grace_seconds` kill what is left.

    To be called before the group's first process is waited for, or without its number.
    """
    asked: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline:
        left = members(job_id, process_group)
        if not left:
            return
        for process in left:
            # Once each: a second SIGTERM would interrupt the saving that the first one began.
            if process.pid not in asked:
                _send(process, signal.SIGTERM)
                asked.add(process.pid)
        time.sleep(0.1)
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline and (left := members(job_id, process_group)):
        for process in left:
            _send(process, signal.SIGKILL)
        time.sleep(0.05)


def _send(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process.send_signal(number)
