"""Jobs on this host: a detached process group below a supervisor, found again by a variable that all of its processes carry.

One lock file a GPU keeps two jobs from sharing one by accident: a Dagster pool only counts. The lock lives as long as any process
of the job does: its descriptor is inherited. Nothing has to be cleaned up after a kill.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from types import MappingProxyType
from typing import Any

from thesis_assets.errors import CellLocked, ThesisAssetsError
from thesis_assets.launch import mapping
from thesis_assets.launch.child_environment import with_variables
from thesis_assets.launch.commands import end_tree, members, spawn
from thesis_assets.launch.jobs import (
    Call,
    Calling,
    Item,
    Job,
    JobState,
    Resources,
    job_exit,
    new_record,
    no_bf16,
)
from thesis_assets.launch.supervisors import supervised
from thesis_assets.layout import device_lock
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import write_json


class LocalLauncher:
    """Runs jobs and maps on this host.

    Args:
        gpus: names of its GPUs, as CUDA_VISIBLE_DEVICES has them; asked for only by a job that wants one.
        variables: of every job and call, see `child_environment`.
    """

    name = "local"

    def __init__(
        self, gpus: Callable[[], Sequence[str]] = tuple, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._gpus, self._variables = gpus, variables

    def require(self, resources: Resources) -> None:
        """See `Launcher.require`."""
        if resources.gpus:
            require_devices(self._gpus(), resources.gpus)
            if resources.bf16:
                refuse_volta()

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
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"{job.name}, started by process {os.getpid()} on {socket.gethostname()} at {now}"
        with devices(self._gpus(), job.resources.gpus, holder=holder, on_wait=on_wait) as (names, descriptors):
            return self._start(job, {"CUDA_VISIBLE_DEVICES": ",".join(names)}, descriptors)

    def _start(self, job: Job, env: dict[str, str], descriptors: Sequence[int]) -> JobRecord:
        job_id = uuid.uuid4().hex
        record = new_record(self.name, job_id, job.command, job.stdout, job.stderr, exit_file=str(job.exit_file))
        job.exit_file.unlink(missing_ok=True)
        # Before the command runs: a starter that dies in between leaves a job that can be found by its id.
        write_json(job.record, record)
        words = supervised(str(job.exit_file), job_id, job.command)
        options = {"start_new_session": True, "pass_fds": tuple(descriptors)}
        process = spawn(
            words, job_id, job.stdout, job.stderr, cwd=job.cwd, env={**self._variables, **job.env, **env}, **options
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

    def map(
        self,
        function: Callable[[Item], Any],
        calls: Sequence[Call[Item]],
        calling: Calling[Item, Any] = Calling(),
    ) -> list[Any]:
        """See `Launcher.map`. In this process, or in worker processes that end with it: what is done is kept."""
        gpus, on_wait = calling.resources.gpus, calling.following.on_wait
        with contextlib.ExitStack() as held:
            held.enter_context(with_variables(self._variables))
            if gpus:
                # The first one: what runs in this process takes that, whatever else is free.
                holder = f"process {os.getpid()} on {socket.gethostname()}"
                held.enter_context(devices(self._gpus()[:1], gpus, holder=holder, on_wait=on_wait))
            items = [call.item for call in calls]
            return mapping.map_items(
                function, items, workers=calling.workers, on_done=calling.on_done, on_line=calling.on_line
            )


def refuse_volta() -> None:
    """Refuse a training in bf16 where a GPU of this host only emulates it. Without `nvidia-smi` the trainer itself finds out.

    Raises:
        InvalidExperiment: as `jobs.no_bf16`.
    """
    if which("nvidia-smi") is None:
        return
    words = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        answer = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout
        for name, _, capability in (line.rpartition(",") for line in answer.splitlines()):
            if capability.strip() in VOLTA_CAPABILITIES:
                raise no_bf16(f"{name.strip()} (compute capability {capability.strip()})")


VOLTA_CAPABILITIES = ("7.0", "7.2")
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Supervisors that this process started: to be waited for, or they stay as zombies."""


def _reap() -> None:
    for process_id, process in list(_children.items()):
        if process.poll() is not None:
            _children.pop(process_id, None)


POLL_SECONDS = 0.5
SAY_SECONDS = 30.0


@contextlib.contextmanager
def devices(
    names: Sequence[str], count: int, *, holder: str, on_wait: Callable[[str], None] | None = None
) -> Iterator[tuple[list[str], list[int]]]:
    """Take `count` of the devices, waiting until so many are free.

    Args:
        names: of this host's GPUs, as CUDA_VISIBLE_DEVICES has them.
        holder: written into the lock files, for who has to wait.
        on_wait: told now and then who holds the devices.

    Returns:
        The names taken, and open descriptors which a process started meanwhile must inherit; this process's own copies are closed at
        the end of the block.

    Raises:
        ThesisAssetsError: there are fewer than `count`.
    """
    require_devices(names, count)
    taken: dict[str, int] = {}
    said = -SAY_SECONDS
    try:
        while len(taken) < count:
            for name in names:
                if len(taken) < count and name not in taken and (descriptor := _try(name, holder)) is not None:
                    taken[name] = descriptor
            if len(taken) < count:
                # All or none, or two jobs that each hold one and want two would wait for ever.
                _release(taken)
                if on_wait is not None and time.monotonic() - said >= SAY_SECONDS:
                    said = time.monotonic()
                    on_wait(f"waiting for {count} of the GPUs {', '.join(names)}; held by {'; '.join(_holders(names))}")
                time.sleep(POLL_SECONDS)
        for descriptor in taken.values():
            os.set_inheritable(descriptor, True)
        yield list(taken), list(taken.values())
    finally:
        _release(taken)


def require_devices(names: Sequence[str], count: int) -> None:
    """Refuse more devices than there are.

    Raises:
        ThesisAssetsError: there are fewer than `count`.
    """
    if count > len(names):
        raise ThesisAssetsError(
            "the run wants more GPUs than this machine has",
            key="num_processes",
            found=count,
            wanted=f"at most {len(names)} ({', '.join(names) or 'none is visible'})",
            remedy="lower num_processes, or run on a machine with more GPUs",
        )


def visible_gpus(device: str) -> list[str]:
    """This host's GPUs that a job on `device` may take, as CUDA_VISIBLE_DEVICES has them.

    Args:
        device: `cuda` for any that is visible, `cuda:<number>` for that one of them.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        import torch

        names = [str(number) for number in range(torch.cuda.device_count())]
    else:
        names = [name.strip() for name in listed.split(",") if name.strip()]
    number = device.partition(":")[2]
    return names[int(number) : int(number) + 1] if number else names


def _try(name: str, holder: str) -> int | None:
    descriptor = _open(device_lock(name))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    # Another user's file can be locked, not written: only the name of the holder is lost.
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    return descriptor


def _open(path: Path) -> int:
    """Open a lock file, which may be another user's, in a folder where everybody may put a link in its place."""
    try:
        # World-readable: reading is all that a lock needs.
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        mode = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
    try:
        return os.open(path, mode | os.O_NOFOLLOW)
    except OSError as error:
        raise ThesisAssetsError(
            "the lock file of a GPU cannot be opened",
            file=path,
            found=error.strerror,
            wanted="an ordinary file that everybody may read",
            remedy="remove it while no job uses the GPU",
        ) from error


def _release(taken: dict[str, int]) -> None:
    """Close this process's descriptors: what inherited them keeps the lock."""
    while taken:
        os.close(taken.popitem()[1])


def _holders(names: Sequence[str]) -> list[str]:
    holders = []
    for name in names:
        path = device_lock(name)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        holders.append(f"{name}: {text or 'free'}")
    return holders
