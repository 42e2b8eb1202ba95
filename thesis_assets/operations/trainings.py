"""The training of a run, as the platform's settings have it; and on a cluster those of several runs side by side.

Does not belong here: what a training is (`tuning.tuning_run`), what is told of it (`training_observations`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.launch.jobs import Following, close_record, left_running
from thesis_assets.operations.execution import Work
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.storage import read_json, write_json

if TYPE_CHECKING:
    from thesis_assets.tuning.tuning_run import TuningResult

TUNED = "tuned_checkpoint"
GRACE_SECONDS = 10.0


class _Submitted(Exception):
    """Nobody follows it yet."""


def train(
    platform: Platform,
    cell: Cell,
    following: Following,
    on_plan: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[ProgressLine], None] | None = None,
) -> "TuningResult":
    """See `tuning.tuning_run.tune`."""
    from thesis_assets.tuning.selection import require_rule_weights
    from thesis_assets.tuning.tuning_run import tune

    run, weights = platform.run_spec(cell), platform.settings.lpips_weights
    require_rule_weights(run.selection, weights)
    return tune(
        platform.difix(cell),
        cell.run_name,
        run,
        split=platform.spec(cell).split,
        device=platform.device,
        launcher=platform.launcher,
        roots=platform.roots,
        lpips_weights=weights,
        reported=platform.reported(cell),
        following=following,
        on_plan=on_plan,
        on_progress=on_progress,
    )


@contextlib.contextmanager
def side_by_side(platform: Platform, works: Sequence[Work]) -> Iterator[Callable[[Work], None]]:
    """Have a cluster train several runs at once, as many as `THESIS_GPU_SLOTS`, though their steps follow one after the other.

    Yields what is to be called before each work: it submits those that come next, and each step then finds its job at work and
    follows it. What stands in the way of one its own step says. Where the block is left by an exception, jobs that nobody
    follows yet are ended.
    """
    on_cluster = platform.settings.launcher == "slurm"
    waiting = [cell for work in works if on_cluster and TUNED in work.assets for cell in work.cells]
    ahead: list[Cell] = []

    def begin(work: Work) -> None:
        for cells in (waiting, ahead):
            cells[:] = [cell for cell in cells if cell not in work.cells]
        while waiting and len(ahead) + len(work.cells) < platform.settings.gpu_slots:
            cell = waiting.pop(0)
            try:
                if _submit(platform, cell):
                    ahead.append(cell)
            except ThesisAssetsError as error:
                platform.echo(f"  {cell} is not submitted yet: {error.in_one_line}")

    try:
        yield begin
    except BaseException:
        for cell in ahead:
            path = platform.difix(cell).tuning_run(cell.run_name).job
            record = left_running(platform.launcher, path)
            if record is not None:
                platform.launcher.end(record, grace_seconds=GRACE_SECONDS)
                close_record(path, record, platform.launcher.state(record))
        raise


def _submit(platform: Platform, cell: Cell) -> bool:
    """Start the job of a training and leave it. Returns whether there is one."""

    def leave() -> None:
        raise _Submitted

    try:
        train(platform, cell, Following(poll=leave, leave_running=lambda: True))
    except _Submitted:
        path = platform.difix(cell).tuning_run(cell.run_name).job
        write_json(path, read_json(path, JobRecord).model_copy(update={"unfollowed": True}))
        platform.echo(f"  {cell} is submitted")
        return True
    return False
