"""Compare pages: of two runs that a person names, and by themselves each run's against its unrefined renders and its baseline.

Belongs here: which pages there are to be, what they are made from, which are stale, and what fits the budget of the settings.
Does not belong here: what stands on a page (`reports.compare_page`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import __version__
from thesis_assets.errors import InvalidFile, reason_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.graph.scores import baselines_of, scene_facts
from thesis_assets.layout import EvaluationTree, dataset_of, parse_epoch
from thesis_assets.provenance import CODE_VERSIONS, Contents, Older, Place, Unit, Wanted, begin
from thesis_assets.schemas.evaluation import ComparisonRecord, EvaluationManifest
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.storage import read_json, sha256_file, write_json, write_text

if TYPE_CHECKING:
    from thesis_assets.reports.compared_runs import ComparedRuns, Pictures

UNREFINED = "unrefined"
UNREFINED_EPOCH = 0
MAX_FRAMES = 240
SHARE = 10
"""A page that is made by itself takes at most this part of the megabytes of all: ten runs' pages always fit."""


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


@dataclass(frozen=True)
class MadePage:
    """A page that was written, and what stands on it."""

    compared: "ComparedRuns"
    pictures: "Pictures"
    record: ComparisonRecord


@dataclass
class ComparePages:
    """The pages of one moment: what several of them read of a run is read once.

    Attributes:
        report: receives every progress line.
        started: when the seconds of the budget began.
    """

    platform: Platform
    report: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    _scenes: dict[Cell, dict[str, EvaluationTree]] = field(default_factory=dict)
    _files: dict[Cell, dict[str, Path]] = field(default_factory=dict)
    _contents: Contents = field(default_factory=Contents)
    _lineages: dict[tuple[Cell, int, tuple[str, ...]], LineageLink] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._look = OneLook.of(self.platform)

    def make(
        self, comparison: Comparison, *, max_bytes: int, max_frames: int = MAX_FRAMES, at: Path | None = None
    ) -> MadePage:
        """Write the page and its record.

        Args:
            max_bytes: of pictures in the page.
            at: where the page is written alone, without a record; None: at its place among the reports.

        Raises:
            InvalidFile: nothing of the two may be compared; the message has the reason of each scene.
        """
        from thesis_assets.publishing.licences import licences_that_forbid
        from thesis_assets.reports.compare_page import PageFacts, headline, render_compare_page
        from thesis_assets.reports.compared_runs import compare_runs, embed_pictures

        started = time.monotonic()
        settings = self.platform.settings
        making = begin(self.unit(comparison), self._contents)
        tuned, *other = [((cell.exp_name, cell.run_name), self._scenes_of(cell)) for cell in comparison.cells]
        cells = comparison.cells
        is_control = len(cells) > 1 and self.platform.controls().get(tuned[0]) == other[0][0]
        of_scenes = scene_facts(self._look, cells)
        compared = compare_runs(tuned, other[0] if other else None, comparison.epoch, of_scenes, is_control=is_control)
        pictures = embed_pictures(compared.frames, max_frames=max_frames, max_bytes=max_bytes, on_progress=self.report)
        datasets = self.platform.spec(comparison.tuned).datasets
        forbidding = licences_that_forbid(map(dataset_of, compared.scenes), datasets)
        chains = [self._lineage(cell, compared.scenes, compared.epoch) for cell in comparison.cells]
        made_at = time.strftime("%Y-%m-%d %H:%M %Z")
        facts = PageFacts(made_at, __version__, settings.results_root, tuple(forbidding.values()))
        page = at or settings.reports.comparison(*comparison.place)
        write_text(page, render_compare_page(compared, pictures, chains, facts))
        record = comparison.record.model_copy(
            update={
                "epoch": compared.epoch,
                "page": page.name,
                "headline": headline(compared),
                "n_bytes": page.stat().st_size,
                "seconds": round(time.monotonic() - started, 1),
                "not_for_sharing": list(forbidding),
            }
        )
        if at is None:
            write_json(settings.reports.comparison_record(*comparison.place), record)
            making.finish([page])
        return MadePage(compared, pictures, record)

    def renew(self) -> list[ComparisonRecord]:
        """Make what is absent or stale, within the budget of the settings. Returns every page's record, made or not.

        A page that is begun is finished; one that does not fit gets a record with the reason and the command that makes it.
        """
        records = [self._renewed(comparison) for comparison in self.wanted()]
        for record in records:
            if record.reason is not None:
                pair = f"{record.exp_name}/{record.run_name} against {record.against}"
                self.report(f"no current compare page of {pair}: {record.reason}; `{record.command}`")
        return records

    def unit(self, comparison: Comparison) -> Unit:
        """A page, made from the tables, protocols and records of both runs, and what else shapes it."""
        reports = self.platform.settings.reports
        page, record = reports.comparison(*comparison.place), reports.comparison_record(*comparison.place)
        files: dict[str, Path] = {}
        scenes: dict[str, list[str]] = {}
        for cell in comparison.cells:
            scenes[f"{cell.exp_name}/{cell.run_name}"] = sorted(self._scenes_of(cell))
            files |= self._shown_of(cell)
        datasets = {name: each.model_dump() for name, each in self.platform.spec(comparison.tuned).datasets.items()}
        options = {"epoch": comparison.epoch, "scenes": scenes, "datasets": datasets}
        wanted = Wanted("compare_page", CODE_VERSIONS["compare_page"], options=options, files=files)
        place = Place(page.parent, reports.comparison_made_from(*comparison.place))
        return Unit(page.name, place, wanted, lambda: _older(record, page))

    def units(self) -> list[Unit]:
        """The pages that are to be there: all that are wanted, but those whose record says why they are not current."""
        reports = self.platform.settings.reports
        records = {each: _read(reports.comparison_record(*each.place)) for each in self.wanted()}
        return [self.unit(each) for each, record in records.items() if record is None or record.reason is None]

    def wanted(self) -> list[Comparison]:
        """Each evaluated run against its unrefined renders, and against its control or the baseline of its experiment."""
        baselines = baselines_of(self.platform)
        wanted = []
        for cell in self.platform.run_cells():
            evaluation = self.platform.spec(cell).evaluation
            if "nvs" not in evaluation.tasks or not self._scenes_of(cell):
                continue
            if UNREFINED_EPOCH in evaluation.epoch_steps(self.platform.run_spec(cell)):
                wanted.append(Comparison(cell))
            baseline = baselines.get((cell.exp_name, cell.run_name))
            other = None if baseline is None else Cell(baseline[0], run_name=baseline[1])
            if other is not None and self._scenes_of(other):
                wanted.append(Comparison(cell, other))
        return wanted

    def _renewed(self, comparison: Comparison) -> ComparisonRecord:
        reports = self.platform.settings.reports
        path, page = reports.comparison_record(*comparison.place), reports.comparison(*comparison.place)
        before = _read(path) if page.is_file() else None
        try:
            if before is not None and before.reason is None and self.unit(comparison).look(self._contents).is_made:
                return before
            reason = self._why_not_now(page)
            if reason is None:
                record = self.make(comparison, max_bytes=self._page_bytes).record
                self.report(f"compare page: {record.exp_name}/{record.run_name}, {record.headline}: {page}")
                return record
        except Exception as error:  # noqa: BLE001 - no fault of one page may take the leaderboard or another page away
            reason = reason_of(error)
        kept = (before or comparison.record).model_copy(
            update={"page": page.name if page.is_file() else None, "reason": reason}
        )
        write_json(path, kept)
        return kept

    def _why_not_now(self, page: Path) -> str | None:
        settings = self.platform.settings
        if settings.compare_mb == 0:
            return "THESIS_COMPARE_MB is 0: no page is made by itself"
        others = sum(each.stat().st_size for each in page.parent.glob(f"*{page.suffix}") if each != page)
        if others + self._page_bytes > settings.compare_mb * 1_000_000:
            return f"the other compare pages take {others / 1e6:.0f} MB of THESIS_COMPARE_MB={settings.compare_mb}"
        if time.monotonic() - self.started >= settings.compare_seconds:
            return f"THESIS_COMPARE_SECONDS={settings.compare_seconds} were used up"
        return None

    @property
    def _page_bytes(self) -> int:
        return self.platform.settings.compare_mb * 1_000_000 // SHARE

    def _scenes_of(self, cell: Cell) -> dict[str, EvaluationTree]:
        if cell not in self._scenes:
            self._scenes[cell] = self.platform.evaluated_scenes(cell)
        return self._scenes[cell]

    def _shown_of(self, cell: Cell) -> dict[str, Path]:
        if cell not in self._files:
            trees = self._scenes_of(cell)
            self._files[cell] = {
                f"{cell.exp_name}/{cell.run_name}/{scene}/{tree.relative(file)}": file
                for scene, tree in trees.items()
                for file in _shown_files(tree)
            }
        return self._files[cell]

    def _lineage(self, cell: Cell, scenes: list[str], epoch: int) -> LineageLink:
        """The whole chain below the first scene; the other scenes were made by the same checkpoint, which is not read again."""
        from thesis_assets.evaluation.lineage import evaluation_lineage

        key = (cell, epoch, tuple(scenes))
        if key not in self._lineages:
            first, *others = [self._scenes_of(cell)[scene] for scene in scenes]
            chain = (first, self.platform.difix(cell), cell.run_name, self.platform.roots)
            below = [evaluation_lineage(*chain, epochs=[epoch], tasks=["nvs"])]
            for scene, tree in zip(scenes[1:], others, strict=True):
                name, digest = f"{cell.exp_name}/{cell.run_name}/{scene}", sha256_file(tree.manifest)
                note = "by the same checkpoint"
                below.append(linked("evaluation", name, path=tree.manifest, digest=digest, note=note, verified=False))
            run, note = f"{cell.exp_name}/{cell.run_name}", f"epoch {epoch}"
            self._lineages[key] = linked("run", run, note=note, verified=False, made_from=below)
        return self._lineages[key]


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
    before = _read(record)
    return Older([page]) if before is not None and before.page is not None and page.is_file() else None


def _read(path: Path) -> ComparisonRecord | None:
    if not path.is_file():
        return None
    try:
        return read_json(path, ComparisonRecord)
    except (InvalidFile, OSError):  # of another version, or closed to us: the page is made anew
        return None
