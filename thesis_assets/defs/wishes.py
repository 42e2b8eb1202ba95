"""What is to be made next, over all experiments: new scenes' shards, declared runs, what has become stale.

Belongs here: which cells, and why others wait. Does not belong here: remembering what was asked for (`asked`), ticks
(`sensors`).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg

from thesis_assets.defs.asked import Wish
from thesis_assets.defs.check_history import failed_blocking_checks
from thesis_assets.defs.graph import NODES, is_current, upstream_cells, wanted_digest
from thesis_assets.defs.history import History
from thesis_assets.defs.jobs import LEVELS, Level
from thesis_assets.defs.levels import assets_of, assets_to_make, cells_of_level
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.ready_scenes import ReadyScenes, vanished_scenes
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.storage import sha256_value

EXPORT, PREPARE = (next(level for level in LEVELS if level.job == job) for job in ("export_scenes", "prepare_data"))
RUN_LEVELS = tuple(level for level in LEVELS if level.kind == "exp_by_run" and level.job != "publish")


@dataclass
class Wishes:
    """Cells to make, and by cell what others wait for."""

    cells: list[Wish] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


def new_shards(
    platform: Platform, instance: dg.DagsterInstance, history: History, ready: ReadyScenes, *, seconds: float
) -> Wishes:
    """The shards that open experiments declare and never had, of scenes that are complete.

    Args:
        seconds: how long files are looked at; the cells that are left then wait for the next look.
    """
    found = Wishes()
    digests = _ShardDigests(platform, instance)
    end = time.monotonic() + seconds
    made = history.made("scene_samples")
    for spec in platform.readable_experiments():
        if platform.is_frozen(spec.exp_name):
            continue
        try:
            cells = cells_of_level(platform, EXPORT, spec.exp_name, (), ())
        except ThesisAssetsError as error:
            found.waiting[spec.exp_name] = str(error)
            continue
        missing = [cell for cell in cells if cell.key not in made and not history.is_busy("scene_samples", cell.key)]
        if spec.generation.on_new_scenes == "ignore" and any(cell.key in made for cell in cells):
            continue
        other = _other_section(platform, spec) if missing else None
        for cell in missing:
            if other is not None:
                found.waiting[str(cell)] = other
            elif time.monotonic() > end:
                found.waiting[str(cell)] = "there was no time to look at it in this tick"
            else:
                _wish_for_shard(digests, spec, cell, ready, found)
    return found


def _other_section(platform: Platform, spec: ExperimentSpec) -> str | None:
    """Why no shard can be added: the samples that are there were made by another generation section."""
    from thesis_assets.samples.snapshot import read_generation_config, section_changes

    path = platform.difix(Cell(spec.exp_name)).generation_config
    try:
        changes = section_changes(read_generation_config(path), spec.generation) if path.exists() else []
    except ThesisAssetsError as error:
        return str(error)
    if not changes:
        return None
    return (
        f"its samples were made by another generation section ({path}): {'; '.join(changes)}: fork the experiment, or "
        f"`thesis-assets run --exp {spec.exp_name} --replace` exports all of it anew"
    )


class _ShardDigests:
    """Input digests of shards; experiments that shape a scene's samples alike share its look at the files."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance) -> None:
        self._platform, self._instance = platform, instance
        self._known: dict[str, str] = {}

    def digest(self, spec: ExperimentSpec, cell: Cell) -> str:
        from thesis_assets.samples.snapshot import shaping

        section, rules = shaping(spec.generation.model_dump(mode="json")), spec.split.group_rules
        question = sha256_value([cell.scene_name, section, rules])
        if question not in self._known:
            self._known[question] = wanted_digest(self._platform, "scene_samples", cell)
        return self._known[question]


def _wish_for_shard(
    digests: _ShardDigests, spec: ExperimentSpec, cell: Cell, ready: ReadyScenes, found: Wishes
) -> None:
    why_not = ready.why_not(spec, cell.scene_name)
    if why_not is not None:
        found.waiting[str(cell)] = why_not
        return
    try:
        digest = digests.digest(spec, cell)
    except ThesisAssetsError as error:
        found.waiting[str(cell)] = str(error)
    else:
        found.cells.append(Wish(EXPORT, EXPORT.assets, cell, digest))


def declared_runs(platform: Platform, instance: dg.DagsterInstance, history: History) -> Wishes:
    """The next level of every declared run that was never made, once its data is whole and no blocking check has failed."""
    found = Wishes()
    for spec in platform.readable_experiments():
        cells = [Cell(spec.exp_name, run_name=run) for run in spec.runs]
        unmade = [cell for cell in cells if _next_level(platform, history, cell) is not None]
        if not unmade:
            continue
        ready = spec.evaluation_only  # no data of its own: what it evaluates is there
        reason = None if ready else _data_is_not_ready(platform, instance, history, spec.exp_name)
        for cell in unmade:
            if reason is not None:
                found.waiting[str(cell)] = reason
            else:
                _wish_for_run(platform, instance, history, cell, found)
    return found


def _next_level(platform: Platform, history: History, cell: Cell) -> tuple[Level, tuple[str, ...]] | None:
    """The first level of a run with assets that were never made, and those assets."""
    for level in RUN_LEVELS:
        assets = assets_of(platform, level, cell)
        todo = tuple(asset for asset in assets if cell.key not in history.made(asset))
        if todo:
            return level, todo
    return None


def _data_is_not_ready(platform: Platform, instance: dg.DagsterInstance, history: History, exp_name: str) -> str | None:
    try:
        shards = cells_of_level(platform, EXPORT, exp_name, (), ())
        missing = [cell.scene_name for cell in shards if cell.key not in history.made("scene_samples")]
        if missing or not shards:
            return f"shards are missing: {', '.join(missing[:5]) or 'it has no scene'}"
        cell = Cell(exp_name)
        if not all(is_current(platform, instance, asset, cell) for asset in PREPARE.assets):
            return "its data is not prepared yet"
        failed = failed_blocking_checks(instance, PREPARE.assets, cell.key)
        return f"blocking checks have failed: {', '.join(failed)}" if failed else None
    except ThesisAssetsError as error:
        return str(error)


def _wish_for_run(
    platform: Platform, instance: dg.DagsterInstance, history: History, cell: Cell, found: Wishes
) -> None:
    following = _next_level(platform, history, cell)
    assert following is not None, "the caller asks for unmade runs only"
    level, todo = following
    upstream = [asset for before in RUN_LEVELS[: RUN_LEVELS.index(level)] for asset in before.assets]
    if any(history.is_busy(asset, cell.key) for asset in (*upstream, *level.assets)):
        return
    failed = failed_blocking_checks(instance, upstream, cell.key)
    if failed:
        found.waiting[str(cell)] = f"blocking checks have failed: {', '.join(failed)}"
        return
    try:
        digest = wanted_digest(platform, todo[0], cell)
    except ThesisAssetsError as error:
        found.waiting[str(cell)] = str(error)
    else:
        found.cells.append(Wish(level, todo, cell, digest))


@dataclass(frozen=True)
class Look:
    """One cell of one level, looked at."""

    level: Level
    cell: Cell
    wish: Wish | None
    """None where it is current, was never made, is at work, or waits for what is upstream."""
    refused: str | None = None
    """Why a stale cell cannot be made."""
    busy: bool = False


def stale_cells(
    platform: Platform,
    instance: dg.DagsterInstance,
    history: History,
    ready: ReadyScenes,
    *,
    start: int,
    seconds: float,
) -> tuple[list[Look], int]:
    """Look at cells that were made, from one place on, for as long as there is time: files are looked at, which is slow.

    Returns:
        What was seen, and the place to go on from (0 after the last cell).
    """
    looks: list[Look] = []
    end = time.monotonic() + seconds
    cells = list(_made_cells(platform, history))
    for place, (level, cell) in enumerate(cells[start:], start=start):
        if looks and time.monotonic() > end:
            return looks, place
        looks.append(_look(platform, instance, history, ready, level, cell))
    return looks, 0


def _made_cells(platform: Platform, history: History) -> Iterator[tuple[Level, Cell]]:
    for spec in platform.readable_experiments():
        for level in (EXPORT, PREPARE, *RUN_LEVELS):
            try:
                cells = cells_of_level(platform, level, spec.exp_name, (), ())
            except ThesisAssetsError:
                break  # a named scene is gone: registering says so
            for cell in cells:
                assets = assets_of(platform, level, cell)
                if assets and cell.key in history.made(assets[0]):
                    yield level, cell


def _look(
    platform: Platform,
    instance: dg.DagsterInstance,
    history: History,
    ready: ReadyScenes,
    level: Level,
    cell: Cell,
) -> Look:
    try:
        if any(history.is_busy(asset, cell.key) for asset in level.assets):
            return Look(level, cell, None, busy=True)
        todo = assets_to_make(platform, instance, level, cell, None)
        if not todo or not _upstream_is_current(platform, instance, level, cell, todo):
            return Look(level, cell, None)
        refused = _refusal(platform, history, ready, level, cell)
        if refused is not None:
            return Look(level, cell, None, refused)
        return Look(level, cell, Wish(level, todo, cell, wanted_digest(platform, todo[0], cell)))
    except ThesisAssetsError as error:
        return Look(level, cell, None, str(error))


def _upstream_is_current(
    platform: Platform, instance: dg.DagsterInstance, level: Level, cell: Cell, assets: tuple[str, ...]
) -> bool:
    """Whether everything of other levels that the assets are made from is current: else that comes first."""
    upstream = {
        pair for asset in assets for pair in upstream_cells(platform, NODES[asset], cell) if pair[0] not in level.assets
    }
    return all(is_current(platform, instance, name, each) for name, each in sorted(upstream))


def _refusal(platform: Platform, history: History, ready: ReadyScenes, level: Level, cell: Cell) -> str | None:
    """Why a stale cell cannot be made now."""
    if level not in (EXPORT, PREPARE):
        return None
    if platform.is_frozen(cell.exp_name):
        return "its data is frozen, and what it was made from has moved: put it back, or fork the experiment"
    spec = platform.spec(cell)
    if level is EXPORT:
        return _other_section(platform, spec) or ready.why_not(spec, cell.scene_name)
    gone = vanished_scenes(platform, history.made("scene_samples"), spec)
    if gone:
        return (
            f"its scenes {', '.join(gone[:5])} are gone from the disk or from its file: bring them back, or, if that is "
            f"meant, `thesis-assets set-aside --exp {cell.exp_name} --yes` and `thesis-assets run --exp {cell.exp_name}`"
        )
    return None
