"""One plan for all: what every declared cell is, why, and the command that mends it.

`run`, `backfill`, sensors, schedules, `status` and the pages only filter it. Does not belong here: doing the work (`operations.execution`), or
whether an output is as recorded (`provenance`).
"""

import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from thesis_assets.errors import InvalidExperiment, ThesisAssetsError, command_for, first_names
from thesis_assets.graph.attempts import MOST_ATTEMPTS, read_attempt
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import failed_blocking_checks
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.history import History
from thesis_assets.graph.nodes import LEVELS, NODES, Level, commanded, look_at, upstream_cells, wanted_digest
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.graph.ready_scenes import ReadyScenes, unfinished_scenes, vanished_scenes
from thesis_assets.layout import TASKS
from thesis_assets.provenance import ASKED_ANEW, MadeFrom, Verdict, kept_defaults

if TYPE_CHECKING:
    from thesis_assets.launch.jobs import Resources

State = Literal[
    "made", "missing", "stale", "damaged", "running", "failed", "blocked", "waiting", "refused", "absent"
]  # fmt: skip
WORK: tuple[State, ...] = ("missing", "stale", "damaged")
"""What anybody may make at once."""
DATA_JOBS = ("export_scenes", "prepare_data")
WITH_DATA = (*DATA_JOBS, "tune", "publish")
OF_DATA = ("triplet_recording",)
"""Levels, and assets of others, that an experiment of evaluated trees alone does not have."""
LEVEL_OF = {asset: level for level in LEVELS for asset in level.assets}
Pair = tuple[str, Cell]


@dataclass(frozen=True)
class CellState:
    """One asset in one cell.

    Attributes:
        why: of a made cell what a reader should know of it; of every other why it is not made.
        mend: the command that makes it; empty where there is nothing to mend, or it goes on by itself.
        is_repair: files of it alone are missing or damaged; where they come back as they were, nothing that is made from it follows.
        by_force: a training, or a command of the user's, that is made again only by `run --force`.
        by_hand: a person's command makes it all the same: a scene of which nothing is plainly missing need not rest, and data may
            be made without scenes that are gone.
        work: what it would be if nothing stood in its way.
    """

    asset: str
    cell: Cell
    state: State
    why: str = ""
    mend: str = ""
    is_repair: bool = False
    by_force: bool = False
    by_hand: bool = False
    work: State = "made"

    @property
    def is_work(self) -> bool:
        """Whether sensors, schedules and commands make it now."""
        return self.state in WORK and not self.by_force

    @property
    def row(self) -> dict[str, str]:
        """As commands give it with `--json`."""
        row = {"exp_name": self.cell.exp_name, "asset": self.asset, "cell": str(self.cell)}
        return {**row, "state": self.state, "why": self.why, "mend": self.mend}

    @property
    def told(self) -> str:
        """`stale: evaluation.nvs.background was black, is white`."""
        return self.state + (f": {self.why}" if self.why else "")


def cells_of_level(
    platform: Platform, level: Level, exp_name: str, runs: Sequence[str] = (), scenes: Sequence[str] = ()
) -> list[Cell]:
    """The declared cells of one experiment in one level, narrowed to some runs and scenes where any are named."""
    spec = platform.experiments.read(exp_name)
    if spec.evaluation_only and level.job in WITH_DATA:
        return []
    if level.job == "publish" and platform.settings.hf_rerun_repo_id is None:
        return []  # sharing is off
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


def cells_on_disk(platform: Platform, level: Level, exp_name: str) -> list[Cell]:
    """The cells of a level that an experiment has folders of: where its file is refused, nothing else tells them."""
    tree = platform.difix(Cell(exp_name))
    match level.kind:
        case "exp_by_run":
            return [Cell(exp_name, run_name=name) for name in folder_names(tree.tuning_runs_dir)]
        case "exp_by_scene":
            return [Cell(exp_name, scene_name=name) for name in folder_names(tree.scene_runs_dir)]
    return []


def folder_names(directory: Path) -> list[str]:
    """Sorted; none of a folder that is not there."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def assets_of(platform: Platform, level: Level, cell: Cell) -> tuple[str, ...]:
    """The level's assets that a cell has."""
    if not (cell.exp_name and platform.spec(cell).evaluation_only):
        return level.assets
    return tuple(asset for asset in level.assets if asset not in OF_DATA)


def assets_until(platform: Platform, level: Level, cell: Cell, until: str | None) -> tuple[str, ...]:
    """Those of the level's assets that a cell has, without what comes after one of them."""
    assets = assets_of(platform, level, cell)
    return assets[: assets.index(until) + 1] if until in assets else assets


class Plan:
    """One look at everything that is declared; what happens later is not seen. A cell is looked at when it is first asked for."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, ready: ReadyScenes | None = None) -> None:
        self.platform, self._instance = OneLook.of(platform), instance
        self._ready = ready or ReadyScenes(platform, time.time())
        self.history = History(instance)
        self._states: dict[Pair, CellState] = {}
        self._failed_checks: dict[Pair, tuple[str, ...]] = {}
        self._vanished: dict[str, list[str]] = {}
        self._unmade: dict[str, list[Pair]] = {}
        self._work_above: dict[Pair, bool] = {}
        self._places: dict[Resources, InvalidExperiment | None] = {}
        self._options: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def of_experiment(
        self,
        exp_name: str,
        runs: Sequence[str] = (),
        scenes: Sequence[str] = (),
        levels: Sequence[Level] = LEVELS,
        until: str | None = None,
    ) -> list[CellState]:
        """Every declared cell of the levels with partitions, in the graph's order; of its level none after `until`."""
        found: list[CellState] = []
        for level in levels:
            if level.kind == "none":
                continue
            try:
                cells = cells_of_level(self.platform, level, exp_name, runs, scenes)
            except InvalidExperiment as error:
                why, mend = error.in_one_line, error.remedy or ""
                cells = cells_on_disk(self.platform, level, exp_name) or [Cell(exp_name)]
                found += [CellState(asset, cell, "refused", why, mend) for cell in cells for asset in level.assets]
                continue
            found += [
                self.state(asset, cell) for cell in cells for asset in assets_until(self.platform, level, cell, until)
            ]
        return found

    def state(self, asset: str, cell: Cell) -> CellState:
        """What a declared cell is."""
        pair = (asset, cell)
        if pair not in self._states:
            try:
                self._states[pair] = self._decided(asset, cell)
            except ThesisAssetsError as error:  # what its experiment declares cannot be told
                self._states[pair] = CellState(asset, cell, "refused", error.in_one_line, error.remedy or "")
        return self._states[pair]

    # --- what it is by itself ----------------------------------------------------------------------------------------

    def _decided(self, asset: str, cell: Cell) -> CellState:
        if asset in TASKS and asset not in self.platform.spec(cell).evaluation.tasks:
            return CellState(asset, cell, "absent", f"{asset} is not among evaluation.tasks")
        own = self._own(asset, cell)
        if (maker := self.history.maker(asset, cell.key)) is not None:
            return replace(own, state="running", why=maker, mend="")
        if own.state == "made" or own.by_force or not cell.exp_name:
            return own
        return self._obstacle(own) or self._obstacle_above(own) or self._failed(own) or own

    def _own(self, asset: str, cell: Cell) -> CellState:
        """Made, missing, stale or damaged; or refused, where its file says what cannot be."""
        mend = command_of(cell, asset)
        try:
            found = self._look(asset, cell)
        except ThesisAssetsError as error:
            if any(self.state(*pair).state not in ("made", "absent") for pair in self._upstream(asset, cell)):
                return CellState(asset, cell, "missing", error.problem, mend, work="missing")
            return CellState(asset, cell, "refused", error.in_one_line, error.remedy or "")
        if found.is_made and not self.history.is_made(asset, cell.key):
            return CellState(asset, cell, "missing", "it was not made yet", mend, work="missing")
        if found.is_made:
            return CellState(asset, cell, "made", "; ".join(found.notes))
        why = "; ".join(found.reasons)
        own = CellState(asset, cell, found.state, why, mend, is_repair=found.only_lost_files, work=found.state)
        return self._by_force(own, found) if asset in ("tuned_checkpoint", "predictions") else own

    def _look(self, asset: str, cell: Cell) -> Verdict:
        """The look at a cell, and at what belongs to it and is in no record: what holds frozen data, a training's side files."""
        found = look_at(self.platform, asset, cell, functools.partial(self._kept, cell))
        if asset == "tuned_checkpoint" and found.is_made:
            from thesis_assets.tuning.run_record import lost_side_files

            run_tree = self.platform.difix(cell).tuning_run(cell.run_name)
            return replace(found, notes=(*found.notes, *lost_side_files(run_tree)))
        if asset != "difix_data":
            return found
        from thesis_assets.samples.snapshot import freeze_fault

        tree = self.platform.difix(cell)
        fault = freeze_fault(tree)
        if fault is None:
            return found
        only_lost = found.is_made or found.only_lost_files
        return replace(
            found,
            state="damaged" if found.is_made else found.state,
            reasons=(fault, *found.reasons),
            damaged=(*found.damaged, tree.relative(tree.frozen)),
            only_lost_files=only_lost,
        )

    def _kept(self, cell: Cell, record: MadeFrom) -> Iterator[str]:
        """What it was made with that a new one would not be, since a line was taken out of the file, or a default changed."""
        if not cell.exp_name:
            return
        if cell.exp_name not in self._options:
            spec = self.platform.spec(cell)
            given = spec.model_dump(mode="json", exclude_unset=True)
            self._options[cell.exp_name] = (spec.model_dump(mode="json"), given)
        yield from kept_defaults(record.options, *self._options[cell.exp_name])

    def _by_force(self, own: CellState, found: Verdict) -> CellState:
        """A training that was recorded is never made again by itself, and neither is what a user's command wrote."""
        if own.asset == "predictions":
            looks = [unit.look(self.platform.contents) for unit in commanded(self.platform, own.asset, own.cell)]
            lost = any(look.record and (look.missing or look.damaged) and not look.is_stale for look in looks)
            if not (lost and (found.missing or found.damaged)):
                return own
        elif found.record is None:
            from thesis_assets.tuning.run_record import lost_checkpoints

            run_tree = self.platform.difix(own.cell).tuning_run(own.cell.run_name)
            gone = lost_checkpoints(run_tree, self.platform.run_spec(own.cell))
            if not gone:
                return own  # never finished: the trainer goes on; or whole, and given a record again
            why = f"it was trained; its record is lost, and these too: {first_names(gone, 3)}"
            own = replace(own, state="damaged", why=why)
        elif {*found.missing, *found.damaged} == {"train_config.json"}:
            return own  # written anew, and trains nothing
        state: State = "damaged" if own.state != "stale" else "stale"
        return replace(own, state=state, mend=f"{own.mend} --force {own.asset}", by_force=True, work=state)

    def _upstream(self, asset: str, cell: Cell) -> list[Pair]:
        """What it is made from. The leaderboard is made from what there is, and waits for nothing."""
        return upstream_cells(self.platform, NODES[asset], cell) if cell.exp_name else []

    # --- what stands in the way --------------------------------------------------------------------------------------

    def _obstacle(self, own: CellState) -> CellState | None:
        """What keeps the cell itself from being made."""
        platform, cell = self.platform, own.cell
        if own.state == "refused":
            return own
        if own.asset == "tuned_checkpoint" and (fault := self.no_place(cell)) is not None:
            return replace(own, state="refused", why=fault.in_one_line, mend=fault.remedy or "")
        level = LEVEL_OF[own.asset].job
        if level not in DATA_JOBS:
            return None
        fork = f"thesis-assets fork --exp {cell.exp_name} --as <new name>"
        if platform.is_frozen(cell.exp_name):
            if own.state == "stale" and own.why != ASKED_ANEW:  # what is only asked for anew must come out as it was
                return replace(own, state="refused", why=f"the data is frozen, and would change: {own.why}", mend=fork)
            return None
        if level == "export_scenes":
            changes = self._other_section(cell.exp_name)
            if changes:
                why = f"its samples were made by another generation section: {changes}"
                mend = f"thesis-assets run --exp {cell.exp_name} --force scene_samples"
                return replace(own, state="refused", why=why, mend=mend)
            why_not = self._ready.why_not(platform.spec(cell), cell.scene_name)
            if why_not is not None:
                by_hand = not unfinished_scenes(platform, platform.spec(cell), [cell.scene_name])
                return replace(own, state="waiting", why=why_not, mend=own.mend if by_hand else "", by_hand=by_hand)
        elif gone := self._gone(cell.exp_name):
            why = (
                f"its scenes {', '.join(gone[:5])} are gone from the disk or from its file: bring them back, or, if that is "
                f"meant, `thesis-assets set-aside --exp {cell.exp_name} --yes`, then make it without them"
            )
            return replace(own, state="refused", why=why, by_hand=True)
        return None

    def no_place(self, cell: Cell) -> InvalidExperiment | None:
        """Why a run cannot be trained as its file says where the settings let it run, such as bf16 on a GPU without it; None where
        it can, or where the cluster does not answer."""
        from thesis_assets.tuning.run_config import kept_run
        from thesis_assets.tuning.tuning_run import training_resources

        platform = self.platform
        run = kept_run(platform.difix(cell).tuning_run(cell.run_name), platform.run_spec(cell))
        wanted = training_resources(run, "cpu" if platform.settings.device == "cpu" else "cuda")
        if wanted not in self._places:
            self._places[wanted] = self._no_place_for(wanted)
        return self._places[wanted]

    def _no_place_for(self, wanted: "Resources") -> InvalidExperiment | None:
        from thesis_assets.launch.local_jobs import refuse_volta

        try:
            if self.platform.settings.launcher != "local":
                self.platform.launcher.require(wanted)
            elif wanted.bf16:  # which GPUs there are is asked of torch, which takes seconds to import
                refuse_volta()
        except InvalidExperiment as error:
            return error
        except ThesisAssetsError:
            return None
        return None

    def refuse_no_place(self, exp_name: str, runs: Sequence[str] = (), force: Collection[str] = ()) -> None:
        """Refuse before anything is started for it a training that could not be.

        Args:
            force: assets that are made anew.

        Raises:
            InvalidExperiment: as `no_place`.
        """
        for cell in cells_of_level(self.platform, LEVEL_OF["tuned_checkpoint"], exp_name, runs):
            refused = self.state("tuned_checkpoint", cell).state == "refused" or "tuned_checkpoint" in force
            if refused and (fault := self.no_place(cell)) is not None:
                raise fault

    def _other_section(self, exp_name: str) -> str:
        from thesis_assets.samples.snapshot import has_samples, read_generation_config, section_changes

        spec, tree = self.platform.experiments.read(exp_name), self.platform.difix(Cell(exp_name))
        if not (tree.generation_config.exists() and has_samples(tree)):
            return ""
        try:
            return "; ".join(section_changes(read_generation_config(tree.generation_config), spec.generation))
        except ThesisAssetsError as error:
            return error.in_one_line

    def _gone(self, exp_name: str) -> list[str]:
        if exp_name not in self._vanished:
            made = self.history.made("scene_samples")
            self._vanished[exp_name] = vanished_scenes(self.platform, made, self.platform.experiments.read(exp_name))
        return self._vanished[exp_name]

    def _obstacle_above(self, own: CellState) -> CellState | None:
        """What keeps what it is made from, or a check of that which failed and nothing makes anew."""
        for name, cell in [*self._upstream(own.asset, own.cell), *self._frozen_by(own)]:
            above = self.state(name, cell)
            if above.state in ("made", "absent"):
                failed = self.failed_checks_above(name, cell)
                if failed:
                    why = f"blocking checks failed: {', '.join(failed)}"
                    mend = f"thesis-assets checks report --open, and what it says; then {own.mend}"
                    return replace(own, state="blocked", why=why, mend=mend)
            elif above.state == "blocked":
                return replace(own, state="blocked", why=above.why, mend=above.mend)
            elif not above.is_work:
                told = above.state if above.state == "refused" else above.told  # why stands at what is refused
                why = above.why if above.state == "waiting" else f"{name} of {cell} is {told}"
                return replace(own, state="waiting", why=why, mend=above.mend, by_hand=above.by_hand)
        return None

    def waits_for(self, state: CellState) -> list[Pair]:
        """What a cell that waits is not made before: what of that is neither made nor work."""
        above = [*self._upstream(state.asset, state.cell), *self._frozen_by(state)] if state.state == "waiting" else []
        found = [(pair, self.state(*pair)) for pair in above]
        return [pair for pair, each in found if each.state not in ("made", "absent") and not each.is_work]

    def _frozen_by(self, own: CellState) -> list[Pair]:
        """All data that a first training would freeze as it is: what of it is still to come is waited for."""
        if own.asset != "tuned_checkpoint" or self.platform.is_frozen(own.cell.exp_name):
            return []
        exp_name = own.cell.exp_name
        if exp_name not in self._unmade:
            states = self.of_experiment(exp_name, levels=[level for level in LEVELS if level.job in DATA_JOBS])
            self._unmade[exp_name] = [(state.asset, state.cell) for state in states if state.state != "made"]
        return self._unmade[exp_name]

    def failed_checks_above(self, asset: str, cell: Cell) -> tuple[str, ...]:
        """`asset.check` of blocking checks that failed last, of a cell and all that it is made from, where no work would make them
        anew."""
        pair = (asset, cell)
        if pair not in self._failed_checks:
            failed: dict[str, None] = {}
            for above in self._upstream(asset, cell):
                if NODES[above[0]].kind != "exp_by_scene" and self.state(*above).state != "absent":
                    failed |= dict.fromkeys(self.failed_checks_above(*above))
            if not self._follows(asset, cell):
                failed |= dict.fromkeys(self.failed_checks(asset, cell))
            self._failed_checks[pair] = tuple(failed)
        return self._failed_checks[pair]

    def failed_checks(self, asset: str, cell: Cell) -> list[str]:
        """`asset.check` of a cell's own blocking checks that failed last."""
        return failed_blocking_checks(self._instance, (asset,), cell.key) if asset in CHECKS else []

    def _follows(self, asset: str, cell: Cell) -> bool:
        """Whether something above the cell, or itself, is work: its checks come again after that."""
        pair = (asset, cell)
        if pair not in self._work_above:
            above = self._upstream(asset, cell)
            self._work_above[pair] = self.state(asset, cell).is_work or any(self._follows(*each) for each in above)
        return self._work_above[pair]

    def _failed(self, own: CellState) -> CellState | None:
        """Whether it was tried last from the very same things, and failed."""
        attempt = read_attempt(self.platform.difix(own.cell), own.asset, own.cell)
        if attempt is None or attempt.wanted != self._wanted(own):
            return None
        reason = " ".join(attempt.reason.split())
        if attempt.is_lost and attempt.number < MOST_ATTEMPTS:
            return replace(own, why=f"{own.why}; attempt {attempt.number} of {MOST_ATTEMPTS} was lost: {reason}")
        return replace(own, state="failed", why=reason)

    def _wanted(self, own: CellState) -> str:
        try:
            return wanted_digest(self.platform, own.asset, own.cell)
        except ThesisAssetsError as error:
            return error.problem

    # --- what is to be made ------------------------------------------------------------------------------------------

    def is_next(self, state: CellState) -> bool:
        """Whether a cell is work, and nothing that it is made from is."""
        return state.is_work and self.comes_after(state) is None

    def comes_after(self, state: CellState) -> CellState | None:
        """The first work, in the graph's order, of all that a cell is made from; None where there is none."""
        for above in self._upstream(state.asset, state.cell):
            if self._follows(*above):
                first = self.state(*above)
                return self.comes_after(first) or first
        return None

    def assets_to_make(
        self, level: Level, cell: Cell, takes: Callable[[CellState], bool], until: str | None = None
    ) -> tuple[str, ...]:
        """The level's assets of a cell that are taken, and those of the level that follow from them."""
        taken: list[str] = []
        for asset in assets_until(self.platform, level, cell, until):
            state = self.state(asset, cell)
            follows = state.state != "absent" and any(above in taken for above in NODES[asset].upstream)
            if follows or takes(state):
                taken.append(asset)
        return tuple(taken)


def command_of(cell: Cell, asset: str) -> str:
    """The command that makes a cell."""
    return command_for(asset, cell.exp_name, cell.run_name) if cell.exp_name else "thesis-assets leaderboard"
