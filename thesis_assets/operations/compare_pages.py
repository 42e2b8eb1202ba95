"""Writing compare pages: of two runs that a person names, and by themselves all that are absent or stale.

Belongs here: gathering what a page is rendered from, and what fits the budget of the settings. Does not belong here: which pages there
are to be (`graph.compare_units`), or what stands on one (`reports.compare_page`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import __version__
from thesis_assets.errors import reason_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.compare_units import CompareUnits, Comparison, read_comparison
from thesis_assets.graph.platform import OneLook
from thesis_assets.graph.scene_facts import scene_facts
from thesis_assets.layout import dataset_of
from thesis_assets.provenance import Contents, begin
from thesis_assets.schemas.evaluation import ComparisonRecord
from thesis_assets.schemas.lineage import LineageLink, linked
from thesis_assets.storage import sha256_file, write_json, write_text

if TYPE_CHECKING:
    from thesis_assets.reports.compared_runs import ComparedRuns, Pictures


MAX_FRAMES = 240
SHARE = 10
"""A page that is made by itself takes at most this part of the megabytes of all: ten runs' pages always fit."""


@dataclass(frozen=True)
class MadePage:
    """A page that was written, and what stands on it."""

    compared: "ComparedRuns"
    pictures: "Pictures"
    record: ComparisonRecord


@dataclass
class ComparePages(CompareUnits):
    """The pages of one moment.

    Attributes:
        report: receives every progress line.
        started: when the seconds of the budget began.
    """

    report: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    _contents: Contents = field(default_factory=Contents, init=False)
    _lineages: dict[tuple[Cell, int, tuple[str, ...]], LineageLink] = field(default_factory=dict, init=False)

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
        tuned, *other = [((cell.exp_name, cell.run_name), self.scenes_of(cell)) for cell in comparison.cells]
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

    def _renewed(self, comparison: Comparison) -> ComparisonRecord:
        reports = self.platform.settings.reports
        path, page = reports.comparison_record(*comparison.place), reports.comparison(*comparison.place)
        before = read_comparison(path) if page.is_file() else None
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

    def _lineage(self, cell: Cell, scenes: list[str], epoch: int) -> LineageLink:
        """The whole chain below the first scene; the other scenes were made by the same checkpoint, which is not read again."""
        from thesis_assets.evaluation.lineage import evaluation_lineage

        key = (cell, epoch, tuple(scenes))
        if key not in self._lineages:
            first, *others = [self.scenes_of(cell)[scene] for scene in scenes]
            chain = (first, self.platform.difix(cell), cell.run_name, self.platform.roots)
            below = [evaluation_lineage(*chain, epochs=[epoch], tasks=["nvs"])]
            for scene, tree in zip(scenes[1:], others, strict=True):
                name, digest = f"{cell.exp_name}/{cell.run_name}/{scene}", sha256_file(tree.manifest)
                note = "by the same checkpoint"
                below.append(linked("evaluation", name, path=tree.manifest, digest=digest, note=note, verified=False))
            run, note = f"{cell.exp_name}/{cell.run_name}", f"epoch {epoch}"
            self._lineages[key] = linked("run", run, note=note, verified=False, made_from=below)
        return self._lineages[key]
