"""The index page's content, gathered from the trees, the leaderboard's table and the checks' outcomes; nothing is computed anew.

Belongs here: where each part comes from, and how much of it is shown. Does not belong here: how it looks (`reports/index_page`).
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from thesis_assets.errors import InvalidExperiment, InvalidFile, ThesisAssetsError, printable, reason_of
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.history import History
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import EvaluationTree, dataset_of, parse_epoch
from thesis_assets.operations.registration import plan_registration
from thesis_assets.schemas.checks import CheckRow
from thesis_assets.schemas.evaluation import ComparisonRecord, DifferenceRow, EvaluationManifest
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.storage import read_json

if TYPE_CHECKING:
    from thesis_assets.reports.index_page import ExperimentPart, IndexContent, Link, RunPart, Triplet

MAX_TRIPLETS = 24
"""On the whole page: about 20 KB each."""
MAX_NAMED = 12
"""Failed checks that are named here; the check page has all."""
MAX_PATHS = 4
UNREADABLE = (ThesisAssetsError, OSError)
"""What a file on disk can do to the page: both name the file. What it belongs to is left out."""
PICTURE_HEIGHT = 110
QUALITY = 80


def index_content(platform: Platform, instance: dg.DagsterInstance, rows: Sequence[CheckRow]) -> "IndexContent":
    """Gather the page. What cannot be read is told on it, and leaves the rest."""
    from thesis_assets.reports.check_page import STATUSES
    from thesis_assets.reports.index_page import IndexContent

    counts = Counter(row.status for row in rows)
    gathering = _Gathering(platform, instance, rows)
    every = list(gathering.experiments())
    gathering.note_what_no_file_declares(instance)
    failed = [row for row in rows if row.status == "failed"]
    return IndexContent(
        experiments=[part for part in every if not part.command],
        waiting=[part for part in every if part.command],
        counts={status: counts[status] for status in STATUSES},
        failed=[_failed_link(row) for row in failed[:MAX_NAMED]],
        more_failed=max(0, len(failed) - MAX_NAMED),
        files=list(_files(platform)),
        notes=gathering.notes,
        not_for_sharing=sorted(gathering.forbidden),
        unknown_licences=sorted(gathering.unknown),
        ui_url=platform.settings.ui_url,
        made_at=time.strftime("%Y-%m-%d %H:%M %Z"),
    )


def _failed_link(row: CheckRow) -> "Link":
    from urllib.parse import quote

    from thesis_assets.reports.check_page import anchor_of
    from thesis_assets.reports.index_page import Link

    return Link(f"{row.asset}.{row.check}", f"checks.html#{quote(anchor_of(row))}", row.cell.replace("|", " | "))


def _files(platform: Platform) -> "Iterator[Link]":
    from thesis_assets.reports.index_page import Link

    reports = platform.settings.reports
    for path, text in (
        (reports.leaderboard_markdown, "every run, with differences and how to read them"),
        (reports.leaderboard_csv, "a row a metric of every scene"),
        (reports.leaderboard_differences, "paired differences of runs"),
        (reports.leaderboard_latex, "LaTeX: booktabs, siunitx"),
        (reports.leaderboard_plot, "PSNR differences, a dot a scene"),
    ):
        if path.is_file():
            yield Link(text, path.name)


class _Gathering:
    """One look at everything; remembers how many pictures are in and of whose data."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, rows: Sequence[CheckRow]) -> None:
        self._platform, self._rows = platform, rows
        self._exported = History(instance).made("scene_samples")
        self._room = MAX_TRIPLETS
        self.notes: list[str] = []
        self.forbidden: set[str] = set()
        self.unknown: set[str] = set()
        self._differences = self._read_differences()
        self._comparisons = self._read_comparisons()

    def _read_differences(self) -> list[DifferenceRow]:
        from thesis_assets.reports.leaderboard_pages import read_differences

        path = self._platform.settings.reports.leaderboard_differences
        try:
            return read_differences(path) if path.is_file() else []
        except UNREADABLE as error:
            self.notes.append(f"No gains are shown: {reason_of(error)}")
            return []

    def _read_comparisons(self) -> list[ComparisonRecord]:
        found = []
        for path in self._platform.settings.reports.comparison_records():
            try:
                found.append(read_json(path, ComparisonRecord))
            except UNREADABLE as error:
                self.notes.append(f"A compare page is left out: {reason_of(error)}")
        return found

    def experiments(self) -> "Iterator[ExperimentPart]":
        """Every one that can be read; of the others, which file is why not."""
        for name in self._platform.experiments.names():
            try:
                part = self._experiment(self._platform.experiments.read(name))
            except UNREADABLE as error:
                self.notes.append(f"{name} is left out: {reason_of(error)}")
                continue
            yield part

    def note_what_no_file_declares(self, instance: dg.DagsterInstance) -> None:
        """Data and pages of an experiment or a run that is not declared any more would else be on disk and on no page."""
        try:
            self.notes += plan_registration(self._platform, instance).warnings
        except UNREADABLE as error:
            self.notes.append(f"Not known is which data has no experiment file: {reason_of(error)}")
        declared = {(cell.exp_name, cell.run_name) for cell in self._platform.run_cells()}
        unread = {*self._platform.experiments.names()} - {
            spec.exp_name for spec in self._platform.readable_experiments()
        }
        left: dict[tuple[str, str], list[str]] = {}
        for record in self._comparisons:
            run = (record.exp_name, record.run_name)
            if record.page and run not in declared and record.exp_name not in unread:
                left.setdefault(run, []).append(f"compare/{record.page}")
        for run, pages in left.items():
            self.notes.append(
                f"{'/'.join(run)}: no experiment file declares this run any more, and {_count(len(pages), 'compare page')} of "
                f"it {'stays' if len(pages) == 1 else 'stay'}: {', '.join(pages)}. Declare it again, or remove them with the .json files beside them"
            )

    def _experiment(self, spec: ExperimentSpec) -> "ExperimentPart":
        from thesis_assets.reports.gain_plots import gain_curves
        from thesis_assets.reports.index_page import ExperimentPart
        from thesis_assets.reports.sweeps import shown

        platform, name = self._platform, spec.exp_name
        summary = self._split(name)
        try:
            scenes = platform.scene_names(spec)
        except InvalidExperiment as error:
            return ExperimentPart(name, [printable(" ".join(error.problem.split()))], command="thesis-assets scenes")
        evaluated = self._evaluated(spec)
        n_exported = sum(f"{name}|{scene}" in self._exported for scene in scenes)
        trees = {
            run: {scene: platform.tree(Cell(name, run_name=run), scene) for scene in evaluated} for run in spec.runs
        }
        done = {
            run: {scene: tree for scene, tree in of_run.items() if tree.manifest.is_file()}
            for run, of_run in trees.items()
        }
        if not (n_exported or any(done.values())):
            if not scenes and not spec.evaluation_only:
                return ExperimentPart(name, ["its globs match no scene that is here"], command="thesis-assets scenes")
            return ExperimentPart(name, ["declared, nothing made yet"], command=f"thesis-assets run --exp {name}")
        of_exp = [row for row in self._differences if row.exp_name == name]
        gains = [row for row in of_exp if not row.seen_people]
        curves = gain_curves(drawn := shown(gains, each_seed=False))
        colours = curves.colours if curves else {}
        runs = [
            *(_over_seeds(row, colours.get(row.run_name, "")) for row in _last(drawn) if row.by_seed is not None),
            *(self._run(spec, run, done[run], len(evaluated), gains, colours.get(run, "")) for run in spec.runs),
        ]
        triplets, left_out = self._triplets(spec, scenes, done)
        return ExperimentPart(
            name=name,
            state=list(self._data_state(spec, scenes, n_exported, summary)),
            runs=runs,
            curves=curves.svg if curves else "",
            curves_note=_curves_note(drawn, [row for row in of_exp if row.seen_people]),
            triplets=triplets,
            triplets_note=f"{left_out} more groups are not pictured, so that this page stays small."
            if left_out
            else "",
        )

    def _evaluated(self, spec: ExperimentSpec) -> list[str]:
        """The evaluated scenes; none where no run is declared, or the data that says which they are is not made yet."""
        if not spec.runs:
            return []
        try:
            return self._platform.evaluation_scenes(spec)
        except InvalidExperiment:
            return []  # `run` says why; here it is a run that is not evaluated
        except InvalidFile as error:
            if self._platform.difix(Cell(spec.exp_name)).split_test.is_file():
                self.notes.append(f"Which scenes of {spec.exp_name} are evaluated is not known: {reason_of(error)}")
            return []

    def _split(self, name: str) -> SplitSummary | None:
        path = self._platform.difix(Cell(name)).split_summary
        try:
            return read_json(path, SplitSummary) if path.is_file() else None
        except UNREADABLE as error:
            self.notes.append(f"The split of {name} is not shown: {reason_of(error)}")
            return None

    def _data_state(
        self, spec: ExperimentSpec, scenes: Sequence[str], n_exported: int, summary: SplitSummary | None
    ) -> Iterator[str]:
        if spec.evaluation_only:
            yield "evaluated trees alone"
            return
        yield _count(len(scenes), "scene") + ("" if n_exported == len(scenes) else f", {n_exported} of them exported")
        if summary is not None:
            yield f"{_count(summary.n_train, 'sample')} to train on, {summary.n_test:,} held out"
            yield f"{_count(len(summary.train_group_ids), 'group')} in training, {len(summary.test_group_ids)} held out"
        if self._platform.is_frozen(spec.exp_name):
            yield "frozen"

    def _run(
        self,
        spec: ExperimentSpec,
        run_name: str,
        done: dict[str, EvaluationTree],
        n_evaluated: int,
        gains: Sequence[DifferenceRow],
        colour: str,
    ) -> "RunPart":
        from thesis_assets.reports.index_page import RunPart

        cell = Cell(spec.exp_name, run_name=run_name)
        of_cell = Counter(row.status for row in self._rows if row.cell == cell.key)
        recordings = [path for tree in done.values() for path in sorted(tree.rerun_dir.glob("*.rrd"))]
        triplets = self._platform.difix(cell).tuning_run(run_name).triplet_recording
        recordings = [*([triplets] if triplets.is_file() else []), *recordings]
        last = max((row for row in gains if row.run_name == run_name), key=lambda row: row.epoch, default=None)
        return RunPart(
            name=run_name,
            state=list(self._run_state(spec, cell, len(done), n_evaluated)),
            failed=of_cell["failed"],
            warnings=of_cell["warning"],
            gain=_gain(last) if last is not None else "",
            certainty=_certainty(last) if last is not None else "",
            colour=colour,
            comparisons=[
                _comparison(each)
                for each in self._comparisons
                if (each.exp_name, each.run_name) == (spec.exp_name, run_name)
            ],
            n_recordings=len(recordings),
            recordings=[self._shown(path) for path in recordings[:MAX_PATHS]],
            opens=f"thesis-assets rerun open --web --exp {spec.exp_name} --run {run_name}",
        )

    def _run_state(self, spec: ExperimentSpec, cell: Cell, n_done: int, n_evaluated: int) -> Iterator[str]:
        if not spec.evaluation_only:
            path = self._platform.difix(cell).tuning_run(cell.run_name).selected_checkpoint
            try:
                yield (
                    f"tuned, step {read_json(path, SelectedCheckpoint).step:,} chosen"
                    if path.is_file()
                    else "not tuned yet"
                )
            except InvalidFile:
                yield "its choice of a checkpoint cannot be read"
        if n_done == 0:
            yield "not evaluated yet"
        elif n_done < n_evaluated:
            yield f"evaluated on {n_done} of {n_evaluated} scenes"
        else:
            yield f"evaluated on {_count(n_done, 'scene')}"

    def _shown(self, path: Path) -> str:
        root = self._platform.settings.data_home.resolve().parent
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    # --- pictures ----------------------------------------------------------------------------------------------------

    def _triplets(
        self, spec: ExperimentSpec, scenes: Sequence[str], done: dict[str, dict[str, EvaluationTree]]
    ) -> "tuple[list[Triplet], int]":
        """A triplet a group, evaluated groups first; and how many groups have none for want of room."""
        from thesis_assets.scenes.matching import group_id

        evaluated = {scene: (run, tree) for run, of_run in reversed(done.items()) for scene, tree in of_run.items()}
        groups: dict[str, str] = {}
        for scene in [*evaluated, *scenes]:
            groups.setdefault(f"{dataset_of(scene)}/{group_id(scene, spec.split.group_rules)}", scene)
        shown: list[Triplet] = []
        left_out = 0
        for group, scene in groups.items():
            if self._room == 0:
                left_out += 1
                continue
            try:
                triplet = (
                    _evaluated_triplet(group, scene, *evaluated[scene])
                    if scene in evaluated
                    else self._sample_triplet(group, scene, Cell(spec.exp_name))
                )
            except UNREADABLE as error:
                self.notes.append(f"No pictures of {group}: {reason_of(error)}")
                continue
            if triplet is not None:
                shown.append(triplet)
                self._room -= 1
                self._note_licence(spec, dataset_of(scene))
        return shown, left_out

    def _note_licence(self, spec: ExperimentSpec, dataset: str) -> None:
        from thesis_assets.publishing.licences import licence_of

        allowed = licence_of(dataset, spec.datasets).redistribution
        if allowed is False:
            self.forbidden.add(dataset)
        elif allowed is None:
            self.unknown.add(dataset)

    def _sample_triplet(self, group: str, scene: str, cell: Cell) -> "Triplet | None":
        from thesis_assets.reports.index_page import Triplet
        from thesis_assets.samples.sample_rows import first_row, sample_of

        tree = self._platform.difix(cell)
        rows = tree.scene_run(scene).all_samples
        first = first_row(rows) if rows.is_file() else None
        if first is None:
            return None
        sample = sample_of(first)
        parts = (("render", tree.image(sample)), ("target", tree.target_image(sample)))
        return Triplet(group, f"{scene}, as exported", _pictures(*parts))


def _evaluated_triplet(group: str, scene: str, run_name: str, tree: EvaluationTree) -> "Triplet | None":
    from thesis_assets.reports.index_page import Triplet

    epochs = [parse_epoch(name) for name in read_json(tree.manifest, EvaluationManifest).eval_epochs]
    if not epochs:  # of a withdrawn evaluation nothing is left
        return None
    last = tree.task(max(epochs), "nvs")
    images = sorted(last.pred_dir.glob("*/*.png"))
    if not images:
        return None
    place = images[len(images) // 2].relative_to(last.pred_dir)
    parts = [("render", tree.task(0, "nvs").pred_dir / place)] if 0 in epochs else []
    if max(epochs) != 0:
        parts.append((f"refined, epoch {max(epochs)}", last.pred_dir / place))
    parts.append(("target", last.gt_inputs_dir / place))
    return Triplet(group, f"{scene}, {place.with_suffix('').as_posix()}, run {run_name}", _pictures(*parts))


def _pictures(*parts: tuple[str, Path]) -> list[tuple[str, str]]:
    from thesis_assets.images.codecs import encode_jpeg, read_reduced, reduced
    from thesis_assets.reports.page import data_uri

    return [
        (
            label,
            data_uri(encode_jpeg(reduced(read_reduced(path, PICTURE_HEIGHT), PICTURE_HEIGHT), QUALITY), "image/jpeg"),
        )
        for label, path in parts
        if path.is_file()
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _comparison(record: ComparisonRecord) -> "Link":
    from thesis_assets.reports.index_page import Link

    notes = [
        record.headline,
        record.reason or "",
        f"not to be passed on: {', '.join(record.not_for_sharing)}" if record.not_for_sharing else "",
    ]
    against = "the unrefined render" if record.against == "unrefined" else record.against
    return Link(
        f"compared with {against}",
        f"compare/{record.page}" if record.page else "",
        "; ".join(note for note in notes if note),
        record.command if record.reason else "",
    )


def _last(rows: Sequence[DifferenceRow]) -> list[DifferenceRow]:
    """That of the last epoch of each run."""
    return list({row.run_name: row for row in sorted(rows, key=lambda row: row.epoch)}.values())


def _over_seeds(row: DifferenceRow, colour: str) -> "RunPart":
    """What stands for the runs of a sweep that differ in their seed alone, which have parts of their own below."""
    from thesis_assets.reports.index_page import RunPart
    from thesis_assets.reports.sweeps import left_out_told, seeds_told

    state = [left_out_told(row) or seeds_told(row), f"evaluated on {_count(row.n_scenes, 'scene')}"]
    return RunPart(name=row.run_name, state=state, gain=_gain(row), certainty=_certainty(row), colour=colour)


def _gain(row: DifferenceRow) -> str:
    return f"{row.difference:+.2f} dB".replace("-", "−")


def _certainty(row: DifferenceRow) -> str:
    """How sure a gain is, in few words: an interval only where it speaks of other scenes or seeds too."""
    from thesis_assets.reports.leaderboard_tables import LEAKED_PEOPLE
    from thesis_assets.reports.sweeps import MIN_SEEDS

    if row.leaked:
        return LEAKED_PEOPLE
    if row.interval_over == "seeds" and row.low is not None and row.high is not None:
        interval = f"95 %: {row.low:+.2f} to {row.high:+.2f} over {row.n_seeds} seeds".replace("-", "−")
        return f"{interval}, {'above' if row.above_seeds else 'within'} the spread over seeds"
    if row.by_seed is not None and len(row.by_seed) > 1:
        return f"too few seeds for an interval (from {MIN_SEEDS} on)"
    if row.interval_over == "scenes" and row.low is not None and row.high is not None:
        return f"95 %: {row.low:+.2f} to {row.high:+.2f} over {row.n_scenes} scenes".replace("-", "−")
    if row.n_scenes == 1:
        return "one scene: it says nothing of others"
    return f"{row.scenes_above} of {row.n_scenes} scenes gained; too few for an interval"


def _curves_note(rows: Sequence[DifferenceRow], of_seen: Sequence[DifferenceRow] = ()) -> str:
    left_out = ", ".join(dict.fromkeys(row.run_name for row in of_seen))
    seen = f"Not in these gains: scenes of people that {left_out} was trained on." if left_out else ""
    if not rows:
        return seen
    parts = ["Paired PSNR difference to the unrefined render, mean over scenes"]
    if any(row.interval_over == "scenes" for row in rows):
        parts.append("whisker: 95 % over scenes")
    if any(row.interval_over == "seeds" for row in rows):
        parts.append("whisker of -s*: 95 % over seeds")
    if any(row.interval_over not in ("scenes", "seeds") and row.n_scenes > 1 for row in rows):
        parts.append("pale dot: a scene")
    if any(row.metric != "psnr" for row in rows):
        parts.append("some by the older PSNR of earlier scripts")
    if any(row.moved for row in rows):
        parts.append("some are not current")
    return "; ".join(parts) + "." + (f" {seen}" if seen else "")
