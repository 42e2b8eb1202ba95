"""Looking at all that was made over again: every check; every byte against its record; every sample decoded; every number, from the
saved images again.

Belongs here: which look covers which assets, and going through their cells. Does not belong here: making a check
(`check_outcomes`), comparing bytes (`provenance`), what makes a sample whole (`samples.integrity`), or computing a number
(`evaluation.checks`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from thesis_assets.errors import InvalidFile, ThesisAssetsError, reason_of
from thesis_assets.graph.cells import Cell, CellKind
from thesis_assets.graph.check_history import stops
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.history import History
from thesis_assets.graph.nodes import LEVELS, NODES
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.graph.states import DATA_JOBS, Plan, assets_of, cells_of_level, command_of
from thesis_assets.layout import TASKS
from thesis_assets.operations.check_outcomes import evaluations_of
from thesis_assets.provenance import Contents, Place, Unit, Verdict, examine, recorded
from thesis_assets.provenance.verdict import NOT_VERIFIED

SAMPLES, NUMBERS = "samples", "numbers"
LOOK_OF = {asset: SAMPLES if level.job in DATA_JOBS else NUMBERS for level in LEVELS for asset in level.assets}
"""By asset the look that reads all of it: the data of an experiment, or what its runs made of them, and the reports."""


def audit_everything(
    platform: Platform,
    instance: dg.DagsterInstance,
    log_event: Callable[[Any], None],
    log: dg.DagsterLogManager,
) -> list[str]:
    """Make every check of all experiments, the outcomes of which go to `log_event`; then compare every byte with its record, and compute
    every number again.

    Returns:
        What is damaged, a line each.
    """
    damaged: list[str] = []
    n_looked = 0
    for evaluation in every_check(platform, instance, log.info):
        log_event(evaluation)
        n_looked += 1
        if stops(evaluation):
            damaged.append(f"{evaluation.asset_key.to_user_string()} {evaluation.partition}: {evaluation.description}")
    log.info(f"{n_looked} checks, {len(damaged)} found damage")
    full = FullLook(platform, instance, log.info)
    for spec in platform.readable_experiments():
        try:
            faults = [fault for look in (SAMPLES, NUMBERS) for fault in full.faults(look, spec.exp_name)]
        except (
            ThesisAssetsError
        ) as error:  # a scene that the file names is gone, for instance: the others are looked at
            log.warning(f"{spec.exp_name} cannot be looked at whole: {error.in_one_line}")
            continue
        damaged += [f"{fault.file}: {fault.problem}; `{fault.mend}`" for fault in faults]
    log.info(f"{full.n_files} files read, {full.n_rows} rows computed again, {len(damaged)} found damaged in all")
    return damaged


def every_check(
    platform: Platform, instance: dg.DagsterInstance, report: Callable[[str], None]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Make every check of every declared cell that was ever made; an evaluation each, with its partition."""
    history = History(instance)
    for spec in platform.readable_experiments():
        for level in LEVELS:
            for asset in level.assets:
                if level.kind == "none" or asset not in CHECKS:
                    continue
                cells = [cell for cell in _cells(platform, level.job, spec.exp_name) if cell.key in history.made(asset)]
                for cell in cells:
                    report(f"{asset} of {cell}")
                    yield from evaluations_of(platform, asset, cell)


def _cells(platform: Platform, job: str, exp_name: str) -> list[Cell]:
    level = next(level for level in LEVELS if level.job == job)
    try:
        return cells_of_level(platform, level, exp_name, (), ())
    except ThesisAssetsError:
        return []  # a scene that the file names is gone: registering says so


@dataclass(frozen=True)
class Fault:
    """A file that is not as it was recorded, or a number that its files do not give.

    Attributes:
        mend: the command that makes it again.
    """

    asset: str
    cell: Cell
    file: Path
    problem: str
    mend: str = ""

    @property
    def row(self) -> dict[str, str]:
        """As commands give it with `--json`."""
        place = {"asset": self.asset, "cell": str(self.cell), "file": str(self.file)}
        return {**place, "problem": self.problem, "mend": self.mend}


@dataclass
class FullLook:
    """One look through an experiment.

    Attributes:
        report: receives progress lines.
        n_files: files whose bytes were compared.
        n_rows: rows of tables that were computed again.
        n_samples: samples whose images were decoded.
        unverified: names of outputs that a version without records made: nothing says what their bytes were.
    """

    platform: Platform
    instance: dg.DagsterInstance
    report: Callable[[str], None]

    def __post_init__(self) -> None:
        self.platform = OneLook.of(self.platform)
        self.n_files = self.n_rows = self.n_samples = 0
        self.unverified: list[str] = []
        self._history, self._contents = History(self.instance), Contents()

    def faults(self, look: str, exp_name: str, runs: Sequence[str] = ()) -> list[Fault]:
        """What is wrong, each with the command that mends it.

        Args:
            look: `samples` or `numbers`.
        """
        found: dict[tuple[Path, str], Fault] = {}
        for level in LEVELS:
            for cell in cells_of_level(self.platform, level, exp_name, runs):
                for asset in assets_of(self.platform, level, cell):
                    if LOOK_OF[asset] == look:
                        folders = {file.parent for file, _ in found}  # of a sample one of whose files is named already
                        for fault in self.of_cell(asset, cell):
                            if fault.file not in folders:
                                found.setdefault((fault.file, fault.problem), fault)
        plan = Plan(self.platform, self.instance)
        return [
            Fault(fault.asset, fault.cell, fault.file, fault.problem, self._mend(plan, fault))
            for fault in found.values()
        ]

    @staticmethod
    def _mend(plan: Plan, fault: Fault) -> str:
        """A file with a wrong number that is just as recorded is made again by force alone."""
        state = plan.state(fault.asset, fault.cell)
        again = command_of(fault.cell, fault.asset)
        return state.mend or (f"{again} --force {fault.asset}" if fault.cell.exp_name else again)

    def of_cell(self, asset: str, cell: Cell) -> Iterator[Fault]:
        """What is wrong with one asset in one cell."""
        try:
            units = list(NODES[asset].units(self.platform, cell))
        except ThesisAssetsError as error:
            yield Fault(asset, cell, Path(error.file or asset), error.in_one_line)
            return
        if units:
            self.report(f"{asset} of {cell}: {len(units)} {'output' if len(units) == 1 else 'outputs'}")
        for unit in units:
            verdict = examine(unit, self._contents)
            self.n_files += 0 if verdict.record is None else len(verdict.record.outputs)
            yield from self._of_unit(asset, cell, unit, verdict)
        if asset == "sample_set":
            yield from self._decoded(cell)
        if asset in TASKS:
            yield from self._numbers(asset, cell)

    def _of_unit(self, asset: str, cell: Cell, unit: Unit, verdict: Verdict) -> Iterator[Fault]:
        if verdict.record is None:
            if verdict.damaged:
                yield Fault(asset, cell, unit.place.record, "; ".join(verdict.reasons))
            elif NOT_VERIFIED in verdict.notes:
                self.unverified.append(unit.name)
            elif self._history.is_made(asset, cell.key):
                yield Fault(
                    asset, cell, unit.place.record, "missing: it was made, and nothing says any more what it was"
                )
            return
        for names, problem in ((verdict.damaged, "other bytes than were recorded"), (verdict.missing, "missing")):
            for name in names:
                path = unit.place.record if name == unit.place.record.name else unit.place.base / name
                yield Fault(asset, cell, path, problem)

    def _decoded(self, cell: Cell) -> Iterator[Fault]:
        from thesis_assets.samples.integrity import every_fault
        from thesis_assets.samples.sample_rows import read_rows

        tree = self.platform.difix(cell)
        try:
            rows = read_rows(tree.all_samples) if tree.all_samples.is_file() else []
        except InvalidFile as error:
            yield Fault("sample_set", cell, tree.all_samples, error.problem)
        else:
            self.n_samples += len(rows)
            for scene_name, path, problem in every_fault(tree, rows):
                yield Fault("scene_samples", Cell(cell.exp_name, scene_name=scene_name), path, problem)

    def _numbers(self, task: str, cell: Cell) -> Iterator[Fault]:
        from thesis_assets.evaluation.checks import recomputed
        from thesis_assets.launch.mapping import map_items

        cells = [each for each in self.platform.evaluation_cells(cell, and_gone=True) if task in each.tasks]
        work = [(each, epoch, task) for each in cells for epoch in each.epoch_steps()]
        outcomes = map_items(recomputed, work, workers=self.platform.workers, on_line=self.report)
        for (each, epoch, _), outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, Exception):
                yield Fault(task, cell, each.tree.task(epoch, task).metrics_dir, reason_of(outcome))
                continue
            self.n_rows += outcome.n_rows
            yield from (Fault(task, cell, path, problem) for path, problem in outcome.faults)


def place_naming(platform: Platform, kind: CellKind, cell: Cell, path: Path) -> Place | None:
    """Where the record lies that names a file among the outputs of a cell; None where none does."""
    for asset in (name for name, node in NODES.items() if node.kind == kind):
        for unit in NODES[asset].units(platform, cell):
            record = recorded(unit.place) if path.is_relative_to(unit.place.base) else None
            if record is not None and record.output(unit.place.name(path)) is not None:
                return unit.place
    return None


# --- what is covered by which look -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KindOfFile:
    """Files of one kind among the outputs.

    Attributes:
        asset: whose record names them.
        in_chain: the lineage of a number compares them.
        has_lineage: `lineage` compares the one that it is asked for.
        gives_numbers: whoever takes a mean compares them first: leaderboard, compare page, LaTeX, citations.
    """

    name: str
    asset: str
    in_chain: bool = False
    has_lineage: bool = True
    gives_numbers: bool = False


KINDS = (
    KindOfFile("images and `meta.json` of a sample", "scene_samples", in_chain=True),
    KindOfFile("rows and statistics of a shard", "scene_samples", in_chain=True),
    KindOfFile("`all_samples.jsonl`", "sample_set", in_chain=True),
    KindOfFile("`dropped_samples.csv`", "sample_set"),
    KindOfFile("`split_train.jsonl`, `split_test.jsonl`", "split_manifests", in_chain=True),
    KindOfFile("`split_summary.json`, `generation_stats.json`", "split_manifests"),
    KindOfFile("`data.json`", "difix_data", in_chain=True),
    KindOfFile("checkpoints", "tuned_checkpoint", in_chain=True),
    KindOfFile("`train_config.json`", "tuned_checkpoint", in_chain=True),
    KindOfFile("evaluation files of a training", "tuned_checkpoint"),
    KindOfFile("`selected_checkpoint.json`", "selected_checkpoint"),
    KindOfFile("`input_data/`", "input_data"),
    KindOfFile("predictions and masks, `nvs/inputs/`", "predictions", in_chain=True),
    KindOfFile("`training_artifacts/`", "predictions"),
    KindOfFile("`pred/`, `gt_inputs/`, `viz/` of novel views", "nvs", in_chain=True),
    KindOfFile("tables, text file and `protocol.json` of novel views", "nvs", in_chain=True, gives_numbers=True),
    KindOfFile("`inputs/`, `pred/`, `gt_inputs/`, `viz/` of bodies", "pose_smplx", in_chain=True),
    KindOfFile("table, text file and `protocol.json` of bodies", "pose_smplx", in_chain=True, gives_numbers=True),
    KindOfFile("`manifest.json` of a scene", "evaluation_manifest", in_chain=True, gives_numbers=True),
    KindOfFile("recordings of a scene and their pictures", "evaluation_recordings"),
    KindOfFile("recording of a training", "triplet_recording"),
    KindOfFile("what was published", "published_recordings", has_lineage=False),
    KindOfFile("leaderboard and compare pages", "leaderboard", has_lineage=False),
)


def coverage_table() -> str:
    """Which look compares the bytes of which files, as Markdown."""
    lines = ["| files | `status` | every byte | `lineage` | before a mean |", "| --- | --- | --- | --- | --- |"]
    for kind in KINDS:
        named = "the one it is asked for" if kind.has_lineage else ""
        chain = "in the chain of a number" if kind.in_chain else named
        mean = "compared" if kind.gives_numbers else ""
        lines.append(f"| {kind.name} | size and time | `checks {LOOK_OF[kind.asset]}` | {chain} | {mean} |")
    return "\n".join(lines)
