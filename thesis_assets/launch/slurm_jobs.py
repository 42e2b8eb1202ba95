"""Jobs and calls on a Slurm cluster: submitted from here, run on a node, followed by files on the file system that both share.

Calls are one array of what is new; what an earlier caller left is followed, or its answer taken. What runs on a node is warned by
SIGUSR2 before its time limit: submitit then asks `checkpoint` what to queue again. SIGTERM comes to a job that is cancelled, to one that
is pre-empted, which Slurm calls running still, and to one whose node is taken away, which Slurm has queued again already.
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.commands import end_tree, has_ended, spawn
from thesis_assets.launch.jobs import (
    Call,
    Calling,
    Item,
    Job,
    JobState,
    LogRelay,
    Resources,
    close_record,
    job_exit,
    log_tail,
    new_record,
    settled_state,
)
from thesis_assets.launch.mapping import map_items, picklable
from thesis_assets.launch.slurm_cluster import WAITING, Site, SlurmQueue, log_files, require_place, submit
from thesis_assets.launch.supervisors import NOT_FOUND, write_exit
from thesis_assets.launch.telling import ToldLines, tell, tell_to_file
from thesis_assets.layout import JobTree
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import read_json, write_bytes, write_json

POLL_SECONDS = 0.5
KILL_SECONDS = 60.0
"""Slurm's own grace between asking a cancelled job to end and killing it is 30 s unless the site says otherwise."""


class JobLost(ThesisAssetsError):
    """A job of the cluster ended without an answer."""


class SlurmLauncher:
    """Runs jobs and calls on the cluster that this machine submits to."""

    name = "slurm"

    def __init__(self, site: Site, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        self.site, self._variables = site, dict(variables)
        self._queue = SlurmQueue(site.poll_seconds)
        self._vanished: dict[str, float] = {}

    def require(self, resources: Resources) -> None:
        """See `Launcher.require`."""
        require_place(self.site, resources)

    def start(self, job: Job, on_wait: Callable[[str], None] | None = None) -> JobRecord:
        """See `Launcher.start`. It waits in Slurm's queue, not here."""
        del on_wait
        job_id = uuid.uuid4().hex
        payload = CommandOnNode(
            words=list(job.command),
            cwd=job.cwd,
            env={**self._variables, **job.env},
            stdout=job.stdout.absolute(),
            stderr=job.stderr.absolute(),
            exit_file=job.exit_file.absolute(),
            job_id=job_id,
            save_seconds=max(5.0, self.site.signal_seconds - 30.0),
        )
        job.exit_file.unlink(missing_ok=True)
        record = new_record(
            self.name, job_id, job.command, job.stdout, job.stderr, exit_file=str(job.exit_file.absolute())
        )
        # Before it is submitted: killed in between, this process leaves a job that can be found by its comment.
        write_json(job.record, record)
        folder = job.stdout.parent / "slurm"
        try:
            (number,) = self._submit(job.name, job.resources, folder, [payload])
        except ThesisAssetsError:
            job.record.unlink()
            raise
        except BaseException:
            self.end(record, grace_seconds=0.0)
            raise
        record = record.model_copy(update={"scheduler_id": number})
        write_json(job.record, record)
        return record

    def _submit(
        self, name: str, resources: Resources, folder: Path, payloads: Sequence[CommandOnNode | CallOnNode]
    ) -> list[str]:
        """Submit, and ask the queue anew next time: it does not know what is new."""
        try:
            return submit(self.site, name, resources, folder, payloads, comment=payloads[0].job_id)
        finally:
            self._queue.forget()

    def state(self, record: JobRecord) -> JobState:
        """See `Launcher.state`."""
        ended = job_exit(record)
        if ended is not None:
            return JobState("ended", ended.returncode)
        number = self._number(record) or "of unknown number"
        seen = self._queue.look(number)
        if seen is not None and seen.is_alive:
            self._vanished.pop(number, None)
            return JobState("pending" if seen.state in WAITING else "running", detail=f"Slurm job {number}: {seen}")
        if self._queue.silence is not None:
            return JobState("running", detail=f"Slurm job {number}: no answer from Slurm ({self._queue.silence})")
        since = self._vanished.setdefault(number, time.monotonic())
        why = f"Slurm job {number}: {seen or 'no longer known to Slurm'}"
        if time.monotonic() - since < self.site.vanished_seconds:
            return JobState("running", detail=why, is_settled=False)
        ended = job_exit(record)
        return JobState("lost", detail=why) if ended is None else JobState("ended", ended.returncode)

    def end(self, record: JobRecord, *, grace_seconds: float) -> None:
        """See `Launcher.end`. How long a job may take to save is also the cluster's to say (`KillWait`)."""
        self.end_all([record], grace_seconds)

    def end_all(self, records: Sequence[JobRecord], grace_seconds: float) -> None:
        """End several jobs by one question to Slurm. One that said how it ended is about to leave the queue by itself.

        Raises:
            ThesisAssetsError: they are there still, after `grace_seconds` and what Slurm itself waits.
        """
        numbers = [number for record in records if job_exit(record) is None and (number := self._number(record))]
        left = self._queue.cancel(numbers, wait_seconds=grace_seconds + KILL_SECONDS)
        if left:
            raise ThesisAssetsError(
                "cancelled Slurm jobs are still there",
                found=", ".join(left),
                remedy="look at `squeue --me` and `scontrol show job`, and cancel them again",
            )

    def _number(self, record: JobRecord) -> str | None:
        return record.scheduler_id or self._queue.number_of(record.job_id or "")

    def map(
        self,
        function: Callable[[Item], Any],
        calls: Sequence[Call[Item]],
        calling: Calling[Item, Any] = Calling(),
    ) -> list[Any]:
        """See `Launcher.map`."""
        records: dict[int, JobRecord] = {}
        outcomes: dict[int, Any] = {}
        following = calling.following
        try:
            for place, call in enumerate(calls):
                left = self._left_by_an_earlier_caller(call)
                if left is not None:
                    records[place] = left
            fresh = [place for place in range(len(calls)) if place not in records]
            records.update(self._start_calls(function, calls, fresh, calling))
            told = {place: ToldLines(calls[place].place.told_dir) for place in records}
            logs = {place: LogRelay(Path(record.stdout), Path(record.stderr)) for place, record in records.items()}
            shown: dict[int, str] = {}
            while len(outcomes) < len(calls):
                for place, record in records.items():
                    if place in outcomes:
                        continue
                    state = self.state(record)
                    if following.show_logs:
                        logs[place].relay()
                    if calling.on_line is not None:
                        for line in told[place].new():
                            calling.on_line(line)
                    if following.on_wait is not None and state.detail and state.detail != shown.get(place):
                        shown[place] = state.detail
                        following.on_wait(f"{calls[place].name}: {state.detail}")
                    if state.is_over:
                        outcomes[place] = _answer(calls[place], record, state)
                        close_record(calls[place].place.record, record, state)
                        if calling.on_done is not None:
                            calling.on_done(calls[place].item, outcomes[place])
                if len(outcomes) < len(calls):
                    time.sleep(POLL_SECONDS)
        except BaseException:
            if following.leave_running is None or not following.leave_running():
                self.end_all([records[place] for place in records if place not in outcomes], following.grace_seconds)
            raise
        return [outcomes[place] for place in range(len(calls))]

    def _left_by_an_earlier_caller(self, call: Call[Item]) -> JobRecord | None:
        """A job of this call that waits, works, or ended well with nobody there to take its answer. One of another digest is ended."""
        if not call.place.record.is_file():
            return None
        record = read_json(call.place.record, JobRecord)
        if record.launcher != self.name or record.returncode is not None:
            return None
        state = settled_state(self, record)
        if record.digest != call.digest:
            if not state.is_over:
                self.end(record, grace_seconds=0.0)
            return None
        answered = state.returncode == 0 and call.place.answer.is_file()
        return record if answered or not state.is_over else None

    def _start_calls(
        self,
        function: Callable[[Item], Any],
        calls: Sequence[Call[Item]],
        places: Sequence[int],
        calling: Calling[Item, Any],
    ) -> dict[int, JobRecord]:
        if not places:
            return {}
        payloads = []
        for place in places:
            where = calls[place].place
            where.base.mkdir(parents=True, exist_ok=True)
            for old in (where.answer, where.exit_file):
                old.unlink(missing_ok=True)
            shutil.rmtree(where.told_dir, ignore_errors=True)
            where.told_dir.mkdir()
            call_id = uuid.uuid4().hex
            payloads.append(
                CallOnNode(function, calls[place].item, where.absolute(), call_id, calling.workers, self._variables)
            )
        first = calls[places[0]]
        folder = first.place.base.parent / "slurm"
        name = first.name if len(places) == 1 else f"{first.name}+{len(places) - 1}"
        numbers = self._submit(name, calling.resources, folder, payloads)
        named = function.func if isinstance(function, functools.partial) else function
        caller = f"{named.__module__}.{named.__qualname__}"
        started: dict[int, JobRecord] = {}
        for place, payload, number in zip(places, payloads, numbers, strict=True):
            call, (stdout, stderr) = calls[place], log_files(folder, number)
            exit_file = str(call.place.exit_file.absolute())
            started[place] = new_record(
                self.name,
                payload.job_id,
                [caller, call.name],
                stdout,
                stderr,
                exit_file=exit_file,
                scheduler_id=number,
                digest=call.digest,
            )
            write_json(call.place.record, started[place])
        return started


def _answer(call: Call[Item], record: JobRecord, state: JobState) -> Any:
    """What the call returned or raised; `JobLost` where it said nothing."""
    if state.phase == "ended" and job_exit(record) is not None:
        # Written by our own job, into a folder that only this user's jobs write.
        return pickle.loads(call.place.answer.read_bytes())  # noqa: S301
    return JobLost(
        f"the job of {call.name} ended {state.how}",
        file=record.stderr,
        found="\n" + log_tail(Path(record.stderr)),
        remedy="start the same again once the cause is gone (OUT_OF_MEMORY: a larger preset); what is published is not made again",
    )


HELPERS_SECONDS = 2.0
CANCELLED = 128 + signal.SIGTERM


@dataclass
class CommandOnNode:
    """A job's command. `save_seconds`: how long it may take to save once it is warned."""

    words: Sequence[str]
    cwd: Path | None
    env: Mapping[str, str]
    stdout: Path
    stderr: Path
    exit_file: Path
    job_id: str
    save_seconds: float
    process_id: int | None = None
    was_asked: bool = False

    def __call__(self) -> None:
        """Run the command to its end, and say how it ended: not where it was asked to, as the job may come again."""
        signal.signal(signal.SIGTERM, self._asked_to_end)
        # The warning ends every process that knows nothing of it: what stands between here and the trainer too.
        options: Any = {"cwd": self.cwd, "env": self.env, "preexec_fn": _ignore_warning}
        try:
            process = spawn(self.words, self.job_id, self.stdout, self.stderr, **options)
        except OSError as error:
            with self.stderr.open("ab") as err:
                err.write(f"{self.words[0]}: {error.strerror}\n".encode())
            write_exit(str(self.exit_file), self.job_id, NOT_FOUND)
            return
        self.process_id = process.pid
        returncode = process.wait()
        self._end_helpers()
        if not self.was_asked:
            write_exit(str(self.exit_file), self.job_id, returncode)

    def _asked_to_end(self, *_: object) -> None:
        self.was_asked = True
        _requeue_if_preempted()

    def checkpoint(self) -> Any:
        """What is queued again: the same command, which goes on where it stood, once it has saved."""
        import submitit

        deadline = time.monotonic() + self.save_seconds
        while self.process_id is not None and not has_ended(self.process_id) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._end_helpers()
        return submitit.helpers.DelayedSubmission(replace(self, process_id=None, was_asked=False))

    def _end_helpers(self) -> None:
        """End what outlived the command: Slurm without cgroups does not find a process whose parent is gone."""
        end_tree(None, self.job_id, grace_seconds=HELPERS_SECONDS)


@dataclass
class CallOnNode:
    """One call. `workers`: that share it, where its function lets them."""

    function: Callable[[Any], Any]
    item: Any
    place: JobTree
    job_id: str
    workers: int
    variables: Mapping[str, str] = field(default_factory=dict)

    def __call__(self) -> None:
        """Call, and leave the answer: the result, or the exception, as a pickle."""
        os.environ.update(self.variables)
        signal.signal(signal.SIGTERM, _requeue_or_end)
        tell_to_file(self.place.told_dir)
        (answer,) = map_items(self.function, [self.item], workers=self.workers, on_line=tell)
        write_bytes(self.place.answer, pickle.dumps(picklable(answer)))
        write_exit(str(self.place.exit_file), self.job_id, 1 if isinstance(answer, Exception) else 0)

    def checkpoint(self) -> Any:
        """What is queued again: the same call. What it has published it does not make again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _ignore_warning() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _requeue_or_end(*_: object) -> None:
    _requeue_if_preempted()
    sys.exit(CANCELLED)


def _requeue_if_preempted() -> None:
    """Where this job was not cancelled, have submitit queue it again, as at its time limit; does not return then."""
    answer = subprocess.run(
        ["squeue", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%T"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if answer.stdout.strip() == "RUNNING":
        signal.raise_signal(signal.SIGUSR2)
