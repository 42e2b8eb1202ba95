"""The compare page's picture of the scenes: a dot a scene on one axis, the spread of its frames, and the mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from thesis_assets.evaluation.compared_runs import ComparedRuns
from thesis_assets.evaluation.leaderboard_plot import value_range
from thesis_assets.evaluation.metric_names import shown_metrics
from thesis_assets.pages.document import escaped
from thesis_assets.schemas.evaluation import DifferenceRow


def scenes_section(compared: ComparedRuns) -> str:
    """Scenes by their difference, the worst first; each leads to its frames."""
    row = next((each for each in compared.differences if (each.task, each.metric) == ("nvs", compared.metric)), None)
    if row is None or row.difference is None:
        return ""
    spreads = {scene: _spread(compared, scene) for scene in row.by_scene}
    axis = _Axis(
        [*row.by_scene.values(), *(end for ends in spreads.values() for end in ends), row.low or 0, row.high or 0]
    )
    title = next(metric.title for metric in shown_metrics("nvs") if metric.name == compared.metric)
    lines = [_mean_line(row, axis)] if row.n_scenes > 1 else []
    for scene, value in sorted(row.by_scene.items(), key=lambda item: item[1]):
        lines.append(_scene_line(scene, value, spreads[scene], axis))
    return f"""<section id="scenes"><h2>Scenes <small class="muted">Δ {escaped(title)} in dB; dot: mean of a scene's frames, bar: the middle 80 % of
them</small></h2><div class="dots">{"".join(lines)}
<div class="row axis"><span></span><span class="track">{axis.ticks()}</span><span></span></div></div></section>"""


class _Axis:
    """From a difference to a place on the track."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high, self.step = value_range(values)

    def percent(self, value: float) -> float:
        return 100 * (value - self.low) / (self.high - self.low)

    def ticks(self) -> str:
        count = round((self.high - self.low) / self.step)
        every = 1 if count <= 8 else 2
        parts = []
        for number in range(0, count + 1, every):
            value = self.low + number * self.step
            text = "0" if abs(value) < self.step / 1000 else f"{value:+.3g}"
            parts.append(f'<i class="tick" style="left:{self.percent(value):.2f}%">{text}</i>')
        return "".join(parts)

    def zero(self) -> str:
        return f'<i class="zero" style="left:{self.percent(0):.2f}%"></i>'

    def bar(self, kind: str, ends: tuple[float, float]) -> str:
        left, right = self.percent(ends[0]), self.percent(ends[1])
        return f'<i class="{kind}" style="left:{left:.2f}%;width:{max(0.0, right - left):.2f}%"></i>'

    def dot(self, value: float, kind: str = "dot") -> str:
        sign = "gain" if value > 0 else "loss" if value < 0 else ""
        return f'<i class="{kind} {sign}" style="left:{self.percent(value):.2f}%"></i>'


def _spread(compared: ComparedRuns, scene: str) -> tuple[float, float]:
    values = sorted(
        frame.difference for frame in compared.frames if frame.scene_name == scene and frame.difference is not None
    )
    if not values:
        return (0.0, 0.0)
    last = len(values) - 1
    return values[round(0.1 * last)], values[round(0.9 * last)]


def _scene_line(scene: str, value: float, spread: tuple[float, float], axis: _Axis) -> str:
    sign = "gain" if value > 0 else "loss" if value < 0 else ""
    return (
        f'<a class="row" href="#scene={escaped(scene)}" data-scene="{escaped(scene)}"><span class="name">{escaped(scene)}</span>'
        f'<span class="track">{axis.zero()}{axis.bar("spread", spread)}{axis.dot(value)}</span>'
        f'<span class="n {sign}">{value:+.3f}</span></a>'
    )


def _mean_line(row: DifferenceRow, axis: _Axis) -> str:
    value = row.difference or 0.0
    interval = (
        axis.bar(f"interval {row.interval_over}", (row.low, row.high))
        if row.low is not None and row.high is not None
        else ""
    )
    over = {"scenes": "95 % over scenes", "frames": "95 % over frames only", None: ""}[row.interval_over]
    return (
        f'<div class="row mean"><span class="name">mean <small>{over}</small></span>'
        f'<span class="track">{axis.zero()}{interval}{axis.dot(value, "diamond")}</span><span class="n">{value:+.3f}</span></div>'
    )
