"""Compare pages: of two runs that a person names, and by themselves each run's against its unrefined renders and its baseline.

Belongs here: which pages there are to be, what they are made from, which are stale, and what fits the budget of the settings.
Does not belong here: what stands on a page (`evaluation.compare_page`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import __version__
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import EvaluationTree, dataset_of, parse_epoch
from thesis_assets.schemas.evaluation import ComparisonRecord, EvaluationManifest
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.storage import read_json, sha256_file, sha256_value, write_json, write_text

if TYPE_CHECKING:
    from thesis_assets.evaluation.compare_pictures import Pictures
    from thesis_assets.evaluation.compared_runs import ComparedRuns

UNREFINED = "unrefined"
MAX_FRAMES = 240
SHARE = 10
"""A page that is made by itself takes at most this part of the megabytes of all: ten runs' pages always fit."""
KNOWN_LINEAGES = dict[tuple[Cell, int, tuple[str, ...]], LineageLink]


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
    def place(self) -> tuple[str, str, str, int | None]:
        """What names its files."""
        return self.tuned.exp_name, self.tuned.run_name, self.against, self.epoch

    @property
    def command(self) -> str:
        against = "" if self.other is None else f" --against {self.against}"
        epoch = "" if self.epoch is None else f" --epoch {self.epoch}"
        return f"thesis-assets compare --exp {self.tuned.exp_name} --run {self.tuned.run_name}{against}{epoch}"


@dataclass(frozen=True)
class MadePage:
    """A page that was written, and what stands on it."""

    compared: "ComparedRuns"
    pictures: "Pictures"
    record: ComparisonRecord


def make_page(
    platform: Platform,
    comparison: Comparison,
    *,
    max_bytes: int,
    max_frames: int = MAX_FRAMES,
    on_progress: Callable[[str], None] = lambda _: None,
    lineages: KNOWN_LINEAGES | None = None,
) -> MadePage:
    """Write the page and its record.

    Args:
        max_bytes: of pictures in the page.
        lineages: chains that were read already, to which these are added.

    Raises:
        InvalidFile: nothing of the two may be compared; the message has the reason of each scene.
    """
    from thesis_assets.evaluation.compare_page import PageFacts, headline, render_compare_page
    from thesis_assets.evaluation.compare_pictures import embed_pictures
    from thesis_assets.evaluation.compared_runs import compare_runs
    from thesis_assets.publishing.licences import licences_that_forbid

    started = time.monotonic()
    digest = input_digest(platform, comparison)
    tuned, other = comparison.tuned, comparison.other
    pair = [((cell.exp_name, cell.run_name), platform.evaluated_scenes(cell)) for cell in (tuned, other) if cell]
    compared = compare_runs(pair[0], pair[1] if other else None, comparison.epoch)
    on_progress(f"{len(compared.frames)} frames of {len(compared.scenes)} scenes at epoch {compared.epoch}")
    pictures = embed_pictures(compared.frames, max_frames=max_frames, max_bytes=max_bytes, on_progress=on_progress)
    forbidding = licences_that_forbid(map(dataset_of, compared.scenes), platform.spec(tuned).datasets)
    known = {} if lineages is None else lineages
    chains = [_lineage(platform, cell, compared.scenes, compared.epoch, known) for cell in (tuned, other) if cell]
    facts = PageFacts(
        time.strftime("%Y-%m-%d %H:%M %Z"), __version__, platform.settings.results_root, tuple(forbidding.values())
    )
    reports = platform.settings.reports
    page = reports.comparison(*comparison.place)
    write_text(page, render_compare_page(compared, pictures, chains, facts))
    record = _record(comparison, digest, page=page.name).model_copy(
        update={
            "epoch": compared.epoch,
            "headline": headline(compared),
            "n_bytes": page.stat().st_size,
            "seconds": round(time.monotonic() - started, 1),
            "not_for_sharing": list(forbidding),
        }
    )
    write_json(reports.comparison_record(*comparison.place), record)
    return MadePage(compared, pictures, record)


def input_digest(platform: Platform, comparison: Comparison) -> str:
    """Of the tables, protocols and records of both runs, and of what else shapes the page."""
    cells = [cell for cell in (comparison.tuned, comparison.other) if cell]
    shown = {
        f"{cell} {scene} {name}": digest
        for cell in cells
        for scene, tree in platform.evaluated_scenes(cell).items()
        for name, digest in _shown_files(tree)
    }
    datasets = {name: entry.model_dump() for name, entry in platform.spec(comparison.tuned).datasets.items()}
    return sha256_value([__version__, comparison.epoch, datasets, shown])


def _shown_files(tree: EvaluationTree) -> Iterator[tuple[str, str]]:
    """Names and digests of the small files that say what an evaluated scene holds; its pictures are named by them."""
    files = [tree.manifest]
    try:
        manifest = read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # nothing of it is shown; `manifest_matches_disk` is the check that says so
        return
    for epoch in map(parse_epoch, manifest.eval_epochs):
        for task in (tree.task(epoch, name) for name in manifest.tasks):
            files += [*task.required_files, task.protocol]
        files.append(tree.task(epoch, "nvs").prediction_record)
    yield from ((tree.relative(file), sha256_file(file)) for file in files if file.is_file())


def _lineage(platform: Platform, cell: Cell, scenes: list[str], epoch: int, known: KNOWN_LINEAGES) -> LineageLink:
    """The whole chain below the first scene; the other scenes were made by the same checkpoint, which is not read again."""
    from thesis_assets.evaluation.lineage import evaluation_lineage

    key = (cell, epoch, tuple(scenes))
    if key in known:
        return known[key]
    trees = platform.evaluation_trees(cell)
    below = []
    for place, scene in enumerate(scenes):
        tree = trees[scene]
        if place == 0:
            chain = (tree, platform.difix(cell), cell.run_name, platform.roots)
            below.append(evaluation_lineage(*chain, epochs=[epoch], tasks=["nvs"]))
            continue
        name = f"{cell.exp_name}/{cell.run_name}/{scene}"
        note = "by the same checkpoint"
        below.append(linked("evaluation", name, path=tree.manifest, digest=sha256_file(tree.manifest), note=note))
    known[key] = linked(
        "run", f"{cell.exp_name}/{cell.run_name}", note=f"epoch {epoch}", verified=False, made_from=below
    )
    return known[key]


# --- the pages that are made by themselves -----------------------------------------------------------------------------


def wanted_comparisons(platform: Platform) -> list[Comparison]:
    """Each evaluated run against its unrefined renders, and against the baseline of its experiment where there is one."""
    baselines = platform.baselines()
    wanted = []
    for cell in platform.run_cells():
        evaluation = platform.spec(cell).evaluation
        if "nvs" not in evaluation.tasks or not platform.evaluated_scenes(cell):
            continue
        if 0 in evaluation.epoch_steps(platform.run_spec(cell)):
            wanted.append(Comparison(cell))
        baseline = baselines.get((cell.exp_name, cell.run_name))
        other = None if baseline is None else Cell(baseline[0], run_name=baseline[1])
        if other is not None and platform.evaluated_scenes(other):
            wanted.append(Comparison(cell, other))
    return wanted


def renew_pages(platform: Platform, report: Callable[[str], None]) -> list[ComparisonRecord]:
    """Make what is absent or stale, within the budget of the settings. Returns every page's record, made or not.

    A page that is begun is finished; one that does not fit gets a record with the reason and the command that makes it.
    """
    budget = _Budget(platform)
    records = [_renewed(platform, comparison, budget, report) for comparison in wanted_comparisons(platform)]
    for record in records:
        if record.reason is not None:
            pair = f"{record.exp_name}/{record.run_name} against {record.against}"
            report(f"no current compare page of {pair}: {record.reason}; `{record.command}`")
    return records


@dataclass
class _Budget:
    """Megabytes of all compare pages, and seconds of one renewal."""

    platform: Platform
    started: float = field(default_factory=time.monotonic)
    lineages: KNOWN_LINEAGES = field(default_factory=dict)

    @property
    def page_bytes(self) -> int:
        return self.platform.settings.compare_mb * 1_000_000 // SHARE

    def why_not(self, comparison: Comparison) -> str | None:
        """Why a page may not be begun now."""
        settings = self.platform.settings
        if settings.compare_mb == 0:
            return "THESIS_COMPARE_MB is 0: no page is made by itself"
        page = settings.reports.comparison(*comparison.place)
        others = sum(each.stat().st_size for each in page.parent.glob(f"*{page.suffix}") if each != page)
        if others + self.page_bytes > settings.compare_mb * 1_000_000:
            return f"the other compare pages take {others / 1e6:.0f} MB of THESIS_COMPARE_MB={settings.compare_mb}"
        if time.monotonic() - self.started >= settings.compare_seconds:
            return f"THESIS_COMPARE_SECONDS={settings.compare_seconds} were used up"
        return None


def _renewed(
    platform: Platform, comparison: Comparison, budget: _Budget, report: Callable[[str], None]
) -> ComparisonRecord:
    reports = platform.settings.reports
    path = reports.comparison_record(*comparison.place)
    page = reports.comparison(*comparison.place)
    before = _read(path)
    if (
        before is not None
        and before.reason is None
        and page.is_file()
        and before.input_digest == input_digest(platform, comparison)
    ):
        return before
    reason = budget.why_not(comparison)
    if reason is None:
        try:
            record = make_page(platform, comparison, max_bytes=budget.page_bytes, lineages=budget.lineages).record
        except ThesisAssetsError as error:
            reason = " ".join(str(error).split())
        else:
            report(
                f"compare page: {record.exp_name}/{record.run_name} against {record.against}, {record.headline}: {page}"
            )
            return record
    old = before if before is not None and page.is_file() else _record(comparison, "")
    kept = old.model_copy(update={"page": page.name if page.is_file() else None, "reason": reason})
    write_json(path, kept)
    return kept


def _record(comparison: Comparison, digest: str, page: str | None = None) -> ComparisonRecord:
    return ComparisonRecord(
        exp_name=comparison.tuned.exp_name,
        run_name=comparison.tuned.run_name,
        against=comparison.against,
        epoch=comparison.epoch,
        page=page,
        input_digest=digest,
        command=comparison.command,
    )


def _read(path: Path) -> ComparisonRecord | None:
    if not path.is_file():
        return None
    try:
        return read_json(path, ComparisonRecord)
    except InvalidFile:  # of another version: the page is made anew
        return None
