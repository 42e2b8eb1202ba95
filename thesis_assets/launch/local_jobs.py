"""Jobs on this host: a detached process group below a supervisor, found again by a variable that all of its processes carry."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

from thesis_assets.errors import CellLocked, ThesisAssetsError
from thesis_assets.launch import mapping
from thesis_assets.launch.calls import Call, Calling, Item, Result
from thesis_assets.launch.device_locks import devices, require_devices
from thesis_assets.launch.jobs import Job, JobState, Resources, job_exit
from thesis_assets.launch.process_tree import JOB_VARIABLE, end_tree, members
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import write_json

SUPERVISOR = Path(__file__).with_name("job_supervisor.py")


class LocalLauncher:
    """Runs jobs and maps on this host.

    Args:
        gpus: names of its GPUs, as CUDA_VISIBLE_DEVICES has them; asked for only by a job that wants one.
    """

    name = "local"

    def __init__(self, gpus: Callable[[], Sequence[str]] = tuple) -> None:
        self._gpus = gpus

    def require(self, resources: Resources) -> None:
        """See `Launcher.require`."""
        if resources.gpus:
            require_devices(self._gpus(), resources.gpus)

    def start(self, job: Job, on_wait: Callable[[str], None] | None = None) -> JobRecord:
        """See `Launcher.start`. Waits for free GPUs."""
        if which(job.command[0]) is None:
            raise ThesisAssetsError(
                "the command could not be started",
                file=job.command[0],
                found="no such program",
                remedy="install the program, or correct its path",
            )
        if job.resources.gpus == 0:
            return self._start(job, {}, ())
        holder = f"{job.name}, started by process {os.getpid()} on {socket.gethostname()} at {_now()}"
        with devices(self._gpus(), job.resources.gpus, holder=holder, on_wait=on_wait) as (names, descriptors):
            return self._start(job, {"CUDA_VISIBLE_DEVICES": ",".join(names)}, descriptors)

    def _start(self, job: Job, env: dict[str, str], descriptors: Sequence[int]) -> JobRecord:
        record = JobRecord(
            launcher=self.name,
            host=socket.gethostname(),
            process_group=None,
            job_id=uuid.uuid4().hex,
            started_at=_now(),
            command=list(job.command),
            stdout=str(job.stdout),
            stderr=str(job.stderr),
            exit_file=str(job.exit_file),
        )
        assert record.job_id is not None
        job.exit_file.unlink(missing_ok=True)
        # Before the command runs: a starter that dies in between leaves a job that can be found by its id.
        write_json(job.record, record)
        job.stdout.parent.mkdir(parents=True, exist_ok=True)
        job.stderr.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-I", "-S", str(SUPERVISOR), str(job.exit_file), record.job_id, *job.command]
        with job.stdout.open("ab") as out, job.stderr.open("ab") as err:
            process = subprocess.Popen(
                words,
                cwd=job.cwd,
                env={**os.environ, **job.env, **env, JOB_VARIABLE: record.job_id},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=tuple(descriptors),
            )
        _children[process.pid] = process
        record = record.model_copy(update={"process_group": process.pid})
        write_json(job.record, record)
        return record

    def state(self, record: JobRecord) -> JobState:
        """See `Launcher.state`.

        Raises:
            CellLocked: it was started on another host, and has not said that it ended.
        """
        _reap()
        ended = job_exit(record)
        if ended is not None:
            return JobState("ended", ended.returncode)
        if record.host != socket.gethostname():
            raise CellLocked(
                "the work was started on another machine, and nobody has said that it ended",
                file=record.exit_file,
                found=f"{record.host}, since {record.started_at}",
                wanted=f"this machine, {socket.gethostname()}",
                remedy=f"go on from {record.host}; if that machine is gone for good, remove the job.json beside this file",
            )
        assert record.job_id is not None
        # Of a child that was just started the kernel does not show the environment yet, by which its group is found.
        if record.process_group in _children or members(record.job_id):
            return JobState("running")
        ended = job_exit(record)  # It may have ended between the two looks.
        return JobState("lost") if ended is None else JobState("ended", ended.returncode)

    def end(self, record: JobRecord, *, grace_seconds: float) -> None:
        """See `Launcher.end`."""
        if record.job_id is not None and record.host == socket.gethostname():
            end_tree(None, record.job_id, grace_seconds=grace_seconds)
            _reap()

    def run_calls(
        self,
        function: Callable[[Item], Result],
        calls: Sequence[Call[Item]],
        calling: Calling[Item, Result] = Calling(),
    ) -> list[Result | Exception]:
        """See `CallLauncher.run_calls`. In this process, or in worker processes that end with it: what is done is kept."""
        with self._held(calling.resources.gpus, calling.following.on_wait):
            return mapping.map_items(
                function,
                [call.item for call in calls],
                workers=calling.workers,
                on_done=calling.on_done,
                on_line=calling.on_line,
            )

    @contextlib.contextmanager
    def _held(self, gpus: int, on_wait: Callable[[str], None] | None) -> Iterator[None]:
        """Hold the first GPU: what runs in this process takes that one, whatever else is free."""
        if gpus == 0:
            yield
            return
        with devices(
            self._gpus()[:1], gpus, holder=f"process {os.getpid()} on {socket.gethostname()}", on_wait=on_wait
        ):
            yield


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Supervisors that this process started: to be waited for, or they stay as zombies."""


def _reap() -> None:
    for process_id, process in list(_children.items()):
        if process.poll() is not None:
            _children.pop(process_id, None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
