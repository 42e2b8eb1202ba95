"""Compare pages as outputs: which there are to be (of each run against its unrefined renders and its baseline), and what each is made
from.

Does not belong here: writing one (`operations.compare_pages`), or what stands on it (`reports.compare_page`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.scene_facts import baselines_of
from thesis_assets.layout import EvaluationTree, parse_epoch
from thesis_assets.provenance import CODE_VERSIONS, Older, Place, Unit, Wanted
from thesis_assets.schemas.evaluation import ComparisonRecord, EvaluationManifest
from thesis_assets.storage import read_json

UNREFINED = "unrefined"
UNREFINED_EPOCH = 0


@dataclass(frozen=True)
class Comparison:
    """A run and what it is compared with.

    Attributes:
        other: None: the run's own unrefined renders.
        epoch: None: the last one that both have.
    """

    tuned: Cell
    other: Cell | None = None
    epoch: int | None = None

    @property
    def against(self) -> str:
        """`unrefined`, a run of the same experiment, or `<exp>/<run>`."""
        if self.other is None:
            return UNREFINED
        named = self.other.exp_name == self.tuned.exp_name
        return self.other.run_name if named else f"{self.other.exp_name}/{self.other.run_name}"

    @property
    def cells(self) -> list[Cell]:
        """The run, and the other one where it is another."""
        return [self.tuned] if self.other is None else [self.tuned, self.other]

    @property
    def place(self) -> tuple[str, str, str, int | None]:
        """What names its files."""
        return self.tuned.exp_name, self.tuned.run_name, self.against, self.epoch

    @property
    def command(self) -> str:
        against = "" if self.other is None else f" --against {self.against}"
        epoch = "" if self.epoch is None else f" --epoch {self.epoch}"
        return f"thesis-assets compare --exp {self.tuned.exp_name} --run {self.tuned.run_name}{against}{epoch}"

    @property
    def record(self) -> ComparisonRecord:
        """A record without a page."""
        return ComparisonRecord(
            exp_name=self.tuned.exp_name,
            run_name=self.tuned.run_name,
            against=self.against,
            epoch=self.epoch,
            page=None,
            command=self.command,
        )


@dataclass
class CompareUnits:
    """The pages that are to be, and what each is made from: what several of them read of a run is read once."""

    platform: Platform
    _scenes: dict[Cell, dict[str, EvaluationTree]] = field(default_factory=dict, init=False)
    _files: dict[Cell, dict[str, Path]] = field(default_factory=dict, init=False)

    def unit(self, comparison: Comparison) -> Unit:
        """A page, made from the tables, protocols and records of both runs, and what else shapes it."""
        reports = self.platform.settings.reports
        page, record = reports.comparison(*comparison.place), reports.comparison_record(*comparison.place)
        files: dict[str, Path] = {}
        scenes: dict[str, list[str]] = {}
        for cell in comparison.cells:
            scenes[f"{cell.exp_name}/{cell.run_name}"] = sorted(self.scenes_of(cell))
            files |= self._shown_of(cell)
        datasets = {name: each.model_dump() for name, each in self.platform.spec(comparison.tuned).datasets.items()}
        options = {"epoch": comparison.epoch, "scenes": scenes, "datasets": datasets}
        wanted = Wanted("compare_page", CODE_VERSIONS["compare_page"], options=options, files=files)
        place = Place(page.parent, reports.comparison_made_from(*comparison.place))
        return Unit(page.name, place, wanted, lambda: _older(record, page))

    def units(self) -> list[Unit]:
        """The pages that are to be there: all that are wanted, but those whose record says why they are not current."""
        reports = self.platform.settings.reports
        records = {each: read_comparison(reports.comparison_record(*each.place)) for each in self.wanted()}
        return [self.unit(each) for each, record in records.items() if record is None or record.reason is None]

    def wanted(self) -> list[Comparison]:
        """Each evaluated run against its unrefined renders, and against its control or the baseline of its experiment."""
        baselines = baselines_of(self.platform)
        wanted = []
        for cell in self.platform.run_cells():
            evaluation = self.platform.spec(cell).evaluation
            if "nvs" not in evaluation.tasks or not self.scenes_of(cell):
                continue
            if UNREFINED_EPOCH in evaluation.epoch_steps(self.platform.run_spec(cell)):
                wanted.append(Comparison(cell))
            baseline = baselines.get((cell.exp_name, cell.run_name))
            other = None if baseline is None else Cell(baseline[0], run_name=baseline[1])
            if other is not None and self.scenes_of(other):
                wanted.append(Comparison(cell, other))
        return wanted

    def scenes_of(self, cell: Cell) -> dict[str, EvaluationTree]:
        """The evaluated scenes of a run."""
        if cell not in self._scenes:
            self._scenes[cell] = self.platform.evaluated_scenes(cell)
        return self._scenes[cell]

    def _shown_of(self, cell: Cell) -> dict[str, Path]:
        if cell not in self._files:
            trees = self.scenes_of(cell)
            self._files[cell] = {
                f"{cell.exp_name}/{cell.run_name}/{scene}/{tree.relative(file)}": file
                for scene, tree in trees.items()
                for file in _shown_files(tree)
            }
        return self._files[cell]


def _shown_files(tree: EvaluationTree) -> Iterator[Path]:
    """The small files that say what an evaluated scene holds; its pictures are named by them."""
    files = [tree.manifest]
    try:
        manifest = read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # nothing of it is shown; `manifest_matches_disk` is the check that says so
        return
    for epoch in map(parse_epoch, manifest.eval_epochs):
        for task in (tree.task(epoch, name) for name in manifest.tasks):
            files += [*task.required_files, task.protocol]
        files.append(tree.task(epoch, "nvs").prediction_record)
    yield from (file for file in files if file.is_file())


def _older(record: Path, page: Path) -> Older | None:
    """Of a page that a version without records left."""
    before = read_comparison(record)
    return Older([page]) if before is not None and before.page is not None and page.is_file() else None


def read_comparison(path: Path) -> ComparisonRecord | None:
    """The record of a page; None where there is none that can be read."""
    if not path.is_file():
        return None
    try:
        return read_json(path, ComparisonRecord)
    except (InvalidFile, OSError):  # of another version, or closed to us: the page is made anew
        return None
