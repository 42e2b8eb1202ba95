"""Running one level of the graph in this process: which cells are not current, and a run for each.

Belongs here: what `thesis-assets run` does where no daemon runs. Does not belong here: printing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.utils import make_new_run_id

from thesis_assets.defs.check_history import failed_blocking_checks
from thesis_assets.defs.dead_runs import holder_tags
from thesis_assets.defs.failures import failure_reason
from thesis_assets.defs.graph import NODES, is_current
from thesis_assets.defs.history import RANGE_END, RANGE_START
from thesis_assets.defs.jobs import LEVELS, Level
from thesis_assets.defs.partitions import EXP_BY_SCENE, Cell
from thesis_assets.defs.platform import Platform

WITH_DATA = ("export_scenes", "prepare_data", "tune", "publish")
OF_DATA = ("triplet_recording",)
"""Levels, and assets of others, that an experiment of evaluated trees alone does not have."""


@dataclass(frozen=True)
class Work:
    """One run to make: assets of one level, over one cell or a contiguous range of cells."""

    level: Level
    assets: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    work: Work
    run_id: str
    success: bool
    errors: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """`asset.check: what it found` of checks that failed and block nothing."""
    n_checks: int = 0


def cells_of_level(
    platform: Platform, level: Level, exp_name: str, runs: Sequence[str], scenes: Sequence[str]
) -> list[Cell]:
    """The declared cells of one experiment in one level, narrowed to some runs and scenes where any are named."""
    spec = platform.experiments.read(exp_name)
    if spec.evaluation_only and level.job in WITH_DATA:
        return []
    match level.kind:
        case "none":
            return [Cell()]
        case "exp":
            return [Cell(exp_name)]
        case "exp_by_run":
            return [Cell(exp_name, run_name=run) for run in spec.runs if not runs or run in runs]
        case "exp_by_scene":
            names = platform.scene_names(spec)
            return [Cell(exp_name, scene_name=name) for name in names if not scenes or name in scenes]


def assets_of(platform: Platform, level: Level, cell: Cell) -> tuple[str, ...]:
    """The level's assets that a cell has."""
    if not (cell.exp_name and platform.spec(cell).evaluation_only):
        return level.assets
    return tuple(asset for asset in level.assets if asset not in OF_DATA)


def assets_to_make(
    platform: Platform,
    instance: dg.DagsterInstance,
    level: Level,
    cell: Cell,
    until: str | None,
    *,
    and_refused: bool = False,
) -> tuple[str, ...]:
    """The level's assets that are not current in a cell, and those of the level that follow from them.

    Args:
        and_refused: those too that are current, and of which a blocking check failed last.
    """
    made: list[str] = []
    for asset in assets_of(platform, level, cell):
        if (
            any(upstream in made for upstream in NODES[asset].upstream)
            or not is_current(platform, instance, asset, cell)
            or (and_refused and failed_blocking_checks(instance, (asset,), cell.key))
        ):
            made.append(asset)
        if asset == until:
            break
    return tuple(made)


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


def plan_level(
    platform: Platform,
    instance: dg.DagsterInstance,
    level: Level,
    cells: Sequence[Cell],
    until: str | None = None,
) -> list[Work]:
    """The runs that one level still needs, given what the levels before it have made.

    What a blocking check refused is made and checked again: whoever passed over it as current would go on past the check.
    """
    needed = {
        cell: assets
        for cell in cells
        if (assets := assets_to_make(platform, instance, level, cell, until, and_refused=True))
    }
    if level.kind == "exp_by_scene":
        return [Work(level, level.assets, group) for group in contiguous(instance, list(needed))]
    return [Work(level, assets, (cell,)) for cell, assets in needed.items()]


def execute(definitions: dg.Definitions, instance: dg.DagsterInstance, work: Work, *, replace: bool = False) -> Outcome:
    """Make one run in this process, on the persistent instance.

    Args:
        replace: scenes may be exported anew over samples of another generation section.
    """
    first, last = work.cells[0], work.cells[-1]
    ranged = len(work.cells) > 1
    run_id = make_new_run_id()
    result = definitions.resolve_job_def(work.level.job).execute_in_process(
        instance=instance,
        run_id=run_id,
        partition_key=None if ranged else first.key,
        tags={
            **holder_tags(run_id),
            **({RANGE_START: str(first.key), RANGE_END: str(last.key)} if ranged else {}),
        },
        asset_selection=[dg.AssetKey(name) for name in work.assets],
        run_config={
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            **(
                {"ops": {"scene_samples": {"config": {"replace": True}}}}
                if replace and "scene_samples" in work.assets
                else {}
            ),
        },
        raise_on_error=False,
    )
    failures = result.get_step_failure_events()
    if any(_was_interrupted(event) for event in failures):
        raise KeyboardInterrupt  # Dagster ends the run for a signal and goes on; whoever sent it means the whole command
    evaluations = result.get_asset_check_evaluations()
    return Outcome(
        work=work,
        run_id=result.run_id,
        success=result.success,
        errors=[failure_reason(event) for event in failures],
        failed_checks=[_told(each) for each in evaluations if not each.passed and each.blocking],
        warnings=[_told(each) for each in evaluations if not each.passed and not each.blocking],
        n_checks=len(evaluations),
    )


def _told(evaluation: dg.AssetCheckEvaluation) -> str:
    return f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}: {evaluation.description}"


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
