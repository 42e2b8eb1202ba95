"""What sensors ask for: cells of the plan as run requests, and a sensor's cursor. Neighbouring scenes share a run.

Does not belong here: what a cell is (`graph.states`), when a sensor ticks (`sensors`).
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.attempts import WAS_LOST, attempts_at, read_attempt
from thesis_assets.graph.cells import PARTITIONS, Cell
from thesis_assets.graph.history import ASKED_BY, RANGE_END, RANGE_START
from thesis_assets.graph.nodes import LEVELS, Level, wanted_digest
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import LEVEL_OF, Plan, assets_of, cells_of_level
from thesis_assets.operations.execution import Work, works_of
from thesis_assets.storage import sha256_value

LOOK_SECONDS = 2.0
"""How long one tick looks at files; what is left comes in the next."""
EXPORT, PREPARE = (next(level for level in LEVELS if level.job == job) for job in ("export_scenes", "prepare_data"))
RUN_LEVELS = tuple(level for level in LEVELS if level.kind == "exp_by_run" and level.job != "publish")
Asked = dict[Level, dict[Cell, tuple[str, ...]]]


@dataclass
class Cursor:
    """What a sensor remembers from tick to tick."""

    scenes: dict[str, list[str]] = field(default_factory=dict)
    """See `ready_scenes.ReadyScenes.known`."""
    place: int = 0
    """Where a look at all cells, which takes several ticks, goes on."""

    @classmethod
    def parse(cls, cursor: str | None) -> "Cursor":
        """Read a cursor; one that is not ours counts as none."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):
            return cls()

    def dump(self) -> str:
        return json.dumps(self.__dict__, separators=(",", ":"))


@dataclass
class Tick:
    """What a look at some cells came to: those to ask for, and what is said of the others."""

    plan: Plan
    asked: Asked = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def look(self, level: Level, cell: Cell, *, asks: bool = True) -> None:
        """Ask for the assets of a level that are work in a cell, where nothing above them is; else say what they wait for.

        Args:
            asks: False: what would be asked for is named, with the command.
        """
        assets = self.plan.assets_to_make(level, cell, self.plan.is_next)
        if assets and asks:
            self.asked.setdefault(level, {})[cell] = assets
            return
        for state in (self.plan.state(asset, cell) for asset in assets_of(self.plan.platform, level, cell)):
            first = self.plan.comes_after(state) if state.is_work else None
            if first is not None:
                self.said.append(
                    f"{cell}: {state.asset} waits for {first.asset} of {first.cell}, which is {first.told}"
                )
                return
            if state.state not in ("made", "absent", "running"):
                mend = f" (`{state.mend}`)" if state.mend else ""
                self.said.append(f"{cell}: {state.asset} is {state.told}{mend}")
                return


def new_shards(plan: Plan, *, seconds: float) -> Tick:
    """The shards that open experiments declare and never had.

    Args:
        seconds: how long files are looked at; the cells that are left wait for the next tick.
    """
    tick = Tick(plan)
    end = time.monotonic() + seconds
    made = plan.history.made("scene_samples")
    for spec in plan.platform.readable_experiments():
        if plan.platform.is_frozen(spec.exp_name):
            continue
        try:
            cells = cells_of_level(plan.platform, EXPORT, spec.exp_name)
        except ThesisAssetsError as error:
            tick.said.append(f"{spec.exp_name} waits: {error}")
            continue
        missing = [cell for cell in cells if cell.key not in made]
        if spec.generation.on_new_scenes == "ignore" and len(missing) < len(cells):
            continue
        for n_looked_at, cell in enumerate(missing):
            if time.monotonic() > end or len(tick.asked.get(EXPORT, ())) >= MOST_CELLS:
                left = len(missing) - n_looked_at
                tick.said.append(f"{cell}, {left} cells of {spec.exp_name} from here on: the next tick looks at them")
                break
            tick.look(EXPORT, cell)
    return tick


def declared_runs(plan: Plan) -> Tick:
    """The next level of every declared run that was never made, once all above it is."""
    tick = Tick(plan)
    for spec in plan.platform.readable_experiments():
        for cell in (Cell(spec.exp_name, run_name=run) for run in spec.runs):
            level = _next_level(plan, cell)
            if level is not None:
                tick.look(level, cell)
    return tick


def _next_level(plan: Plan, cell: Cell) -> Level | None:
    """The first level of a run with assets that were never made."""
    for level in RUN_LEVELS:
        unmade = [asset for asset in assets_of(plan.platform, level, cell) if cell.key not in plan.history.made(asset)]
        if any(plan.state(asset, cell).state != "absent" for asset in unmade):
            return level
    return None


def moved_cells(plan: Plan, levels: Sequence[Level], *, start: int, seconds: float) -> tuple[Tick, int]:
    """Look at cells that were made, from one place on, for as long as there is time: files are looked at, which is slow.

    Args:
        levels: what is asked for; of others it is said.

    Returns:
        What was found, and the place to go on from (0 after the last cell).
    """
    tick = Tick(plan)
    end = time.monotonic() + seconds
    for place, (level, cell) in enumerate(_made_cells(plan)):
        if place < start:
            continue
        if place > start and time.monotonic() > end:
            return tick, place
        tick.look(level, cell, asks=level in levels)
    return tick, 0


def lost_processes(plan: Plan) -> Tick:
    """Cells whose trainer, or other process of theirs, was killed alone: asked for again, so often as is borne; then named.

    Where the process of the run itself was killed Dagster starts the run again.
    """
    tick = Tick(plan)
    for spec in plan.platform.readable_experiments():
        for attempt, cell in attempts_at(plan.platform, spec.exp_name):
            if plan.platform.why_undeclared(cell) is None and attempt.reason != WAS_LOST:
                tick.look(LEVEL_OF[attempt.asset], cell, asks=attempt.is_lost)
    return tick


def _made_cells(plan: Plan) -> Iterator[tuple[Level, Cell]]:
    platform = plan.platform
    for spec in platform.readable_experiments():
        for level in (EXPORT, PREPARE, *RUN_LEVELS):
            try:
                cells = cells_of_level(platform, level, spec.exp_name)
            except ThesisAssetsError:
                break  # a named scene is gone: registering says so
            for cell in cells:
                assets = assets_of(platform, level, cell)
                if assets and cell.key in plan.history.made(assets[0]):
                    yield level, cell


def run_requests(
    platform: Platform, instance: dg.DagsterInstance, asked: Asked, *, asked_by: str
) -> list[dg.RunRequest]:
    """One run for each contiguous range of an experiment's scenes, and one for each cell of the other levels."""
    works = [work for level, cells in asked.items() for work in works_of(instance, level, cells)]
    return [_request(platform, instance, work, asked_by) for work in works]


def _request(platform: Platform, instance: dg.DagsterInstance, work: Work, asked_by: str) -> dg.RunRequest:
    """Its key says what is made from what, and after what: Dagster never runs a key twice, and a lost sample is made again."""
    first, last = work.cells[0], work.cells[-1]
    digest = sha256_value([work.assets, _attempted(platform, instance, work.assets[0], work.cells)])
    name = str(first) if len(work.cells) == 1 else f"{first}..{last}"
    # As tags, not as `partition_key`: Dagster 1.13 cannot look keys of two dynamic dimensions up while it resolves a tick.
    definition = PARTITIONS[work.level.kind]
    assert definition is not None, "only levels with partitions are asked for"
    if len(work.cells) > 1:
        tags = {RANGE_START: str(first.key), RANGE_END: str(last.key)}
    else:
        tags = dict(definition.get_tags_for_partition_key(first.key or ""))
    return dg.RunRequest(
        run_key=f"{work.level.job}:{name}:{digest[:16]}",
        job_name=work.level.job,
        # Also where it is all that the job makes: by the names alone do Dagster's conditions know that what is updated is no reason to
        # make anew what the same run makes of it.
        asset_selection=[dg.AssetKey(asset) for asset in work.assets],
        tags={**tags, ASKED_BY: asked_by},
    )


def _attempted(
    platform: Platform, instance: dg.DagsterInstance, asset: str, cells: Sequence[Cell]
) -> list[tuple[str, str, int, int]]:
    """Of each cell: itself, what it would be made from, its last attempt, and its last event."""
    # One question for all: thousands of cells may be new at once.
    events = instance.get_latest_storage_id_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION, {str(cell.key) for cell in cells}
    )
    attempts = [read_attempt(platform.difix(cell), asset, cell) for cell in cells]
    return [
        (
            str(cell),
            wanted_digest(platform, asset, cell),
            attempt.number if attempt else 0,
            events.get(str(cell.key), 0),
        )
        for cell, attempt in zip(cells, attempts, strict=True)
    ]


MOST_CELLS = 1000
"""That a tick asks for: to say what one would be made from costs about a millisecond. The others wait for the next."""
