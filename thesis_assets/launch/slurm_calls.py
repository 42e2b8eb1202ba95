"""Calls on a Slurm cluster: one array of what is new; what an earlier caller left is followed, or its answer taken."""

from __future__ import annotations

import pickle
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.launch.calls import Call, Calling, Item, Result
from thesis_assets.launch.jobs import JobState, Resources, close_record, job_exit
from thesis_assets.launch.logs import LogRelay, log_tail
from thesis_assets.launch.slurm_payloads import CallOnNode
from thesis_assets.launch.slurm_submission import log_files, submit
from thesis_assets.launch.telling import ToldLines
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import read_json, write_json

if TYPE_CHECKING:
    from thesis_assets.launch.slurm_jobs import SlurmLauncher

POLL_SECONDS = 0.5


class JobLost(ThesisAssetsError):
    """A job of the cluster ended without an answer."""


def run_calls(
    launcher: SlurmLauncher,
    function: Callable[[Item], Result],
    calls: Sequence[Call[Item]],
    calling: Calling[Item, Result],
) -> list[Result | Exception]:
    """See `calls.CallLauncher.run_calls`."""
    records: dict[int, JobRecord] = {}
    outcomes: dict[int, Result | Exception] = {}
    following = calling.following
    try:
        for place, call in enumerate(calls):
            left = _left_by_an_earlier_caller(launcher, call)
            if left is not None:
                records[place] = left
        fresh = [place for place in range(len(calls)) if place not in records]
        records.update(_start(launcher, function, calls, fresh, calling.resources))
        told = {place: ToldLines(calls[place].place.told_dir) for place in records}
        logs = {place: LogRelay(Path(record.stdout), Path(record.stderr)) for place, record in records.items()}
        shown: dict[int, str] = {}
        while len(outcomes) < len(calls):
            for place, record in records.items():
                if place in outcomes:
                    continue
                state = launcher.state(record)
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
            launcher.end_all([records[place] for place in records if place not in outcomes], following.grace_seconds)
        raise
    return [outcomes[place] for place in range(len(calls))]


def _left_by_an_earlier_caller(launcher: SlurmLauncher, call: Call[Item]) -> JobRecord | None:
    """A job of this call that waits, works, or ended well with nobody there to take its answer. One of another digest is ended."""
    if not call.place.record.is_file():
        return None
    record = read_json(call.place.record, JobRecord)
    if record.launcher != launcher.name or record.returncode is not None:
        return None
    state = launcher.state(record)
    while not state.is_settled:
        time.sleep(POLL_SECONDS)
        state = launcher.state(record)
    if record.digest != call.digest:
        if not state.is_over:
            launcher.end(record, grace_seconds=0.0)
        return None
    answered = state.returncode == 0 and call.place.answer.is_file()
    return record if answered or not state.is_over else None


def _start(
    launcher: SlurmLauncher,
    function: Callable[[Item], Result],
    calls: Sequence[Call[Item]],
    places: Sequence[int],
    resources: Resources,
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
        payloads.append(CallOnNode(function, calls[place].item, where.absolute(), uuid.uuid4().hex))
    first = calls[places[0]]
    folder = first.place.base.parent / "slurm"
    name = first.name if len(places) == 1 else f"{first.name}+{len(places) - 1}"
    numbers = launcher.submitted(lambda: submit(launcher.site, name, resources, folder, payloads, payloads[0].job_id))
    started: dict[int, JobRecord] = {}
    for place, payload, number in zip(places, payloads, numbers, strict=True):
        started[place] = _written_record(calls[place], function, payload.job_id, number, folder)
    return started


def _written_record(
    call: Call[Item], function: Callable[..., Any], job_id: str, number: str, folder: Path
) -> JobRecord:
    from thesis_assets.launch.slurm_jobs import new_record

    stdout, stderr = log_files(folder, number)
    words = [f"{function.__module__}.{function.__qualname__}", call.name]
    record = new_record(job_id, number, words, stdout, stderr, call.place.exit_file, call.digest)
    write_json(call.place.record, record)
    return record


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
