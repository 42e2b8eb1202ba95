"""What a backfill of one experiment would make: which cells, why, what waits, and how long it took before.

Belongs here: the plan, shown before anything acts. Does not belong here: what a cell is (`graph.states`), handing the plan to a
daemon or running it (`execution`).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import LEVELS, NODES, Level, upstream_cells
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.states import LEVEL_OF, WORK, CellState, Pair, Plan, State
from thesis_assets.operations.cost_estimates import Cost, PastWork

Mode = Literal["missing", "stale", "all"]
TAKEN: dict[Mode, tuple[State, ...]] = {
    "missing": ("missing", "damaged", "failed"),
    "stale": ("stale",),
    "all": ("made", "missing", "stale", "damaged", "failed"),
}
PLANNED_LEVELS = tuple(level for level in LEVELS if level.job not in ("observe_scenes", "publish"))


@dataclass(frozen=True)
class PlannedCell:
    """One asset in one cell that the backfill makes."""

    level: Level
    asset: str
    cell: Cell
    why: str
    """Its state, or `follows <asset>`."""
    is_repair: bool
    """Files alone come back: nothing follows from it."""
    cost: Cost | None
    """By past work, or a probe; None where there is neither to go by."""

    @property
    def seconds(self) -> float | None:
        return None if self.cost is None else self.cost.seconds


@dataclass(frozen=True)
class BackfillPlan:
    """The cells in the graph's order, and by cell why others are not in it."""

    exp_name: str
    mode: Mode
    cells: tuple[PlannedCell, ...]
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def gpu_hours(self) -> float:
        """Of the assets that use a GPU, as far as there is past work or a probe to go by."""
        return sum(cost.gpu_seconds for cost in self.costs) / 3600

    @property
    def hours(self) -> float:
        """From the first to the last, the cluster's queue aside."""
        return sum(cost.seconds for cost in self.costs) / 3600

    @property
    def costs(self) -> list[Cost]:
        """Those that are known."""
        return [each.cost for each in self.cells if each.cost is not None]

    @property
    def pairs(self) -> list[Pair]:
        return [(each.asset, each.cell) for each in self.cells]

    @property
    def unknown(self) -> list[str]:
        """Assets without either, in the graph's order."""
        return list(dict.fromkeys(each.asset for each in self.cells if each.cost is None))


def plan_backfill(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    mode: Mode,
    ready: ReadyScenes,
    *,
    runs: Sequence[str] = (),
    by_person: bool = True,
) -> BackfillPlan:
    """Plan one experiment: the cells in the states that the mode names, and everything that follows from them.

    Args:
        by_person: False: what failed, and was not changed since, is left to a person.

    Raises:
        InvalidExperiment: there is no such experiment, its file is not valid, or its patterns match no scene.
        dagster.Failure: it declares no such run.
    """
    platform.refuse_no_match(platform.experiments.read(exp_name))
    platform.refuse_undeclared([Cell(exp_name, run_name=run) for run in runs])
    plan, past = Plan(platform, instance, ready), PastWork(platform, instance)
    taken = set(TAKEN[mode]) - (set() if by_person else {"failed"})
    planned: dict[Pair, PlannedCell] = {}
    waiting: dict[str, str] = {}
    for state in plan.of_experiment(exp_name, runs, levels=PLANNED_LEVELS):
        asset, cell = state.asset, state.cell
        upstream = upstream_cells(platform, NODES[asset], cell)
        changing = (each for each in upstream if each in planned and not planned[each].is_repair)
        why = _why(state, taken, next((name for name, _ in changing), None))
        if why is None:
            continue
        obstacle = _obstacle(plan, state, taken, upstream, planned)
        if obstacle is not None:
            waiting.setdefault(str(cell), f"{asset}: {obstacle}")
        else:
            cost, is_repair = past.cost(asset, cell), state.is_repair and why == state.work
            planned[asset, cell] = PlannedCell(LEVEL_OF[asset], asset, cell, why, is_repair, cost)
    if any(asset == "evaluation_manifest" for asset, _ in planned):
        board = ("leaderboard", Cell())
        why, cost = "follows evaluation_manifest", past.cost(*board)
        planned[board] = PlannedCell(LEVEL_OF["leaderboard"], *board, why, False, cost)
    return BackfillPlan(exp_name, mode, tuple(planned.values()), waiting)


def _why(state: CellState, taken: set[State], followed: str | None) -> str | None:
    """Why a cell is in question; None where the mode does not ask for it."""
    if state.state == "absent":
        return None
    if state.state in taken or state.work in taken - {"made"}:
        return state.work if state.state != "made" else "asked for"
    return None if followed is None else f"follows {followed}"


def _obstacle(
    plan: Plan, state: CellState, taken: set[State], upstream: Sequence[Pair], planned: Collection[Pair]
) -> str | None:
    """Why a cell is not made now: its state, or something above it that is behind and that this backfill does not make."""
    waits_for = plan.waits_for(state)
    follows = bool(waits_for) and all(pair in planned for pair in waits_for)
    if state.by_force or not (follows or state.state in {"made", *WORK, *taken}):
        return state.told + (f": `{state.mend}`" if state.mend else "")
    for name, cell in (pair for pair in upstream if pair not in planned):
        above = plan.state(name, cell)
        if above.state not in ("made", "absent"):
            return f"{name}, which it is made from, is {above.told}"
    return None


def by_asset(plan: BackfillPlan) -> Iterator[tuple[str, list[PlannedCell]]]:
    """The planned cells of each asset, in the graph's order."""
    groups: dict[str, list[PlannedCell]] = {}
    for each in plan.cells:
        groups.setdefault(each.asset, []).append(each)
    yield from groups.items()
