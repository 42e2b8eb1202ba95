"""What a backfill of one experiment would make: which cells, why, what waits, and how long it took before.

Belongs here: the plan, shown before anything acts. Does not belong here: handing it to a daemon or running it
(`backfill_runs`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg

from thesis_assets.defs.graph import NODES, is_current, look_at, upstream_cells
from thesis_assets.defs.history import History
from thesis_assets.defs.jobs import LEVELS, Level
from thesis_assets.defs.levels import assets_of, cells_of_level
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.past_work import PastWork
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.policy import GPU_ASSETS
from thesis_assets.defs.ready_scenes import ReadyScenes
from thesis_assets.defs.report_pages import CHECK_REPORT
from thesis_assets.defs.wishes import EXPORT, PREPARE

Mode = Literal["missing", "stale", "all"]
Pair = tuple[str, Cell]
PLANNED_LEVELS = tuple(level for level in LEVELS if level.job not in ("observe_scenes", "publish"))


@dataclass(frozen=True)
class PlannedCell:
    """One asset in one cell that the backfill makes."""

    level: Level
    asset: str
    cell: Cell
    why: str
    """`missing`, `stale`, `asked for`, or `follows <asset>`."""
    seconds: float | None
    """By past work; None where there is none to go by."""


@dataclass(frozen=True)
class BackfillPlan:
    """The cells in the graph's order, and by cell why others are not in it."""

    exp_name: str
    mode: Mode
    cells: tuple[PlannedCell, ...]
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def gpu_hours(self) -> float:
        """Of the assets that use a GPU, as far as there is past work to go by."""
        return sum(each.seconds or 0.0 for each in self.cells if each.asset in GPU_ASSETS) / 3600

    @property
    def unknown(self) -> list[str]:
        """Assets without past work, in the graph's order."""
        return list(dict.fromkeys(each.asset for each in self.cells if each.seconds is None))


def plan_backfill(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    mode: Mode,
    ready: ReadyScenes,
    *,
    runs: Sequence[str] = (),
) -> BackfillPlan:
    """Plan one experiment: the cells that the mode names, and everything that follows from them.

    What is at work already, a scene that is not complete, and frozen data that would change wait, with all that follows.

    Raises:
        InvalidExperiment: there is no such experiment, its file is not valid, or its patterns match no scene.
        dagster.Failure: it declares no such run.
    """
    platform.refuse_no_match(platform.experiments.read(exp_name))
    platform.refuse_undeclared([Cell(exp_name, run_name=run) for run in runs])
    planner = _Planner(platform, instance, exp_name, mode, ready)
    for level in PLANNED_LEVELS:
        for cell in cells_of_level(platform, level, exp_name, runs, ()):
            for asset in assets_of(platform, level, cell):
                planner.look(level, asset, cell)
    return BackfillPlan(exp_name, mode, tuple(planner.planned.values()), planner.waiting)


class _Planner:
    """Goes through the cells in the graph's order and remembers what it has planned and what waits."""

    def __init__(
        self, platform: Platform, instance: dg.DagsterInstance, exp_name: str, mode: Mode, ready: ReadyScenes
    ) -> None:
        self._platform, self._instance, self._mode, self._ready = platform, instance, mode, ready
        self._spec = platform.experiments.read(exp_name)
        self._history = History(instance)
        self._past = PastWork(platform, instance)
        self._current: dict[Pair, bool] = {}
        self._waiting_pairs: dict[Pair, str] = {}
        self.planned: dict[Pair, PlannedCell] = {}
        self.waiting: dict[str, str] = {}

    def look(self, level: Level, asset: str, cell: Cell) -> None:
        if level.kind == "none" and asset == CHECK_REPORT:
            return  # it follows the event log, not the graph
        upstream = [pair for pair in upstream_cells(self._platform, NODES[asset], cell) if self._concerns(pair)]
        why = self._why(asset, cell, upstream)
        if why is None:
            return
        obstacle = self._obstacle(level, asset, cell, upstream)
        if obstacle is not None:
            self._waiting_pairs[asset, cell] = obstacle
            self.waiting.setdefault(str(cell), f"{asset}: {obstacle}")
            return
        self.planned[asset, cell] = PlannedCell(level, asset, cell, why, self._past.seconds(asset, cell))

    def _concerns(self, pair: Pair) -> bool:
        """The leaderboard is made from all experiments' evaluations; others than this one's do not hold it up."""
        return pair[1].exp_name in ("", self._spec.exp_name)

    def _why(self, asset: str, cell: Cell, upstream: Sequence[Pair]) -> str | None:
        followed = next((name for name, each in upstream if (name, each) in self.planned), None)
        held = any(pair in self._waiting_pairs for pair in upstream)
        if followed is not None:
            return f"follows {followed}"
        if cell == Cell():
            return None
        if self._mode == "all":
            return "asked for"
        made = cell.key in self._history.made(asset)
        if self._mode == "missing":
            whole = made and look_at(self._platform, asset, cell).state in ("made", "stale")
            return None if whole else "missing"
        return "stale" if made and not held and not self._is_current((asset, cell)) else None

    def _obstacle(self, level: Level, asset: str, cell: Cell, upstream: Sequence[Pair]) -> str | None:
        if self._history.is_busy(asset, cell.key):
            return "a run or a backfill is making it"
        for name, each in upstream:
            if (name, each) in self._waiting_pairs:
                first = self._waiting_pairs[name, each]
                # What everything waits for in the end, not the whole chain down to it.
                return first if " waits: " in first else f"{name} waits: {first}"
        if level in (EXPORT, PREPARE) and self._mode != "all" and self._platform.is_frozen(cell.exp_name):
            return f"its data is frozen; `thesis-assets fork --exp {cell.exp_name} --as <new name>` may take the change"
        if level is EXPORT and (why := self._ready.why_not(self._spec, cell.scene_name)) is not None:
            return why
        if level.kind == "none":
            return None
        behind = next(
            (
                name
                for name, each in upstream
                if (name, each) not in self.planned and not self._is_current((name, each))
            ),
            None,
        )
        return None if behind is None else f"{behind}, which it is made from, is not current"

    def _is_current(self, pair: Pair) -> bool:
        if pair not in self._current:
            self._current[pair] = is_current(self._platform, self._instance, *pair)
        return self._current[pair]


def by_asset(plan: BackfillPlan) -> Iterator[tuple[str, list[PlannedCell]]]:
    """The planned cells of each asset, in the graph's order."""
    groups: dict[str, list[PlannedCell]] = {}
    for each in plan.cells:
        groups.setdefault(each.asset, []).append(each)
    yield from groups.items()
