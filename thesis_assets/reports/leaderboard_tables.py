"""The leaderboard arranged for people: which rows stand in one table, and the means over scenes. No text of any format.

Rows of different protocols never share a table, so that an older tree's PSNR is never read beside one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from thesis_assets.evaluation.means import mean_over_scenes
from thesis_assets.evaluation.metric_names import TASK_TITLES, ShownMetric, shown_metrics
from thesis_assets.layout import TASKS, dataset_of
from thesis_assets.reports.leaderboard import RECONSTRUCTION, UNREFINED, UNREFINED_EPOCH, Leaderboard
from thesis_assets.reports.sweeps import left_out_told, mean_spread, seeds_told
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow

AVERAGE = "avg"
"""Stands for the scene in a mean over scenes."""
SEEN_PEOPLE = "people that the run was trained on"
LEAKED_PEOPLE = "trained on data with people on both sides"
DAMAGED_MARK, MOVED_MARK, LEAKED_MARK = "‡", "†", "§"
_MARKS = {"damaged": DAMAGED_MARK, "moved": MOVED_MARK, "leaked": LEAKED_MARK}
"""By what is said of a row."""
Metrics = dict[str, LeaderboardRow]
"""The rows of one (experiment, run, scene, epoch) by metric."""


@dataclass(frozen=True)
class RunScores:
    """A run at one epoch.

    Attributes:
        shown: the metrics of its table.
        cells: by scene.
    """

    exp_name: str
    run_name: str
    epoch: int
    shown: tuple[ShownMetric, ...]
    cells: dict[str, Metrics] = field(default_factory=dict)

    @cached_property
    def means(self) -> dict[str, float | None]:
        """By metric the mean over the scenes; empty where a scene has no value."""
        return self._over_scenes(lambda row: row.value)

    @cached_property
    def changes(self) -> dict[str, float | None]:
        """By metric the mean over the scenes of the difference to the unrefined render; empty where a scene has none."""
        return self._over_scenes(lambda row: row.difference_to_unrefined)

    def _over_scenes(self, number: Callable[[LeaderboardRow], float | None]) -> dict[str, float | None]:
        cells = self.cells.values()
        return {
            metric.name: mean_over_scenes(number(cell[metric.name]) if metric.name in cell else None for cell in cells)
            for metric in self.shown
        }

    @cached_property
    def spreads(self) -> dict[str, float | None]:
        """By metric the spread over seeds of `means`; empty where it is not a row over seeds."""
        return {
            metric.name: mean_spread([cell.get(metric.name) for cell in self.cells.values()]) for metric in self.shown
        }

    @property
    def seeds(self) -> str:
        """`2 of 3 seeds`, of a row over seeds."""
        return seeds_told(next(iter(next(iter(self.cells.values())).values())))

    @property
    def n_frames(self) -> int:
        """Frames with a value, over all scenes."""
        return sum(max(row.n_frames for row in cell.values()) for cell in self.cells.values())


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one task that were measured in one way, of people that the runs have not seen, or of people that they have.

    Attributes:
        shown: the metrics that have a value anywhere in it; all where damage left none.
        runs: by (experiment, run), sorted: its scores, epochs ascending.
        protocol: what its rows share.
        stated: False for trees of older scripts.
        seen: the runs were trained on the people of its scenes.
        empty: metrics without a value anywhere in it, each with the reason where a protocol has one.
    """

    task: str
    digest: str
    shown: tuple[ShownMetric, ...]
    runs: dict[tuple[str, str], list[RunScores]]
    protocol: dict[str, object]
    stated: bool
    seen: bool
    empty: tuple[tuple[ShownMetric, str], ...] = ()

    @property
    def title(self) -> str:
        """`Novel views`, and what is special about it."""
        older = "" if self.stated else ", measured by older scripts"
        return f"{TASK_TITLES[self.task]}{older}" + (f", {SEEN_PEOPLE}" if self.seen else "")

    @property
    def scores(self) -> Iterator[RunScores]:
        """Every line."""
        for epochs in self.runs.values():
            yield from epochs


def score_tables(board: Leaderboard) -> list[ScoreTable]:
    """Every table, task after task; those with a stated protocol first, and unseen people before seen ones."""
    by_table: dict[tuple[int, bool, str, bool], list[LeaderboardRow]] = {}
    for row in board.rows:
        key = (TASKS.index(row.task), not row.protocol_stated, row.table_digest, row.seen_people)
        by_table.setdefault(key, []).append(row)
    return [_table(rows, board) for _, rows in sorted(by_table.items(), key=lambda item: item[0])]


def _table(rows: Sequence[LeaderboardRow], board: Leaderboard) -> ScoreTable:
    first = rows[0]
    valued = {row.metric for row in rows if row.value is not None}
    shown = tuple(metric for metric in shown_metrics(first.task) if metric.name in valued)
    of_rows = {row.metric for row in rows} - valued if shown else set()
    empty = tuple(
        (metric, board.why_empty.get((first.table_digest, metric.name), ""))
        for metric in shown_metrics(first.task)
        if metric.name in of_rows
    )
    shown = _folded(rows, shown or tuple(shown_metrics(first.task)))
    runs: dict[tuple[str, str], list[RunScores]] = {}
    for row in sorted(rows, key=lambda row: (row.exp_name, row.run_name, row.epoch, row.scene_name)):
        scores = runs.setdefault((row.exp_name, row.run_name), [])
        if not scores or scores[-1].epoch != row.epoch:
            scores.append(RunScores(row.exp_name, row.run_name, row.epoch, shown))
        scores[-1].cells.setdefault(row.scene_name, {})[row.metric] = row
    protocol = board.protocols.get(first.table_digest, {})
    stated, seen = first.protocol_stated, first.seen_people
    return ScoreTable(first.task, first.table_digest, shown, runs, protocol, stated, seen, empty)


def same_tables(board: Leaderboard) -> Iterator[tuple[ScoreTable, list[ScoreTable]]]:
    """Every table that says something of its own, each with those after it that have the very same numbers."""
    found: dict[tuple[object, ...], list[ScoreTable]] = {}
    for table in score_tables(board):
        found.setdefault(_numbers(table), []).append(table)
    for first, *others in found.values():
        yield first, others


def _numbers(table: ScoreTable) -> tuple[object, ...]:
    """All that a table says but for how it was measured: two that are equal are one."""
    return tuple(
        (scores.exp_name, scores.run_name, scores.epoch, scene, row.step, *row.model_dump(include=_NUMBERS).values())
        for scores in table.scores
        for scene, cell in scores.cells.items()
        for row in cell.values()
    )


_NUMBERS = {"metric", "value", "difference_to_unrefined", "difference_to_baseline", "n_frames", *_MARKS}


def empty_columns(table: ScoreTable) -> str:
    """Which columns are left out as no row has a value, and why; empty where none is."""
    named: dict[str, list[str]] = {}
    for metric, why in table.empty:
        named.setdefault(why, []).append(metric.title)
    said = [", ".join(titles) + (f" ({why})" if why else "") for why, titles in named.items()]
    return f"without a value in every row, and not shown: {'; '.join(said)}" if said else ""


def _folded(rows: Sequence[LeaderboardRow], shown: Sequence[ShownMetric]) -> tuple[ShownMetric, ...]:
    """Metrics that have the same value in every cell stand in one column, under the names of all."""
    columns: dict[tuple[object, ...], list[ShownMetric]] = {}
    for metric in shown:
        values = tuple(
            (row.exp_name, row.run_name, row.epoch, row.scene_name, row.value, row.difference_to_unrefined)
            for row in rows
            if row.metric == metric.name
        )
        has_values = any(row.value is not None for row in rows if row.metric == metric.name)
        kind = (metric.unit, metric.decimals, metric.higher_is_better, values if has_values else metric.name)
        columns.setdefault(kind, []).append(metric)
    return tuple(
        replace(first, title=", ".join([first.title, *(each.title for each in others)]))
        for first, *others in columns.values()
    )


def of_table(board: Leaderboard, table: ScoreTable) -> list[DifferenceRow]:
    """The differences that stand below a table.

    One over people that only the other run has seen has no table of its own: it stands, and is marked, where its run does.
    """
    place = (table.task, table.digest)
    kinds = {row.seen_people for row in board.rows if (row.task, row.table_digest) == place}
    return [
        row
        for row in board.differences
        if (row.task, row.table_digest) == place and (row.seen_people == table.seen or row.seen_people not in kinds)
    ]


def remarks(table: ScoreTable) -> list[str]:
    """What a reader must know of single cells: those that are damaged and left empty, and those that are stale; and of runs, what was
    on both sides of their data; each thing once."""
    lines: dict[str, dict[str, None]] = {}
    for scores in table.scores:
        for scene, cell in scores.cells.items():
            first, run = next(iter(cell.values())), f"{scores.exp_name}/{scores.run_name}"
            for what, mark in _MARKS.items():
                if text := getattr(first, what):
                    where = run if what == "leaked" else f"{run}, {scene}, epoch {scores.epoch}"
                    lines.setdefault(f"{mark} {text}", {})[where] = None
            if left_out := left_out_told(first):
                lines.setdefault(left_out, {})[f"{run}, epoch {scores.epoch}"] = None
    return [f"{text} ({'; '.join(where)})" for text, where in lines.items()]


def marks(scores: RunScores, scene: str | None = None) -> str:
    """What stands beside a run, or one scene of it, that `remarks` speak of."""
    cells = scores.cells.values() if scene is None else [scores.cells[scene]]
    rows = [row for cell in cells for row in cell.values()]
    return "".join(mark for what, mark in _MARKS.items() if any(getattr(row, what) for row in rows))


def marks_of(row: DifferenceRow) -> str:
    """What stands beside a difference."""
    return "".join(mark for what, mark in _MARKS.items() if getattr(row, what, ""))


def datasets(board: Leaderboard) -> set[str]:
    """Of every scene that has a row."""
    return {dataset_of(row.scene_name) for row in board.rows}


def shown_differences(board: Leaderboard, table: ScoreTable) -> list[DifferenceRow]:
    """The differences of a table's runs that a person looks for: of shown metrics, without those that are exactly nothing.

    Bodies do not move when renders are refined: their differences to epoch 0 are zero and would fill the page. That of several seeds'
    novel views tells something: what was swept has no effect.
    """
    names = [metric.name for metric in table.shown]
    found = [
        row
        for row in of_table(board, table)
        if row.metric in names
        and row.difference is not None
        and (
            any(row.by_scene.values())
            or (row.by_seed is not None and row.task == "nvs" and row.epoch != UNREFINED_EPOCH)
        )
    ]
    # The older PSNR moves by exactly as much as the PSNR beside it.
    return [row for row in found if row.metric != "psnr_channel_sum" or "psnr" not in names]


def reasons_for_nothing(board: Leaderboard, table: ScoreTable) -> list[str]:
    """Why runs of the table have no difference, or which of their seeds have none, each reason once."""
    lines = {
        f"{row.exp_name}/{row.run_name}, epoch {row.epoch}, against {row.against}: {row.reason or left_out_told(row)}": None
        for row in of_table(board, table)
        if (
            (row.difference is None and row.reason is not None) or (row.seeds_left_out and row.epoch != UNREFINED_EPOCH)
        )
        and row.metric == (table.shown[0].name if table.shown else row.metric)
    }
    return list(lines)


def psnr_differences(board: Leaderboard) -> list[DifferenceRow]:
    """One row a (run, epoch, against, seen or unseen people): its PSNR difference, or that of the older PSNR where only that was measured."""
    chosen: dict[tuple[str, str, int, str, bool], DifferenceRow] = {}
    for row in board.differences:
        if row.metric in ("psnr", "psnr_channel_sum") and row.difference is not None:
            key = (row.exp_name, row.run_name, row.epoch, row.against, row.seen_people)
            if row.metric == "psnr" or key not in chosen:
                chosen[key] = row
    return list(chosen.values())


def protocol_text(protocol: dict[str, object]) -> str:
    """`region full_frame, background black, ...`, in the protocol's own words."""
    parts = []
    for key, value in sorted(protocol.items()):
        inner = ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else value
        parts.append(f"{key.replace('_', ' ')}: {inner}")
    return "; ".join(parts)


def against_words(row: DifferenceRow) -> str:
    """What a difference is against, in a table; whose it is where the run was reconstructed anew, or against its control."""
    if row.against != UNREFINED:
        name = f"control {row.against}: {row.whose} alone" if row.whose else row.against
    elif row.whose == RECONSTRUCTION:
        name = f"epoch 0: {row.whose}"
    else:
        name = "unrefined render"
    return f"{name}{f' ({SEEN_PEOPLE})' if row.seen_people else ''} {marks_of(row)}".strip()


DATASET = "hi4d"
NOT_STATED = "convention not stated"


@dataclass(frozen=True)
class PublishedRow:
    """One method's figures.

    Attributes:
        source: whom the figures are by.
        values: by metric, as printed; under the metric of ours that was measured, or where that is not known under its namesake, which `flag` then says.
        flag: what is known of the protocol.
    """

    source: str
    task: str
    values: dict[str, float]
    flag: str


def _nvs(source: str, ssim: float, psnr: float, lpips: float) -> PublishedRow:
    return PublishedRow(source, "nvs", {"psnr": psnr, "ssim": ssim, "lpips": lpips}, f"PSNR: {NOT_STATED}")


def _pose(source: str, mpjpe: float, mve: float, cd: float, pcdr: float) -> PublishedRow:
    values = {"mpjpe_mm": mpjpe, "mve_mm": mve, "cd_mm": cd, "pcdr": pcdr}
    return PublishedRow(source, "pose_smpl", values, f"global; {NOT_STATED}")


PUBLISHED = (
    _nvs("Shuai et al.", 0.898, 19.6, 0.1099),
    _nvs("MultiPly", 0.915, 20.7, 0.0798),
    PublishedRow(
        "the thesis",
        "nvs",
        {"psnr_channel_sum": 20.1, "ssim": 0.926, "lpips": 0.0809},
        "PSNR* is psnr_channel_sum: 4.771 dB below psnr",
    ),
    _pose("CLIFF", 85.7, 102.1, 351.7, 0.606),
    _pose("TRACE", 95.6, 115.7, 249.4, 0.603),
    _pose("MultiPly", 69.4, 83.6, 218.4, 0.709),
    PublishedRow(
        "the thesis",
        "pose_smpl",
        {"mpjpe_mm": 102.3, "mve_mm": 83.8, "cd_mm": 189.2, "pcdr_legacy": 0.634},
        "global; PCDR* is pcdr_legacy: the ground truth was not moved first",
    ),
)


def as_printed(value: float | None) -> str:
    """With the digits that were published; empty where nothing was."""
    return "" if value is None else f"{value:g}"


def published(task: str) -> list[PublishedRow]:
    """The published rows of a task."""
    return [row for row in PUBLISHED if row.task == task]
