"""The work of a step: what it describes, where that runs by the settings, and what surrounds it (locks, notes of how it ended, what is told
meanwhile), whether its body does it or the IO manager.

Does not belong here: writing or verifying what is described (`io_manager`).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext

from thesis_assets.graph.attempts import noting_failure
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES, SECONDS, STEP, wanted_digest
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.run_processes import made_by_command_line
from thesis_assets.launch.jobs import Call, Calling, Following, Resources
from thesis_assets.launch.telling import told_to
from thesis_assets.operations.data_versions import scene_read
from thesis_assets.operations.metadata import Metadata, table
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import cell_lock, full_disk_explained, read_json, sha256_value


@dataclass(frozen=True)
class Place:
    """What a call needs. `preset`: on a cluster; `gpus`: held on this machine meanwhile."""

    preset: str
    gpus: int = 0


CPU = Place("cpu")
GPU = Place("data_gen", gpus=1)
SHARED_GPU = Place("data_gen")
"""Computes on a GPU now and then: on this machine it does not wait until a training run of hours has left it."""


@dataclass(frozen=True)
class Described:
    """What should exist of a step's cells.

    Attributes:
        write: what workers are given the descriptions by, see `launch.mapping.map_items`.
        calls: of every cell; their items are the descriptions: small, picklable, and without a pixel.
        show: what the UI shows of a cell, from what its calls answered, each a result or an exception; raises where the cell failed.
        workers: processes at once, see `launch.jobs.Calling`.
        on_done: called with each description as it ends, and what came of it.
        remedy: where cells fail.
        tags: of the output; the IO manager adds what is known once it is written.
    """

    write: Callable[[Any], Any]
    calls: Mapping[Cell, Sequence[Call[Any]]]
    place: Place
    show: Callable[[Cell, list[Any]], Metadata]
    workers: int = 1
    on_done: Callable[[Any, Any], None] | None = None
    remedy: str = "mend what is said, and give the same command again: what is made is not made again"
    tags: dict[str, str] = field(default_factory=dict)

    def calling(
        self, step: StepExecutionContext, platform: Platform, report: Callable[[str], None]
    ) -> Calling[Any, Any]:
        """How its calls are made, with what they tell in the run's log."""
        gpus = self.place.gpus if platform.device != "cpu" else 0
        resources = Resources(gpus=gpus, preset=self.place.preset)
        return Calling(self.workers, resources, self.on_done, report, following(step, report))


def described_calls(platform: Platform, asset: str, cell: Cell, items: Mapping[str, Any]) -> list[Call[Any]]:
    """The calls of one asset's cell, by the part of it that each makes; of the whole it is "".

    The identity of each is that of the cell's inputs: a job that an earlier step left is followed where they are the same.
    """
    digest = wanted_digest(platform, asset, cell)
    calls = []
    for part, item in items.items():
        names = [asset, *(name for name in (cell.run_name, cell.scene_name, part) if name)]
        place = platform.difix(cell).job("--".join(names))
        calls.append(Call(" ".join(names), item, sha256_value([part, digest, platform.device]), place))
    return calls


def only(answers: Sequence[Any]) -> Any:
    """The answer of a cell's one call.

    Raises:
        Exception: what the call raised.
    """
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


def following(step: StepExecutionContext, report: Callable[[str], None]) -> Following:
    """How a step follows its jobs: their logs are the run's compute logs; a user's terminate ends them, a restart leaves them."""

    return Following(leave_running=lambda: not ended_by_person(step), on_wait=report, show_logs=True)


def job_cores(platform: Platform, place: Place) -> int | None:
    """Cores that a cluster's job of this place has to itself; None on this machine, where calls share them."""
    from thesis_assets.launch.slurm_cluster import presets_with

    if platform.settings.launcher == "local":
        return None
    return presets_with(platform.settings.slurm_presets)[place.preset].cores


def jobs_table(step: StepExecutionContext, calls: Sequence[Call[Any]]) -> Metadata:
    """Numbers and logs of the calls' jobs on a cluster; those of a step that fails stand in its log."""
    records = {call.name: read_json(call.place.record, JobRecord) for call in calls if call.place.record.is_file()}
    rows = [(name, record.scheduler_id or "", record.stdout, record.stderr) for name, record in records.items()]
    for name, number, stdout, _ in rows:
        step.log.info(f"{name}: Slurm job {number}, {stdout}")
    return {"jobs": table(("call", "Slurm job", "stdout", "stderr"), rows)}


# --- what surrounds it ------------------------------------------------------------------------------------------------


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
