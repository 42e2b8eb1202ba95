"""The compare page's picture of the scenes: a dot a scene on one axis, the spread of its frames, and the mean with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thesis_assets.evaluation.compared_runs import ComparedRuns
from thesis_assets.evaluation.metric_names import ShownMetric, shown_metrics
from thesis_assets.schemas.evaluation import DifferenceRow


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


def signed(metric: ShownMetric, value: float | None, *, minus: str = "−") -> str:
    """A difference as a person reads it, with the metric's decimals."""
    return metric.number(value, sign=True).replace("-", minus)


def kind_of(difference: float | None, metric: ShownMetric) -> str:
    """`gain` or `loss`, or empty where nothing has changed."""
    if not difference:
        return ""
    return "gain" if (difference > 0) == metric.higher_is_better else "loss"


def scenes_chart(compared: ComparedRuns) -> ScenesChart | None:
    """None where there is one scene: the list of its frames says more than one dot."""
    row = next((each for each in compared.differences if (each.task, each.metric) == ("nvs", compared.metric)), None)
    if row is None or row.difference is None or row.n_scenes < 2:
        return None
    metric = next(metric for metric in shown_metrics("nvs") if metric.name == compared.metric)
    spreads = {scene: _spread(compared, scene) for scene in row.by_scene}
    ends = (end for pair in spreads.values() for end in pair)
    axis = _Axis([*row.by_scene.values(), *ends, row.low or 0, row.high or 0])
    rows = [_mean_row(row, metric, axis)]
    for scene, value in sorted(row.by_scene.items(), key=lambda item: item[1]):
        kind = kind_of(value, metric)
        rows.append(ChartRow(scene, signed(metric, value), kind, axis.percent(value), axis.bar(*spreads[scene])))
    return ScenesChart(metric.title, rows, axis.ticks(), axis.percent(0))


class _Axis:
    """From a difference to a place on the track."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high, self.step = value_range(values)

    def percent(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def bar(self, low: float, high: float) -> tuple[float, float]:
        return self.percent(low), round(max(0.0, self.percent(high) - self.percent(low)), 2)

    def ticks(self) -> list[tuple[float, str]]:
        count = round((self.high - self.low) / self.step)
        values = [self.low + number * self.step for number in range(0, count + 1, 1 if count <= 8 else 2)]
        return [(self.percent(v), "0" if abs(v) < self.step / 1000 else f"{v:+.3g}".replace("-", "−")) for v in values]


def value_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Lowest and highest tick, and the step between ticks: round numbers, with zero and all values inside."""
    low, high = min(0.0, *values), max(0.0, *values)
    rough = max(high - low, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return math.floor(low / step - 0.2) * step, math.ceil(high / step + 0.2) * step, step


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
    bar = axis.bar(row.low, row.high) if row.low is not None and row.high is not None else None
    return ChartRow(None, signed(metric, value), kind_of(value, metric), axis.percent(value), bar, row.interval_over)
