"""The compare page: one offline HTML file that shows where a run gained and where it hurt, frame by frame, worst first.

What stands on it is chosen here; how it looks is in `templates/compare_page.html.j2`, and what moves (the slider, sorting, filtering) in
`templates/compare_page.js`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.evaluation.means import mean_over_scenes
from thesis_assets.evaluation.metric_names import TASK_TITLES, ShownMetric, shown_metrics
from thesis_assets.layout import TASKS
from thesis_assets.reports.compared_runs import ComparedFrame, ComparedRuns, Pictures
from thesis_assets.reports.leaderboard import DIFIX, RECONSTRUCTION, UNREFINED
from thesis_assets.reports.leaderboard_tables import AVERAGE, LEAKED_PEOPLE, SEEN_PEOPLE, protocol_text
from thesis_assets.reports.page import render_page
from thesis_assets.schemas.evaluation import DifferenceRow
from thesis_assets.schemas.lineage import LineageLink

MAX_NAMED = 5
"""Frames without a picture that are named."""
Pair = tuple[float | None, float | None]
"""Baseline and tuned."""


@dataclass(frozen=True)
class PageFacts:
    """What the page says about itself: when and by what it was made, the root that paths are shown from, and the licences of
    those of its images that may not be passed on.
    """

    made_at: str
    version: str
    root: Path
    forbidding_licences: tuple[str, ...] = ()


def render_compare_page(
    compared: ComparedRuns, pictures: Pictures, lineage: Sequence[LineageLink], facts: PageFacts
) -> str:
    """The page as HTML text.

    Args:
        lineage: what both runs were made from, down to the scenes.
    """
    return render_page(
        "compare_page",
        f"{compared.exp_name}: {compared.run_name} against {compared.baseline_name}",
        data={"data": _data(compared, pictures, facts)},
        compared=compared,
        names=(compared.baseline_name, compared.run_name, "truth"),
        facts=facts,
        verdict=_verdict(compared),
        evidence=list(_evidence(compared)),
        cards=list(_cards(compared)),
        chart=scenes_chart(compared),
        measured=[
            (place, each.metric.title) for place, each in enumerate(_judged(compared)) if each.kind != "unmeasured"
        ],
        cameras=sorted({frame.cam_id for frame in compared.frames}),
        only_pictured=len(pictures.by_frame) < len(compared.frames),
        tables=list(_tables(compared)),
        lineage=lineage,
        n_breaks=sum(1 for root in lineage for _ in root.breaks()),
        protocol=protocol_text(compared.protocol),
        pictures=pictures,
        left_out=list(_left_out(compared, pictures)),
    )


# --- the headline ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What one metric says of the run: `kind` is `gain`, `loss`, `open` (the interval holds 0), `same` or `unmeasured`."""

    metric: ShownMetric
    row: DifferenceRow | None

    @property
    def kind(self) -> str:
        if self.row is None or self.row.difference is None:
            return "unmeasured"
        if self.row.interval is not None and self.row.interval[0] <= 0 <= self.row.interval[1]:
            return "open" if any(self.row.by_scene.values()) else "same"
        return _kind_of(self.row.difference, self.metric) or "same"

    def text(self, *, minus: str = "−") -> str:
        """`PSNR +1.092 dB`."""
        if self.row is None or self.row.difference is None:
            return f"{self.metric.title} not measured"
        number = _signed(self.metric, self.row.difference, minus=minus)
        return " ".join(part for part in (self.metric.title, number, self.metric.unit) if part)


def headline(compared: ComparedRuns) -> str:
    """One line of plain text with every metric, whichever way it went."""
    numbers = ", ".join(each.text(minus="-") for each in _judged(compared))
    caveats = [SEEN_PEOPLE] if compared.counts_seen else []
    caveats += [LEAKED_PEOPLE] if compared.leaked else []
    caveats += [RECONSTRUCTION] if _whose(compared) == RECONSTRUCTION else []
    caveats += ["not current"] if any(scene in compared.moved for scene in compared.counted) else []
    return f"epoch {compared.epoch}: {numbers}" + (f" ({'; '.join(caveats)})" if caveats else "")


def _whose(compared: ComparedRuns) -> str:
    return next((row.whose for row in compared.differences if row.task == "nvs"), "")


def _judged(compared: ComparedRuns) -> list[Judged]:
    names = _frame_metrics(compared)
    return [Judged(metric, _difference(compared, "nvs", metric.name)) for metric in map(_metric, names)]


def _verdict(compared: ComparedRuns) -> list[tuple[str, str]]:
    """(kind, words) in the order in which they are read: what rose never stands without what fell."""
    words = {
        "gain": "Nearer to the truth by {}",
        "loss": "farther from the truth by {}",
        "open": "not decided by {} (the interval holds 0)",
        "same": "the same by {}",
        "unmeasured": "{}",
    }
    judged = _judged(compared)
    parts: list[tuple[str, str]] = []
    for kind, form in words.items():
        texts = [each.text() for each in judged if each.kind == kind]
        if texts:
            text = form.format(" and ".join(texts))
            joint = ", but " if kind == "loss" else "; "
            parts.append((kind, joint + text if parts else text[:1].upper() + text[1:]))
    return parts


def _evidence(compared: ComparedRuns) -> Iterator[str]:
    """Sentences that a person can quote: how sure the numbers are, and what is against them."""
    if _whose(compared) == RECONSTRUCTION:
        yield f"What changed since epoch 0 is {RECONSTRUCTION}."
    if _whose(compared) == DIFIX and compared.baseline_name != UNREFINED:
        yield f"{compared.baseline_name} is the control: the same without the tuned checkpoint, so that the difference is DiFix's alone."
    if compared.counts_seen:
        yield f"These are {SEEN_PEOPLE}: it says how well they were learned."
    elif compared.seen:
        yield f"Not counted, since they are {SEEN_PEOPLE}: {', '.join(sorted(compared.seen))}."
    if compared.leaked:
        yield f"It tells nothing of people that were not trained on: {compared.leaked}."
    if stale := [scene for scene in compared.counted if scene in compared.moved]:
        yield f"Not current (what moved stands at the end): {', '.join(stale)}."
    metric = _metric(compared.metric)
    row = _difference(compared, "nvs", compared.metric)
    if row is None or row.difference is None:
        yield "No frame has a value on both sides."
        return
    yield f"{metric.title} over {_count(row.n_scenes, 'scene')}{_certainty(row, metric)}."
    if row.n_scenes > 1:
        p = "" if row.sign_flip_p is None else f" (exact sign-flip p = {row.sign_flip_p:.3f})"
        yield f"{row.scenes_above} of {row.n_scenes} scenes gained{p}."
    lost = [text for each in map(_metric, _frame_metrics(compared)) if (text := _lost_frames(compared, each))]
    yield f"{'; '.join(lost)}."


def _lost_frames(compared: ComparedRuns, metric: ShownMetric) -> str:
    counted = set(compared.counted)
    frames = [frame for frame in compared.frames if frame.scene_name in counted]
    pairs = [(frame.baseline[metric.name], frame.tuned[metric.name]) for frame in frames]
    paired = [after - before for before, after in pairs if before is not None and after is not None]
    if not paired:
        return ""
    better = 1 if metric.higher_is_better else -1
    lost = sum(better * value < 0 for value in paired)
    worst = min(paired, key=lambda value: better * value)
    unit = f" {metric.unit}" if metric.unit else ""
    return (
        f"{lost:,} of {_count(len(paired), 'frame')} ({100 * lost / len(paired):.0f}\u00a0%) lost {metric.title}, "
        f"the worst {_signed(metric, worst)}{unit}"
    )


def _certainty(row: DifferenceRow, metric: ShownMetric) -> str:
    if row.interval is None:
        return " (too few scenes and frames to say how sure that is)"
    over = (
        "" if row.interval_over == "scenes" else " over the frames of these scenes; too few scenes to speak of others"
    )
    return f" (95 %: {_interval(row, metric)}{over})"


def _interval(row: DifferenceRow, metric: ShownMetric) -> str:
    return " to ".join(_signed(metric, end) for end in row.interval or ())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- numbers -----------------------------------------------------------------------------------------------------------


def _frame_metrics(compared: ComparedRuns) -> tuple[str, ...]:
    """The metrics of a frame; the first is what frames are sorted by."""
    return (compared.metric, "ssim", "lpips")


def _metric(name: str) -> ShownMetric:
    return next(metric for metric in shown_metrics("nvs") if metric.name == name)


def _difference(compared: ComparedRuns, task: str, metric: str, scene: str | None = None) -> DifferenceRow | None:
    """Over the scenes that count; of the people of one scene where it is named."""
    seen = compared.counts_seen if scene is None else scene in compared.seen
    found = (row for row in compared.differences if (row.task, row.metric, row.seen_people) == (task, metric, seen))
    return next(found, None)


def _shown(compared: ComparedRuns, task: str) -> list[ShownMetric]:
    """The metrics of a task that have a value on some side, without the older PSNR, which moves as the PSNR beside it."""
    valued = {
        name for (_, of, name), pair in compared.values.items() if of == task and any(v is not None for v in pair)
    }
    return [
        metric
        for metric in shown_metrics(task)
        if metric.name in valued and not (metric.name == "psnr_channel_sum" and compared.metric == "psnr")
    ]


def _means(compared: ComparedRuns, task: str, metric: str) -> Pair:
    pairs = [compared.values.get((scene, task, metric), (None, None)) for scene in compared.counted]
    before, after = (mean_over_scenes(side) for side in zip(*pairs, strict=True))
    return before, after


@dataclass(frozen=True)
class Card:
    """One metric of novel views: its difference, both means, the interval."""

    heading: str
    kind: str
    difference: str
    before: str
    after: str
    interval: str


def _cards(compared: ComparedRuns) -> Iterator[Card]:
    for metric in _shown(compared, "nvs"):
        row = _difference(compared, "nvs", metric.name)
        if row is not None and row.difference is not None:
            before, after = (metric.number(value) for value in _means(compared, "nvs", metric.name))
            interval = (
                f"95 %: {_interval(row, metric)} over {row.interval_over}" if row.interval_over else "no interval"
            )
            kind = _kind_of(row.difference, metric)
            yield Card(metric.heading, kind, _signed(metric, row.difference), before, after, interval)


# --- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One number of the tuned run, and how it differs."""

    value: str
    change: str
    kind: str


@dataclass(frozen=True)
class TaskTable:
    """Scenes by metrics, of what differs.

    Attributes:
        lines: (scene or `avg`, its cells).
        same_metrics: `RR-MPJPE 83.07 mm`, of the metrics that are the same on both sides in every scene.
        same_scenes: scenes in which every shown metric is the same on both sides.
        same_lines: what stands folded below: every scene's values of the metrics that are the same.
    """

    title: str
    headings: list[str]
    lines: list[tuple[str, list[Cell]]]
    same_metrics: list[str]
    same_scenes: list[str]
    same_headings: list[str]
    same_lines: list[tuple[str, list[str]]]


def _tables(compared: ComparedRuns) -> Iterator[TaskTable]:
    for task in TASKS:
        shown = _shown(compared, task)
        moved = [metric for metric in shown if any(_moved(compared, task, metric, scene) for scene in compared.scenes)]
        same = [metric for metric in shown if metric not in moved]
        scenes = [scene for scene in compared.scenes if any(_moved(compared, task, each, scene) for each in moved)]
        lines = [(scene, [_cell(compared, task, metric, scene) for metric in moved]) for scene in scenes]
        if moved and len(compared.counted) > 1:
            lines.append((AVERAGE, [_cell(compared, task, metric) for metric in moved]))
        if shown:
            yield TaskTable(
                TASK_TITLES[task],
                [metric.heading for metric in moved],
                lines,
                [
                    f"{each.title} {each.number(_means(compared, task, each.name)[1])} {each.unit}".strip()
                    for each in same
                ],
                [scene for scene in compared.scenes if moved and scene not in scenes],
                [metric.heading for metric in same],
                [
                    (scene, [each.number(_pair(compared, task, each, scene)[1]) for each in same])
                    for scene in compared.scenes
                ],
            )


def _pair(compared: ComparedRuns, task: str, metric: ShownMetric, scene: str) -> Pair:
    return compared.values.get((scene, task, metric.name), (None, None))


def _moved(compared: ComparedRuns, task: str, metric: ShownMetric, scene: str) -> bool:
    before, after = _pair(compared, task, metric, scene)
    row = _difference(compared, task, metric.name, scene)
    return before != after or bool(row and row.by_scene.get(scene))


def _cell(compared: ComparedRuns, task: str, metric: ShownMetric, scene: str | None = None) -> Cell:
    """Of a scene, or of the mean over them."""
    row = _difference(compared, task, metric.name, scene)
    change = None if row is None else row.by_scene.get(scene) if scene else row.difference
    value = (_pair(compared, task, metric, scene) if scene else _means(compared, task, metric.name))[1]
    return Cell(metric.number(value), _signed(metric, change), _kind_of(change, metric))


# --- what is not on it, and what the script reads ----------------------------------------------------------------------


def _left_out(compared: ComparedRuns, pictures: Pictures) -> Iterator[tuple[str, str]]:
    """(what, why)."""
    n, shown = len(compared.frames), len(pictures.by_frame)
    if shown < n:
        yield (
            "Left out",
            f"the pictures of {n - shown:,} of {_count(n, 'frame')}, so that the file stays small "
            f"({pictures.n_bytes / 1e6:.0f} MB of pictures are in). Each scene's worst frame, the worst, the best and an even choice "
            "between them are in; all frames are in the numbers, the list and the dots.",
        )
    if pictures.scale < 1:
        yield "Smaller", f"pictures are shown at {100 * pictures.scale:.0f} % of the size that was measured."
    for scene, reason in compared.left_out.items():
        yield "Not compared", f"{scene}: {reason}."
    for scene, moved in compared.moved.items():
        yield "Not current", f"{scene}: {moved}."
    for place, reason in list(pictures.unreadable.items())[:MAX_NAMED]:
        frame = compared.frames[place]
        yield "No picture", f"{frame.scene_name} cam_{frame.cam_id}/{frame.fname}: {reason}."
    if (more := len(pictures.unreadable) - MAX_NAMED) > 0:
        yield "No picture", f"of {more} more."


def _data(compared: ComparedRuns, pictures: Pictures, facts: PageFacts) -> dict[str, object]:
    """What the script needs, with short rows: a page may have a hundred thousand frames."""
    place_of = {scene: place for place, scene in enumerate(compared.scenes)}
    numbers = {place: number for number, place in enumerate(pictures.by_frame)}
    names = _frame_metrics(compared)
    return {
        "names": [compared.baseline_name, compared.run_name, "truth"],
        "metrics": [[each.title, each.decimals, each.higher_is_better, each.unit] for each in map(_metric, names)],
        "scenes": compared.scenes,
        "folders": _folders(compared, facts.root),
        "frames": [
            [
                *(place_of[frame.scene_name], frame.cam_id, frame.fname),
                *(_short(side[name]) for name in names for side in (frame.baseline, frame.tuned)),
                numbers.get(place),
            ]
            for place, frame in enumerate(compared.frames)
        ],
        "pictures": list(pictures.by_frame.values()),
    }


def _folders(compared: ComparedRuns, root: Path) -> list[list[str]]:
    """By scene: where the images of both runs and the truth lie."""
    first: dict[str, ComparedFrame] = {}
    for frame in compared.frames:
        first.setdefault(frame.scene_name, frame)
    return [[_from_root(path.parents[1], root) for path in first[scene].images] for scene in compared.scenes]


def _from_root(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


# --- the scenes on one axis -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChartRow:
    """One line of the chart; places are percent of the track's width.

    Attributes:
        scene: that the line leads to; None: the mean.
        bar: left end and width of the spread of a scene's frames, or of the mean's interval.
        over: what the mean's interval is over, else None.
    """

    scene: str | None
    value: str
    kind: str
    dot: float
    bar: tuple[float, float] | None
    over: str | None = None


@dataclass(frozen=True)
class ScenesChart:
    """Scenes by their difference, the worst first, after the mean over them."""

    title: str
    rows: list[ChartRow]
    ticks: list[tuple[float, str]]
    zero: float


def _signed(metric: ShownMetric, value: float | None, *, minus: str = "−") -> str:
    """A difference as a person reads it, with the metric's decimals."""
    return metric.number(value, sign=True).replace("-", minus)


def _kind_of(difference: float | None, metric: ShownMetric) -> str:
    """`gain` or `loss`, or empty where nothing has changed."""
    if not difference:
        return ""
    return "gain" if (difference > 0) == metric.higher_is_better else "loss"


def scenes_chart(compared: ComparedRuns) -> ScenesChart | None:
    """None where there is one scene: the list of its frames says more than one dot."""
    row = _difference(compared, "nvs", compared.metric)
    if row is None or row.difference is None or row.n_scenes < 2:
        return None
    metric = _metric(compared.metric)
    spreads = {scene: _spread(compared, scene) for scene in row.by_scene}
    ends = (end for pair in spreads.values() for end in pair)
    axis = _Axis([*row.by_scene.values(), *ends, *(row.interval or ())])
    rows = [_mean_row(row, metric, axis)]
    for scene, value in sorted(row.by_scene.items(), key=lambda item: item[1]):
        kind = _kind_of(value, metric)
        rows.append(ChartRow(scene, _signed(metric, value), kind, axis.percent(value), axis.bar(*spreads[scene])))
    return ScenesChart(metric.title, rows, axis.ticks(), axis.percent(0))


class _Axis:
    """From a difference to a place on the track, which goes from tick to tick, with zero and all values inside."""

    def __init__(self, values: Sequence[float]) -> None:
        from matplotlib.ticker import MaxNLocator

        low, high = min(0.0, *values), max(0.0, *values)
        margin = max(0.04 * (high - low), 2e-4)
        ticks = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low - margin, high + margin)
        self.values = [float(tick) for tick in ticks]

    def percent(self, value: float) -> float:
        return round(100 * (value - self.values[0]) / (self.values[-1] - self.values[0]), 2)

    def bar(self, low: float, high: float) -> tuple[float, float]:
        return self.percent(low), round(max(0.0, self.percent(high) - self.percent(low)), 2)

    def ticks(self) -> list[tuple[float, str]]:
        step = self.values[1] - self.values[0]
        return [(self.percent(v), "0" if abs(v) < step / 1000 else f"{v:+.3g}".replace("-", "−")) for v in self.values]


def _spread(compared: ComparedRuns, scene: str) -> tuple[float, float]:
    """Between which differences the middle 80 % of a scene's frames lie."""
    values = sorted(
        frame.difference for frame in compared.frames if frame.scene_name == scene and frame.difference is not None
    )
    if not values:
        return (0.0, 0.0)
    last = len(values) - 1
    return values[round(0.1 * last)], values[round(0.9 * last)]


def _mean_row(row: DifferenceRow, metric: ShownMetric, axis: _Axis) -> ChartRow:
    value = row.difference or 0.0
    bar = axis.bar(*row.interval) if row.interval is not None else None
    return ChartRow(None, _signed(metric, value), _kind_of(value, metric), axis.percent(value), bar, row.interval_over)
