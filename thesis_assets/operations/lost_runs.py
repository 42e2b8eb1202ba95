"""What is left of runs that were killed: runs that say they go on, and are closed; tuning jobs that go on, and that no run follows."""

import socket
from dataclasses import dataclass

import dagster as dg

from thesis_assets.errors import CellLocked, ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.history import History
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.run_processes import HOST_TAG, IN_PROGRESS, is_dead
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import read_json


@dataclass(frozen=True)
class LostJob:
    """One job without a follower."""

    cell: Cell
    launcher: str
    host: str
    job: str
    since: str

    @property
    def told(self) -> str:
        """The job, and the command that follows it again."""
        return (
            f"{self.cell}: job {self.job} ({self.launcher}, {self.host}, since {self.since}) goes on and no run follows it; "
            f"`thesis-assets run --exp {self.cell.exp_name} --run {self.cell.run_name}` takes it up again"
        )


def lost_jobs(platform: Platform, instance: dg.DagsterInstance) -> list[LostJob]:
    """Every declared run's job that is at work, or may be, while no run of Dagster is."""
    from thesis_assets.launch.jobs import left_running

    history = History(instance)
    lost = []
    for cell in platform.run_cells():
        path = platform.difix(cell).tuning_run(cell.run_name).job
        if not path.is_file() or history.maker("tuned_checkpoint", cell.key) is not None:
            continue
        try:
            record = left_running(platform.launcher, path)
        except CellLocked:
            record = read_json(path, JobRecord)  # of another launcher or host, where this process cannot look
        except ThesisAssetsError:
            continue  # the run itself refuses a record that cannot be read
        if record is not None:
            lost.append(
                LostJob(
                    cell, record.launcher, record.host, record.scheduler_id or str(record.job_id), record.started_at
                )
            )
    return lost


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed every unfinished run whose process on this host is gone; returns their ids."""
    dead = dead_runs(instance)
    for run in dead:
        instance.report_run_failed(run, "the process that made this run was killed; what it published stays")
    _free_pools(instance)
    return [run.run_id for run in dead]


def _free_pools(instance: dg.DagsterInstance) -> None:
    """Give back the places in pools that ended runs still hold: a step of a killed process holds one, and without a daemon, which
    would do this, the next step of its pool waits for it for good."""
    storage = instance.event_log_storage
    holders = storage.get_concurrency_run_ids() if storage.supports_global_concurrency_limits else set()
    if not holders:
        return  # a filter by no run at all is an error
    alive = {run.run_id for run in instance.get_runs(dg.RunsFilter(run_ids=list(holders), statuses=IN_PROGRESS))}
    for run_id in holders - alive:
        storage.free_concurrency_slots_for_run(run_id)


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The unfinished runs whose process on this host is gone."""
    filters = dg.RunsFilter(statuses=IN_PROGRESS, tags={HOST_TAG: socket.gethostname()})
    gone = [run.run_id for run in instance.get_runs(filters) if is_dead(run)]
    # One that ended between the two looks said so before its process went.
    return list(instance.get_runs(dg.RunsFilter(run_ids=gone, statuses=IN_PROGRESS))) if gone else []
