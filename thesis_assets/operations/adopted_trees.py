"""Taking in what others made: registering in the history what was adopted, with the outcome of every check, and giving records to
what a version without made-from records left.

Does not belong here: finding or linking anything (the adoption room), or what is known of an older output (`Unit.older` of its room).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import stops
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import LEVELS, NODES, look_at
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.graph.states import Plan, cells_of_level
from thesis_assets.operations.check_outcomes import evaluations_of
from thesis_assets.operations.data_versions import made_outside
from thesis_assets.operations.execution import RunOutcome, execute, make_run, works_of
from thesis_assets.provenance import take_over

ADOPTED_FROM = "adopted from"


def register_snapshot(
    platform: Platform, instance: dg.DagsterInstance, exp_name: str, origin: str, report: Callable[[str], None]
) -> list[str]:
    """Register a snapshot and its runs as materialized, and make every check of them, in one run of the history.

    Returns:
        The blocking checks that failed, each with what it found.

    Raises:
        ThesisAssetsError: the experiment's scenes are not on disk.
    """
    cells = list(_cells(platform, exp_name))
    take_over_cells(platform, cells, report)
    plan = Plan(platform, instance)
    failed: list[str] = []

    # Checks are told within a run: outside of one the event log keeps one outcome of a check for ever.
    @dg.op(name="adopt_snapshot", out=dg.Out(dg.Nothing))
    def step(context: dg.OpExecutionContext) -> None:
        for asset, cell in cells:
            if plan.state(asset, cell).state != "made":
                context.log_event(_materialization(platform, instance, asset, cell, origin))
            if asset not in CHECKS:
                continue
            report(f"checking {asset} of {cell}")
            for evaluation in evaluations_of(platform, asset, cell):
                context.log_event(evaluation)  # type: ignore[arg-type]
                if stops(evaluation):
                    failed.append(f"{asset}.{evaluation.check_name} of {cell}: {evaluation.description}")

    @dg.job(name="adopt", executor_def=dg.in_process_executor)
    def job() -> None:
        step()

    make_run(instance, job)
    return failed


def _materialization(
    platform: Platform, instance: dg.DagsterInstance, asset: str, cell: Cell, origin: str
) -> dg.AssetMaterialization:
    metadata: dict[str, Any] = {ADOPTED_FROM: dg.MetadataValue.path(origin)}
    return made_outside(platform, instance, asset, cell, metadata)


def _cells(platform: Platform, exp_name: str) -> Iterator[tuple[str, Cell]]:
    """What a snapshot has of the graph, in its order."""
    spec = platform.experiments.read(exp_name)
    for name in platform.scene_names(spec):
        yield "scene_samples", Cell(exp_name, scene_name=name)
    for asset in ("sample_set", "split_manifests", "difix_data"):
        yield asset, Cell(exp_name)
    for run_name in spec.runs:
        cell = Cell(exp_name, run_name=run_name)
        if look_at(platform, "tuned_checkpoint", cell).state in ("made", "stale"):
            yield "tuned_checkpoint", cell


def evaluate_adopted(
    definitions: dg.Definitions,
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    run_names: Iterable[str],
) -> list[RunOutcome]:
    """Take over the evaluated trees of an experiment, as its `evaluation` part says, with all checks; what is current is left.

    Args:
        run_names: those that have trees.
    """
    level = next(level for level in LEVELS if level.job == "evaluate")
    plan = Plan(platform, instance)
    cells = [Cell(exp_name, run_name=run_name) for run_name in run_names]
    wanted = {
        cell: plan.assets_to_make(level, cell, lambda state: state.state not in ("made", "absent")) for cell in cells
    }
    works = works_of(instance, level, {cell: assets for cell, assets in wanted.items() if assets})
    return [execute(definitions, instance, work) for work in works]


def take_over_experiment(platform: Platform, exp_name: str, report: Callable[[str], None]) -> int:
    """Give records to all outputs of an experiment that have none, in the graph's order. Ended early, it goes on from there.

    Returns:
        How many were taken over.
    """
    count, platform = 0, OneLook.of(platform)
    for level in LEVELS:
        if level.kind == "none":
            continue
        try:
            cells = cells_of_level(platform, level, exp_name, (), ())
        except ThesisAssetsError:
            break  # its patterns match no scene: whoever makes the level says so
        count += take_over_cells(platform, ((asset, cell) for asset in level.assets for cell in cells), report)
    return count


def take_over_cells(platform: Platform, cells: Iterable[tuple[str, Cell]], report: Callable[[str], None]) -> int:
    """The same for some cells, in the order given: what one is made from comes before it."""
    count = 0
    for asset, cell in cells:
        try:
            units = NODES[asset].units(platform, cell)
        except ThesisAssetsError:
            continue  # it cannot be made, and so was not: whoever makes it says why
        for unit in units:
            if take_over(unit, platform.contents) is not None:
                count += 1
                report(f"read in full, as an older version left it without a record: {unit.name}")
    return count
