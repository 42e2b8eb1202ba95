"""Which cheap assets follow by themselves when what they are made from has been made, and when exactly.

Only what costs a CPU seconds is here: a GPU run starts because a person, a schedule or a declared run asked.
Concept: https://docs.dagster.io/guides/automate/declarative-automation
"""

import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import AutomationCondition as When
from dagster._core.asset_graph_view.entity_subset import EntitySubset  # no public name yet

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import NODES, latest_metadata, upstream_cells
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.run_processes import IN_PROGRESS
from thesis_assets.graph.states import Plan, State
from thesis_assets.operations.report_pages import CHECK_REPORT, HISTORY_READ_AT
from thesis_assets.operations.run_requests import LOOK_SECONDS

MORNING = "0 6 * * *"
FOLLOWING = ("sample_set", "split_manifests", "difix_data", "evaluation_manifest")
"""Made for a cell as soon as what it is made from is there."""
STANDS_STILL: tuple[State, ...] = ("failed", "blocked", "refused")


class DeclaredInputsAreMade(When[dg.AssetKey]):
    """Every *declared* upstream cell is there, or is requested in the same tick.

    Dagster's own condition counts every cell of a product of partitions; undeclared ones never come. A look at a cell is one at the
    files of all that it is made from: what a tick has no time for stays a candidate, and comes first in the next.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._look: tuple[datetime, Plan] | None = None
        self._last_looked: dict[str, str] = {}
        """By asset: where the next tick goes on. A process that starts anew begins at the first."""

    @property
    def name(self) -> str:
        return "declared_inputs_are_made"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        plan = self._plan_of_tick(context)
        node = NODES[context.key.to_user_string()]
        ready = set()
        end = context.evaluation_time.timestamp() + LOOK_SECONDS
        for place, key in enumerate(self._in_turn(node.name, context.candidate_subset)):
            if place > 0 and time.time() > end:
                break
            self._last_looked[node.name] = key
            try:
                cell = self._declared(Cell.parse(node.kind, key))
                pairs = upstream_cells(self._platform, node, cell)
                if plan.state(node.name, cell).state in STANDS_STILL:
                    continue
            except (ThesisAssetsError, dg.Failure):
                continue  # a withdrawn experiment, or a file that is refused: registering says so
            if pairs and all(
                each.key in plan.history.made(name) or _requested(context, name, each) for name, each in pairs
            ):
                ready.add(key)
        subset = context.candidate_subset.compute_intersection_with_partition_keys(ready)
        return dg.AutomationResult(context=context, true_subset=subset)

    def _plan_of_tick(self, context: dg.AutomationContext[dg.AssetKey]) -> Plan:
        """One look for all assets that are evaluated together: what they are made from is mostly the same."""
        if self._look is None or self._look[0] != context.evaluation_time:
            self._look = context.evaluation_time, Plan(self._platform, context.asset_graph_view.instance)
        return self._look[1]

    def _in_turn(self, asset: str, candidates: EntitySubset[dg.AssetKey]) -> list[str]:
        """All candidates, from the one on that comes after the last that was looked at."""
        last = self._last_looked.get(asset, "")
        keys = map(str, candidates.expensively_compute_partition_keys())
        return sorted(keys, key=lambda key: (key <= last, key))

    def _declared(self, cell: Cell) -> Cell:
        self._platform.refuse_undeclared([cell])
        return cell


def _requested(context: dg.AutomationContext[dg.AssetKey], asset: str, cell: Cell) -> bool:
    subset = context.request_subsets_by_key.get(dg.AssetKey(asset))
    return subset is not None and cell.key in subset.expensively_compute_partition_keys()


class ChecksHaveRun(When[dg.AssetKey]):
    """A check has run, or a run that was to make checks has failed, since the history was read for the check page.

    Times are compared, never ids: in SQLite those of check events count within a run, those of materializations over all runs.
    """

    @property
    def name(self) -> str:
        return "checks_have_run"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        moved = _checks_moved(context.asset_graph_view.instance)
        subset = context.candidate_subset if moved else context.get_empty_subset()
        return dg.AutomationResult(context=context, true_subset=subset)


def _checks_moved(instance: dg.DagsterInstance) -> bool:
    made = latest_metadata(instance, CHECK_REPORT, Cell())
    if made is None:
        keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, names in CHECKS.items() for name in names]
        return bool(instance.event_log_storage.get_latest_asset_check_execution_by_key(keys))
    read_at = float(str(made.get(HISTORY_READ_AT, 0.0)))
    since = dg.RunsFilter(updated_after=datetime.fromtimestamp(read_at, UTC))
    records = [*instance.get_run_records(since), *instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS))]
    return any(_moved_checks(instance, record, read_at) for record in records)


def _moved_checks(instance: dg.DagsterInstance, record: dg.RunRecord, read_at: float) -> bool:
    run = record.dagster_run
    if run.asset_selection == {dg.AssetKey(CHECK_REPORT)}:
        return False
    if run.is_failure_or_canceled and (record.end_time or 0.0) > read_at:
        return True
    newest = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, limit=1, ascending=False
    ).records
    return bool(newest) and newest[0].timestamp > read_at


def conditions(platform: Platform) -> "dict[str, When[Any]]":
    """By asset: when it is made without anybody asking."""
    # `any_deps_updated` passes over an update by a run that makes this asset as well. What moves between a request and the next
    # tick is answered by neither; the sensor `stale_data` finds it by its digests.
    moved = When.any_deps_updated() | When.newly_missing() | (When.missing() & When.initial_evaluation())
    unanswered = moved.since(When.newly_requested() | When.newly_updated())
    at_rest = ~When.in_progress() & ~When.any_deps_in_progress()
    follow = (unanswered & at_rest & DeclaredInputsAreMade(platform)).with_label("declared inputs moved, all are there")
    return {
        **dict.fromkeys(FOLLOWING, follow),
        "leaderboard": (When.any_deps_updated().since_last_handled() & at_rest).with_label("an evaluation moved"),
        CHECK_REPORT: (ChecksHaveRun() & ~When.in_progress()).with_label("a check has run"),
        "scene_catalog": When.on_cron(MORNING),
    }


def cheap_assets_sensor(
    status: dg.DefaultSensorStatus, interval_seconds: int
) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions, in this code location, since two of them are its own."""
    return dg.AutomationConditionSensorDefinition(
        "cheap_assets",
        target=dg.AssetSelection.assets(*FOLLOWING, "leaderboard", CHECK_REPORT, "scene_catalog"),
        default_status=status,
        minimum_interval_seconds=interval_seconds,
        emit_backfills=False,
        use_user_code_server=True,
        description="Makes tables and pages as soon as what they are made from is there. Nothing that needs a GPU.",
    )
