"""Jobs and calls: work that runs detached from who started it, here or on a cluster, and can be found again.

A job is a command. To run one, give `run_job` a launcher and a `Job`: the words of the command, where its record and its logs
lie, how many GPUs it uses. It returns how the command ended:

    job = Job("v1-r1", words, tree.job, tree.job_exit, tree.logs_dir / "stdout.log", tree.logs_dir / "stderr.log")
    state = run_job(launcher, job, following=Following(poll=read_progress))

Called again with the same record while the command is still at work, it follows that one instead of starting a second: the caller
need not know whether its predecessor was killed. On a cluster a job may be requeued, so the command must go on where it stood.
What must end with its starter, and is cheap to start again, is not a job: `commands.run_command`.

A job's record is written before it starts, and how it ended is written by its own supervisor: whoever comes later, with nothing
but the record's path, follows it to its end, ends it, or learns how it ended.

Calls are one function over several items, each a piece of work that may run elsewhere, in any order, and be found again:

    outcomes = launcher.map(export_shard, [Call(scene, work, digest, tree.job(f"shard-{scene}")) for ...])

The function is one that `mapping.map_items` takes: on this host that maps over all calls, on a cluster a job over its own. The items are
picklable, and calling it twice for one item does no harm: what is done is kept. It says how far it is by `telling.tell`.
Does not belong here: where jobs and calls run (`local_jobs`, `slurm_jobs`).
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TextIO, TypeVar

from thesis_assets.errors import CellLocked, InvalidExperiment
from thesis_assets.layout import JobTree
from thesis_assets.schemas.tuning import JobExit, JobRecord
from thesis_assets.storage import read_json, write_json

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Resources:
    """What a job needs.

    Attributes:
        gpus: that it uses at once on this host.
        processes: that compute side by side, each on a GPU of its own where the cluster's preset has GPUs.
        preset: of the cluster's settings; None = the one named after the number of processes. Locally without effect.
        minutes: that it may take on a cluster, where these are less than the preset's.
        bf16: it computes in this precision on a GPU, which one of the Volta generation only emulates.
    """

    gpus: int = 0
    processes: int = 1
    preset: str | None = None
    minutes: int | None = None
    bf16: bool = False


@dataclass(frozen=True)
class Job:
    """One command to run as a job.

    Attributes:
        name: shown in the cluster's queue.
        command: started again where it stood when a cluster requeues the job. Asked by SIGUSR2 it may save and end before that.
        record: where its `JobRecord` is kept while it runs and after.
        exit_file: where its supervisor writes a `JobExit`.
        stdout: log that output is appended to; so is `stderr`.
        env: variables added to those of the starter.
    """

    name: str
    command: Sequence[str]
    record: Path
    exit_file: Path
    stdout: Path
    stderr: Path
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()


@dataclass(frozen=True)
class JobState:
    """`lost`: it is neither there nor did it say how it ended: killed outright, or its host died. `detail`: by the cluster's words.

    `is_settled` is false while a job that has gone may still have a last word under way.
    """

    phase: Literal["pending", "running", "ended", "lost"]
    returncode: int | None = None
    detail: str = ""
    is_settled: bool = True

    @property
    def is_over(self) -> bool:
        return self.phase in ("ended", "lost")

    @property
    def how(self) -> str:
        """How it ended, to stand in a sentence: `with status 3`, `by signal 9`."""
        if self.returncode is None:
            return (
                f"without saying how ({self.detail})" if self.detail else "without saying how: it was killed outright"
            )
        return f"by signal {-self.returncode}" if self.returncode < 0 else f"with status {self.returncode}"


@dataclass(frozen=True)
class Following:
    """What its follower wants of a job.

    Attributes:
        poll: called a few times a second, and once more after the end.
        should_stop: asked at the same times; true ends the job.
        leave_running: asked when an exception or an interrupt passes through; true leaves the job at work for a later follower.
            Without it every such end is the job's end.
        on_wait: told what the job waits for before it starts, and where it runs then.
        show_logs: copy what the job writes to its logs to this process's stdout and stderr.
        grace_seconds: between asking the job's processes to end and killing them.
    """

    poll: Callable[[], None] | None = None
    should_stop: Callable[[], bool] | None = None
    leave_running: Callable[[], bool] | None = None
    on_wait: Callable[[str], None] | None = None
    show_logs: bool = False
    grace_seconds: float = 10.0


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Call(Generic[Item]):
    """One item.

    Attributes:
        name: shown in the cluster's queue and in messages.
        digest: of what the answer depends on. A job that an earlier caller left is followed where its digest is this one.
        place: where its record, its answer and what it tells lie; no other call has it.
    """

    name: str
    item: Item
    digest: str
    place: JobTree


@dataclass(frozen=True)
class Calling(Generic[Item, Result]):
    """How calls are made.

    Attributes:
        workers: processes at once: on this host of all calls, on a cluster of each call's job, where its function shares its work.
        resources: of each call.
        on_done: called in this process as each call ends, in the order they end.
        on_line: called in this process with what the calls tell.
    """

    workers: int = 1
    resources: Resources = field(default_factory=Resources)
    on_done: Callable[[Item, Result | Exception], None] | None = None
    on_line: Callable[[str], None] | None = None
    following: Following = field(default_factory=Following)


class Launcher(Protocol):
    """Where work runs."""

    @property
    def name(self) -> str:
        """`local` or `slurm`."""
        ...

    def require(self, resources: Resources) -> None:
        """Refuse what this place can never give, before anything is written.

        Raises:
            ThesisAssetsError: with what there is.
        """
        ...

    def start(self, job: Job, on_wait: Callable[[str], None] | None = None) -> JobRecord:
        """Start the job, detached. Its record is on disk before its command runs.

        Args:
            on_wait: told what is waited for before it can start.

        Raises:
            ThesisAssetsError: the program is not there, or the place cannot give what the job needs.
        """
        ...

    def state(self, record: JobRecord) -> JobState:
        """How a job stands."""
        ...

    def end(self, record: JobRecord, *, grace_seconds: float) -> None:
        """End every process of the job: first asked, then killed."""
        ...

    def map(
        self, function: Callable[[Item], Any], calls: Sequence[Call[Item]], calling: Calling[Item, Any] = ...
    ) -> list[Any]:
        """Call `function` on every item; return its results, or the exception an item raised, in the order of `calls`.

        An interrupt ends the calls, unless `calling.following.leave_running` says otherwise and they run elsewhere.

        Raises:
            ThesisAssetsError: the place cannot give what the calls need.
        """
        ...


def no_bf16(found: str, or_else: str = "") -> InvalidExperiment:
    """The refusal of a training in bf16 on a GPU of the Volta generation. `or_else`: another way on."""
    return InvalidExperiment(
        "a GPU of the Volta generation (V100, sm_70) has no bf16: it emulates it, far slower; nothing is chosen in its place",
        key="runs.<run_name>.mixed_precision",
        found=f"bf16, and {found}",
        wanted="no, or fp16",
        remedy="write into the run, in the experiment's file: `stable_v100: true` (two processes, no mixed precision, resolution "
        '320, no clipping), or `mixed_precision: "no"`' + or_else,
    )


def new_record(
    launcher: str, job_id: str, command: Sequence[str], stdout: Path, stderr: Path, **more: Any
) -> JobRecord:
    """The record of what this process starts now. `more`: fields of a `JobRecord`."""
    return JobRecord(
        launcher=launcher,
        host=socket.gethostname(),
        job_id=job_id,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=list(command),
        stdout=str(stdout),
        stderr=str(stderr),
        **{"process_group": None, **more},
    )


def job_exit(record: JobRecord) -> JobExit | None:
    """How a job ended by its own account; None where it has not said so, or said so of an earlier job of this place."""
    if record.exit_file is None or not Path(record.exit_file).is_file():
        return None
    ended = read_json(Path(record.exit_file), JobExit)
    return ended if ended.job_id == record.job_id else None


def left_running(launcher: Launcher, record_file: Path) -> JobRecord | None:
    """The job of this record where it is still waiting or at work, or was submitted ahead and nobody knows yet how it ended.
    None where there is none.

    Raises:
        CellLocked: it was started by another launcher, and has not said that it ended.
    """
    if not record_file.is_file():
        return None
    record = read_json(record_file, JobRecord)
    if record.returncode is not None or (job_exit(record) is not None and not record.unfollowed):
        return None
    if record.launcher != launcher.name:
        raise CellLocked(
            "the work was started by another launcher, and nobody has said that it ended",
            file=record_file,
            found=f"{record.launcher}, on {record.host} since {record.started_at}",
            wanted=launcher.name,
            remedy=f"go on with THESIS_LAUNCHER={record.launcher}; if that job is gone for good, remove this file",
        )
    return None if settled_state(launcher, record).is_over and not record.unfollowed else record


def settled_state(launcher: Launcher, record: JobRecord) -> JobState:
    """How a job stands, once a last word that may still be under way had its time."""
    while not (state := launcher.state(record)).is_settled:
        time.sleep(POLL_SECONDS)
    return state


def run_job(launcher: Launcher, job: Job, *, following: Following = Following()) -> JobState:
    """Follow a job to its end: the one that is left of an earlier starter, else a new one.

    An exception or an interrupt ends the job, all of its processes, unless `following.leave_running` says that it is to go on:
    then whoever calls this next with the same record follows it.

    Returns:
        How it ended.

    Raises:
        ThesisAssetsError: the program is not there, or the place cannot give what the job needs.
        CellLocked: a job of this record runs elsewhere, where this launcher cannot look.
    """
    logs = LogRelay(job.stdout, job.stderr) if following.show_logs else None
    record = left_running(launcher, job.record)
    if record is None:
        record = launcher.start(job, following.on_wait)
    shown = ""
    try:
        state = launcher.state(record)
        while not state.is_over:
            if following.on_wait is not None and state.detail != shown:
                shown = state.detail
                following.on_wait(f"{job.name}: {shown}")
            if following.should_stop is not None and following.should_stop():
                launcher.end(record, grace_seconds=following.grace_seconds)
            _look(logs, following)
            time.sleep(POLL_SECONDS)
            state = launcher.state(record)
    except BaseException:
        if following.leave_running is None or not following.leave_running():
            launcher.end(record, grace_seconds=following.grace_seconds)
            close_record(job.record, record, launcher.state(record))
        raise
    # What outlived the command itself: helpers of a trainer that crashed hold the GPU.
    launcher.end(record, grace_seconds=following.grace_seconds)
    close_record(job.record, record, state)
    _look(logs, following)
    return state


def close_record(path: Path, record: JobRecord, state: JobState) -> None:
    """Write into a job's record how it ended: nobody has to follow it any more."""
    write_json(path, record.model_copy(update={"returncode": -9 if state.returncode is None else state.returncode}))


def _look(logs: LogRelay | None, following: Following) -> None:
    if logs is not None:
        logs.relay()
    if following.poll is not None:
        following.poll()


_TAIL_BYTES = 64 * 1024


def log_tail(path: Path, *, start: int = 0) -> str:
    """The last 25 lines of a log file, from byte `start` on; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(start, size - _TAIL_BYTES))
        text = handle.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-25:])


_FRAME_LINE = re.compile(rb"^submitit INFO \(.*(\n|$)", re.MULTILINE)
"""What submitit says around every job: four lines without the job's name."""


class LogRelay:
    """Copies what is appended to two log files from now on to this process's stdout and stderr; what only frames a job stays there."""

    def __init__(self, stdout: Path, stderr: Path) -> None:
        self._offsets = {path: path.stat().st_size if path.is_file() else 0 for path in (stdout, stderr)}
        self._stdout, self._stderr = stdout, stderr

    def relay(self) -> None:
        """Copy what came since the last call."""
        # Looked up each time: who captures a step's output exchanges them.
        self._copy(self._stdout, sys.stdout)
        self._copy(self._stderr, sys.stderr)

    def _copy(self, path: Path, to: TextIO) -> None:
        if not path.is_file():
            return
        with path.open("rb") as handle:
            handle.seek(self._offsets[path])
            # What is there now, and not what is appended meanwhile: a chatty job must not keep its follower here.
            content = handle.read(max(0, path.stat().st_size - self._offsets[path]))
        if content:
            self._offsets[path] += len(content)
            to.write(_FRAME_LINE.sub(b"", content).decode("utf-8", errors="replace"))
            to.flush()
