"""Tuning jobs that go on while no run of Dagster follows them: the run was killed, its job on the machine or cluster was not."""

from dataclasses import dataclass

import dagster as dg

from thesis_assets.errors import CellLocked, ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.history import History
from thesis_assets.graph.platform import Platform
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
