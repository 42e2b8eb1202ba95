"""Making a planned backfill come true: through the daemon where one runs, else level by level in this process."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.utils import make_new_backfill_id

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.history import ASKED_BY
from thesis_assets.graph.nodes import Level
from thesis_assets.operations.backfill_plan import BackfillPlan
from thesis_assets.operations.execution import Outcome, Work, execute, works_of


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
) -> Iterator[Outcome]:
    """Make the planned cells in this process, level after level; ends after the first run that fails."""
    for work in works_of_plan(instance, plan):
        on_work(work)
        outcome = execute(definitions, instance, work)
        yield outcome
        if not outcome.success:
            return


def works_of_plan(instance: dg.DagsterInstance, plan: BackfillPlan) -> list[Work]:
    """The planned cells as runs, level after level."""
    wanted: dict[Level, dict[Cell, list[str]]] = {}
    for each in plan.cells:
        wanted.setdefault(each.level, {}).setdefault(each.cell, []).append(each.asset)
    return [work for level, cells in wanted.items() for work in works_of(instance, level, cells)]
