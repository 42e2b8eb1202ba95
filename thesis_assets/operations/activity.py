"""What happened since yesterday evening: runs that ended, checks that failed, jobs nobody follows, what waits and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from thesis_assets.errors import ThesisAssetsError, printable
from thesis_assets.graph.attempts import attempts_at
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.history import PARTITION, RANGE_END, RANGE_START
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.run_processes import IN_PROGRESS
from thesis_assets.graph.states import Plan
from thesis_assets.operations.execution import daemon_runs
from thesis_assets.operations.failures import failure_reason
from thesis_assets.operations.lost_runs import LostJob, lost_jobs
from thesis_assets.operations.registration import late_scenes, plan_registration
from thesis_assets.schemas.checks import CheckRow

MAX_RUNS = 2000


@dataclass(frozen=True)
class RunRow:
    """One run that began, ended or is at work."""

    run_id: str
    job: str
    cells: str
    status: str
    """Dagster's word in lower case: `success`, `failure`, `canceled`, `started`, ..."""
    seconds: float | None
    reason: str = ""


@dataclass(frozen=True)
class Activity:
    """The summary. `waiting` has a reason by cell, scene or file."""

    since: datetime
    runs: list[RunRow]
    checks: list[CheckRow]
    jobs: list[LostJob]
    waiting: dict[str, str]
    daemon: bool

    def of(self, *statuses: str) -> list[RunRow]:
        """The runs with one of these statuses."""
        return [run for run in self.runs if run.status in statuses]


def activity_since(
    platform: Platform, instance: dg.DagsterInstance, since: datetime, now: float, *, exp_names: Sequence[str]
) -> Activity:
    """Look back to `since` (with its time zone). `exp_names` narrows what waits, what is checked and what ran."""
    records = instance.get_run_records(dg.RunsFilter(updated_after=since), limit=MAX_RUNS)
    open_ones = instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS), limit=MAX_RUNS)
    by_id = {record.dagster_run.run_id: record for record in [*records, *open_ones]}
    runs = [_row(instance, record) for record in by_id.values()]
    stamp = since.astimezone(UTC).isoformat(timespec="seconds")
    checks = [row for row in check_rows(instance) if row.when >= stamp and row.status in ("failed", "warning")]
    return Activity(
        since=since,
        runs=sorted((run for run in runs if _concerns(run.cells, exp_names)), key=lambda run: run.status),
        checks=sorted((row for row in checks if _concerns(row.cell, exp_names)), key=lambda row: row.status),
        jobs=[job for job in lost_jobs(platform, instance) if job.cell.exp_name in exp_names],
        waiting=_waiting(platform, instance, now, exp_names),
        daemon=daemon_runs(instance),
    )


def _concerns(cells: str, exp_names: Sequence[str]) -> bool:
    return cells == "all" or any(cells.split("|")[0].split("..")[0] == name for name in exp_names)


def _row(instance: dg.DagsterInstance, record: dg.RunRecord) -> RunRow:
    run = record.dagster_run
    ends = [run.tags[name] for name in (RANGE_START, RANGE_END) if name in run.tags]
    seconds = None
    if record.start_time is not None:
        seconds = round((record.end_time or datetime.now(UTC).timestamp()) - record.start_time, 1)
    reason = _reason(instance, run.run_id) if run.status == dg.DagsterRunStatus.FAILURE else ""
    cells = run.tags.get(PARTITION) or "..".join(ends) or "all"
    return RunRow(run.run_id, run.job_name, printable(cells), run.status.value.lower(), seconds, printable(reason))


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    failed = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run_id, of_type=failed, limit=20).records
    ]
    steps = [failure_reason(event) for event in events]
    return next((step for step in steps if step), events[-1].message or "" if events and events[-1] else "")


def _waiting(platform: Platform, instance: dg.DagsterInstance, now: float, exp_names: Sequence[str]) -> dict[str, str]:
    ready = ReadyScenes(platform, now)
    plan = plan_registration(platform, instance)
    waiting = {name: f"refused: {' '.join(reason.split())}" for name, reason in plan.refused.items()}
    for late in late_scenes(platform, ready):
        if late.exp_name in exp_names:
            waiting[late.exp_name] = f"frozen, and {', '.join(late.scenes)} came later: `{late.command}`"
    states = Plan(platform, instance, ready)
    for exp_name in exp_names:
        for attempt, cell in attempts_at(platform, exp_name):
            if (state := states.state(attempt.asset, cell)).state == "failed":
                waiting[f"{attempt.asset} of {cell}"] = f"{' '.join(state.told.split())}: `{state.mend}`"
    for spec in platform.readable_experiments():
        if spec.exp_name not in exp_names or platform.is_frozen(spec.exp_name):
            continue
        try:
            scenes = platform.scene_names(spec)
        except ThesisAssetsError:
            continue  # stands among the refused
        for scene in scenes:
            why = ready.why_not(spec, scene)
            if why is not None:
                waiting[scene] = " ".join(why.split())
    return waiting
