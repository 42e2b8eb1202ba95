"""What surrounds the work of a step, whether its body does it or the IO manager: locks, notes of how it ended, and what is told meanwhile."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext

from thesis_assets.graph.attempts import noting_failure
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES, SECONDS, STEP
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.run_processes import made_by_command_line
from thesis_assets.launch.telling import told_to
from thesis_assets.operations.data_versions import scene_read
from thesis_assets.storage import cell_lock, full_disk_explained


@contextlib.contextmanager
def working(step: StepExecutionContext, platform: Platform, asset: str, cells: Sequence[Cell]) -> Iterator[None]:
    """While a step works on cells of an asset.

    Raises:
        CellLocked: another process is at work on what is written here by turns.
        DiskFull: the disk became full meanwhile.
    """

    def say(line: str) -> None:
        """What a step tells itself is no progress, which a later line takes the place of: that a training was moved aside."""
        step.log.info(line)
        platform.echo(f"{asset}: {line}")

    with (
        noting_failure(platform, asset, cells, step.run_id, lambda: ended_by_person(step)),
        _only_writers(platform, asset, cells),
        full_disk_explained(platform.settings.data_home),
        told_to(say),
    ):
        yield


@contextlib.contextmanager
def _only_writers(platform: Platform, asset: str, cells: Sequence[Cell]) -> Iterator[None]:
    """Hold each cell's lock on what several assets of a run write by turns: whoever finds another at work on it says who, and ends."""
    what = NODES[asset].one_writer_of
    with contextlib.ExitStack() as stack:
        for cell in cells if what is not None else ():
            lock = platform.difix(cell).lock(f"{what}-{cell.run_name}")
            stack.enter_context(cell_lock(lock, f"the {what} of {cell}"))
        yield


def ended_by_person(step: StepExecutionContext | dg.AssetExecutionContext) -> bool:
    """Of a step that is told to end: whether a person said so. Web server and daemon end theirs, without a word, when they are
    restarted; a run of the command line is interrupted by whoever sits in front of it, and one that is terminated in the UI is
    `CANCELING` before its process hears of it."""
    run = step.instance.get_run_by_id(step.run_id)
    return run is not None and (made_by_command_line(run) or run.status == dg.DagsterRunStatus.CANCELING)


def of_step(step: StepExecutionContext, seconds: float) -> dict[str, object]:
    """Of the whole step: cells of one single-run step share it."""
    return {SECONDS: seconds, STEP: dg.MetadataValue.dagster_run(step.run_id)}


def observe(
    log_event: Callable[[dg.AssetObservation], None],
    step: StepExecutionContext,
    platform: Platform,
    asset: str,
    cells: Sequence[Cell],
) -> None:
    """Tell Dagster what cells were made from, before it is told of them."""
    for above in NODES[asset].observed:
        for cell in cells:
            observation = scene_read(platform, cell)
            if observation is not None:
                log_event(observation)
        # What the step saw when it began is older than that.
        step.wipe_input_asset_version_info(dg.AssetKey(above))
