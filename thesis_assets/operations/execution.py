"""Executing planned cells: in this process, a run for each range of neighbours, or handed over to the daemon where one runs.

Does not belong here: what is to be made (`graph.states`, `backfill_plan`), or printing.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.execution.execute_in_process import merge_run_tags
from dagster._core.execution.job_execution_result import JobExecutionResult
from dagster._core.storage.tags import MAX_RETRIES_TAG
from dagster._core.utils import make_new_backfill_id, make_new_run_id

from thesis_assets.graph.cells import EXP_BY_SCENE, Cell
from thesis_assets.graph.check_history import MEND, stops
from thesis_assets.graph.checks import checks_job
from thesis_assets.graph.history import ASKED_BY, RANGE_END, RANGE_START, History
from thesis_assets.graph.nodes import LEVELS, Level
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.run_processes import holder_tags
from thesis_assets.graph.states import assets_of, cells_of_level
from thesis_assets.operations.backfill_plan import BackfillPlan
from thesis_assets.operations.failures import failure_reason

CODE_LOCATION = "thesis_assets.definitions"
"""What `-m thesis_assets.definitions` loads. Its name is the module's: a web server shows the runs of a location of that name."""
BACKFILL_DAEMON = "BACKFILL"
HEARTBEAT_SECONDS = 90.0
"""A daemon reports every 30 s; one silent for longer is not there. What `thesis-assets ui` started is unheard of at once when it ends."""


@dataclass(frozen=True)
class Work:
    """One run to make: assets of one level, over one cell or a contiguous range of cells."""

    level: Level
    assets: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to."""

    work: Work
    run_id: str
    success: bool
    errors: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """`asset.check: what it found` of checks that failed and block nothing."""
    n_checks: int = 0


def contiguous(instance: dg.DagsterInstance, cells: Sequence[Cell]) -> Iterator[tuple[Cell, ...]]:
    """Cells grouped into ranges of neighbouring keys of one experiment: a single run takes one range."""
    keys = EXP_BY_SCENE.get_partition_keys(dynamic_partitions_store=instance)
    order = {str(key): place for place, key in enumerate(keys)}
    group: list[Cell] = []
    for cell in sorted(cells, key=lambda cell: order[str(cell.key)]):
        is_next = group and order[str(cell.key)] == order[str(group[-1].key)] + 1
        if group and not (is_next and cell.exp_name == group[-1].exp_name):
            yield tuple(group)
            group = []
        group.append(cell)
    if group:
        yield tuple(group)


def works_of(instance: dg.DagsterInstance, level: Level, wanted: Mapping[Cell, Sequence[str]]) -> list[Work]:
    """The runs that make some cells of a level: neighbouring scenes share one."""
    if level.kind == "exp_by_scene":
        return [Work(level, level.assets, group) for group in contiguous(instance, list(wanted))]
    return [Work(level, tuple(assets), (cell,)) for cell, assets in wanted.items()]


def run_of(definitions: dg.Definitions, work: Work, *, force: bool = False) -> dict[str, Any]:
    """What `make_run` is given for a run.

    Args:
        force: scenes are exported anew, also over samples of another generation section.
    """
    first, last = work.cells[0], work.cells[-1]
    ranged = len(work.cells) > 1
    anew = force and "scene_samples" in work.assets
    return {
        "job": definitions.resolve_job_def(work.level.job),
        "partition_key": None if ranged else first.key,
        "tags": {RANGE_START: str(first.key), RANGE_END: str(last.key)} if ranged else {},
        "config": {"ops": {"scene_samples": {"config": {"force": True}}}} if anew else {},
        "assets": [dg.AssetKey(name) for name in work.assets],
    }


def execute(
    definitions: dg.Definitions, instance: dg.DagsterInstance, work: Work, *, force: bool = False
) -> RunOutcome:
    """Make one run in this process, on the persistent instance. `force`: as of `run_of`."""
    return run_outcome(work, make_run(instance, **run_of(definitions, work, force=force)))


def run_outcome(work: Work, result: JobExecutionResult) -> RunOutcome:
    """What a run came to, with its checks."""
    evaluations = result.get_asset_check_evaluations()
    return RunOutcome(
        work=work,
        run_id=result.run_id,
        success=result.success,
        errors=[failure_reason(event) for event in result.get_step_failure_events()],
        failed_checks=[_told(each) for each in evaluations if stops(each)],
        warnings=[_told(each) for each in evaluations if not each.passed and not stops(each)],
        n_checks=len(evaluations),
    )


def check_again(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    level: Level,
    asset: str,
    cell: Cell,
    names: Iterable[str],
) -> RunOutcome:
    """Make checks of a cell again that failed last: what they looked at may be mended, with nothing to make anew."""
    return run_outcome(Work(level, (asset,), (cell,)), make_checks(definitions, instance, asset, cell, names))


def works_of_checks(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    assets: Collection[str],
    runs: Sequence[str] = (),
    scenes: Sequence[str] = (),
) -> Iterator[tuple[str, Cell, bool]]:
    """The (asset, cell)s of one experiment whose checks can be made, and whether the cell was ever materialized.

    Where runs or scenes are named, only what has a partition of them.
    """
    history = History(instance)
    wanted = {"exp_by_run": runs, "exp_by_scene": scenes}
    for level in LEVELS:
        if level.kind == "none" or ((runs or scenes) and not wanted.get(level.kind)):
            continue
        for cell in cells_of_level(platform, level, exp_name, runs, scenes):
            for asset in assets_of(platform, level, cell):
                if asset in assets:
                    yield asset, cell, cell.key in history.made(asset)


def make_checks(
    definitions: dg.Definitions, instance: dg.DagsterInstance, asset: str, cell: Cell, names: Iterable[str]
) -> JobExecutionResult:
    """Make some checks of one asset in one cell, in a run of the asset's job of checks; nothing is materialized."""
    keys = {dg.AssetCheckKey(dg.AssetKey(asset), name) for name in names}
    job = definitions.resolve_job_def(checks_job(asset)).get_subset(asset_check_selection=keys)
    return make_run(instance, job, partition_key=cell.key)


def make_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, object] | None = None,
    assets: Sequence[dg.AssetKey] = (),
) -> JobExecutionResult:
    """What `JobDefinition.execute_in_process` does, for a run of this command line that has an origin.

    The UI leaves a run without one out of its timeline and of its job's history, and a failure sensor passes over it.

    Raises:
        KeyboardInterrupt: a step was interrupted.
    """
    from dagster._core.remote_origin import RemoteRepositoryOrigin
    from dagster._core.workspace.load_target import ModuleTarget

    run_id = make_new_run_id()
    run_config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})}
    # A daemon starts a run again whose process is gone; this one's is the person's to start again, and two would meet.
    tags = {**(tags or {}), **holder_tags(run_id), MAX_RETRIES_TAG: "0"}
    target = ModuleTarget(module_name=CODE_LOCATION, attribute=None, working_directory=None, location_name=None)
    (location,) = target.create_origins()
    run = instance.create_run_for_job(
        job,
        run_id=run_id,
        run_config=run_config,
        tags=merge_run_tags(job, partition_key, tags, assets, instance, run_config),
        asset_selection=frozenset(assets) or None,
        remote_job_origin=RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(job.name),
    )
    result = execute_run(InMemoryJob(job), run, instance)
    if any(_was_interrupted(event) for event in result.get_step_failure_events()):
        raise KeyboardInterrupt  # Dagster ends the run for a signal and goes on; whoever sent it means the whole command
    return result


def _told(evaluation: dg.AssetCheckEvaluation) -> str:
    """What a check found, and what mends it."""
    said = f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}: {evaluation.description}"
    remedy = evaluation.metadata.get(MEND)
    return f"{said}\n    to mend it: {remedy.value}" if remedy is not None else said


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterExecutionInterruptedError"


def levels_until(until: str | None) -> list[Level]:
    """The levels up to the one that holds an asset.

    Raises:
        KeyError: there is no such asset.
    """
    if until is None:
        return list(LEVELS)
    last = next((place for place, level in enumerate(LEVELS) if until in level.assets), None)
    if last is None:
        raise KeyError(until)
    return list(LEVELS[: last + 1])


def hand_over(instance: dg.DagsterInstance, graph: BaseAssetGraph[Any], plan: BackfillPlan, *, asked_by: str) -> str:
    """Write one asset backfill over all levels; the daemon makes the runs, each level after those it is made from.

    Returns:
        The backfill's id, as the UI shows it.
    """
    from dagster._core.execution.backfill import PartitionBackfill  # a tenth of the time that the graph takes to load

    pairs = {AssetKeyPartitionKey(dg.AssetKey(each.asset), each.cell.key) for each in plan.cells}
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=make_new_backfill_id(),
        backfill_timestamp=time.time(),
        tags={ASKED_BY: asked_by},
        dynamic_partitions_store=instance,
        asset_graph_subset=AssetGraphSubset.from_asset_partition_set(pairs, graph),
        title=f"{plan.exp_name}: {plan.mode}",
        description=f"{len(plan.cells)} cells of {plan.exp_name}, planned as {plan.mode}",
        run_config=None,
    )
    instance.add_backfill(backfill)
    return str(backfill.backfill_id)


def run_here(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    plan: BackfillPlan,
    on_work: Callable[[Work], None],
) -> Iterator[RunOutcome]:
    """Make the planned cells in this process, level after level; ends after the first that fails. A tuning run that fails leaves the
    others, and alone has no next level."""
    failed: set[str] = set()
    for work in works_of_plan(instance, plan):
        if failed & {cell.run_name for cell in work.cells}:
            continue
        on_work(work)
        outcome = execute(definitions, instance, work)
        yield outcome
        failed |= {cell.run_name for cell in work.cells if not outcome.success}
        if "" in failed:
            return


def works_of_plan(instance: dg.DagsterInstance, plan: BackfillPlan) -> list[Work]:
    """The planned cells as runs, level after level."""
    wanted: dict[Level, dict[Cell, list[str]]] = {}
    for each in plan.cells:
        wanted.setdefault(each.level, {}).setdefault(each.cell, []).append(each.asset)
    return [work for level, cells in wanted.items() for work in works_of(instance, level, cells)]


def daemon_runs(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that makes backfills has been heard of lately."""
    heartbeat = instance.get_daemon_heartbeats().get(BACKFILL_DAEMON)
    return heartbeat is not None and time.time() - heartbeat.timestamp < HEARTBEAT_SECONDS
