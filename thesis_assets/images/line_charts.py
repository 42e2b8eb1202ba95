"""Line charts over a common axis, one below another, as a PNG small enough to stand in a page.

Does not belong here: what is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 700
"""About a picture column each; more are shown as the mean of those that share one."""
INK, MUTED = "#282c34", "#6e7480"
PALETTE = ("#2166ac", "#d6604d", "#4d9221", "#9254a0", "#b4821e")


@dataclass(frozen=True)
class Series:
    """One line. Points that are not finite are left out; `dots` marks each point, for series of few."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """One panel. `log`: the vertical axis is logarithmic where all values are positive and span more than a decade."""

    title: str
    series: Sequence[Series]
    log: bool = False


def line_charts(charts: Sequence[Chart]) -> bytes:
    """Draw the charts that have a point. Returns a PNG; without any it says so."""
    from matplotlib.figure import Figure
    from PIL import Image

    shown = [chart for chart in charts if any(_points(series) for series in chart.series)]
    height = 0.7 + 1.9 * max(1, len(shown))
    figure = Figure(figsize=(7.2, height), dpi=100)
    panels = figure.subplots(max(1, len(shown)), sharex=True, squeeze=False)[:, 0]
    # By hand: matplotlib's own arranging takes as long as the drawing.
    figure.subplots_adjust(left=0.1, right=0.97, top=1 - 0.3 / height, bottom=0.5 / height, hspace=0.3)
    for chart, panel in zip(shown, panels, strict=False):
        log = _draw(chart, panel)
        panel.set_title(chart.title + (" (logarithmic)" if log else ""), loc="left", fontsize=10, color=INK)
    if shown:
        panels[-1].xaxis.set_major_formatter("{x:,.6g}")
        panels[-1].set_xlabel("step", fontsize=9, color=MUTED)
    else:
        panels[0].set_axis_off()
        panels[0].text(0.5, 0.5, "nothing to draw yet", ha="center", color=MUTED, transform=panels[0].transAxes)
    large, small = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png")
    # A palette: half of the bytes, and no difference to see.
    Image.open(large).convert("RGB").quantize(255).save(small, "PNG", optimize=True)
    return small.getvalue()


def _points(series: Series) -> list[tuple[float, float]]:
    pairs = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if len(pairs) <= MAX_POINTS:
        return pairs
    low, high = pairs[0][0], pairs[-1][0]
    columns: dict[int, list[tuple[float, float]]] = {}
    for x, y in pairs:
        columns.setdefault(int((x - low) / max(high - low, 1e-12) * (MAX_POINTS - 1)), []).append((x, y))
    return [
        (sum(x for x, _ in column) / len(column), sum(y for _, y in column) / len(column))
        for _, column in sorted(columns.items())
    ]


def _draw(chart: Chart, panel: Axes) -> bool:
    """Draw one panel. Returns whether its axis is logarithmic."""
    lines = [(series, _points(series)) for series in chart.series]
    values = [y for _, points in lines for _, y in points]
    log = chart.log and min(values) > 0 and max(values) / min(values) > 10
    for number, (series, points) in enumerate(lines):
        marker = "o" if series.dots or len(points) == 1 else ""
        x, y = [x for x, _ in points], [y for _, y in points]
        colour = PALETTE[number % len(PALETTE)]
        panel.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.2, label=series.name)
    if log:
        panel.set_yscale("log")
        panel.set_ylim(10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values))))
        panel.minorticks_off()
    panel.yaxis.set_major_formatter("{x:.4g}")
    panel.grid(axis="y", alpha=0.35)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8, colors=MUTED)
    if len(lines) > 1:
        panel.legend(
            loc="lower right", bbox_to_anchor=(1, 0.96), borderpad=0, ncols=len(lines), frameon=False, fontsize=8
        )
    return log
