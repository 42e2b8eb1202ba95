"""Running one command in a process group of its own: logs to files, a job record, and no process left behind.

Every process of a job is found and ended, also those that left its group or lost their parent.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.jobs import new_record
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import write_json

if TYPE_CHECKING:
    import psutil

POLL_SECONDS = 0.1


def run_command(
    command: Sequence[str],
    *,
    stdout: Path,
    stderr: Path,
    job: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    poll: Callable[[], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    grace_seconds: float = 10.0,
) -> int:
    """Run a command to its end and return its exit status (negative: the signal it died of).

    However this function is left — the command ended, `should_stop` said so, an exception or an interrupt — the whole tree
    of processes is ended with it: first asked, after `grace_seconds` killed.

    Args:
        stdout: log file that output is appended to; so is `stderr`.
        job: where the `JobRecord` is written, at the start and again with the exit status.
        env: variables added to those of this process.
        poll: called about ten times a second, and once more after the end.
        should_stop: asked at the same times; true ends the command.

    Raises:
        ThesisAssetsError: the program does not exist or may not be run.
    """
    job_id = uuid.uuid4().hex
    try:
        process = spawn(command, job_id, stdout, stderr, cwd=cwd, env=env or {}, start_new_session=True)
    except OSError as error:
        raise ThesisAssetsError(
            "the command could not be started",
            file=error.filename or command[0],
            found=error.strerror,
            remedy="install the program, or correct its path",
        ) from error
    record = new_record("local", job_id, command, stdout, stderr, process_group=process.pid)
    try:
        write_json(job, record)
        while not has_ended(process.pid) and not (should_stop and should_stop()):
            if poll:
                poll()
            time.sleep(POLL_SECONDS)
    finally:
        end_tree(process.pid, job_id, grace_seconds=grace_seconds)
        returncode = process.wait()
        write_json(job, record.model_copy(update={"returncode": returncode}))
    if poll:
        poll()
    return returncode


def spawn(
    words: Sequence[str],
    job_id: str,
    stdout: Path,
    stderr: Path,
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a job's first process. Its logs are appended to; `options` are `Popen`'s."""
    stdout.parent.mkdir(parents=True, exist_ok=True)
    stderr.parent.mkdir(parents=True, exist_ok=True)
    with stdout.open("ab") as out, stderr.open("ab") as err:
        return subprocess.Popen(
            list(words),
            cwd=cwd,
            env={**os.environ, **env, JOB_VARIABLE: job_id},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            **options,
        )


def end_running(record: JobRecord, *, grace_seconds: float = 10.0) -> None:
    """End what runs on this host of a job whose starter was killed outright: first asked, after `grace_seconds` killed."""
    if record.host == socket.gethostname() and record.job_id is not None and record.returncode is None:
        end_tree(None, record.job_id, grace_seconds=grace_seconds)


def has_ended(process_id: int) -> bool:
    """Whether a child ended, without waiting for it: its number stays reserved, and its exit status is for whoever waits."""
    try:
        return os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


JOB_VARIABLE = "THESIS_ASSETS_JOB"
"""Every process of a job inherits this variable: `accelerate launch` starts the trainer as a grandchild, and a grandchild
whose parent died, or that opened a session of its own, is found by nothing else."""

KILL_SECONDS = 5.0


def members(job_id: str, process_group: int | None = None) -> "list[psutil.Process]":
    """The live processes that carry the job's id in their environment, or belong to its group. No zombies.

    The group is only meaningful while the job's first process has not been waited for; later its number may be another's.
    """
    import psutil

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


def _send(process: "psutil.Process", number: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process.send_signal(number)
