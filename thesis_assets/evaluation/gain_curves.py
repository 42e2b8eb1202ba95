"""The gain of an experiment's runs over epochs, as one SVG for a page: a line a run, its interval over scenes or a dot a scene.

Belongs here: the drawing. Does not belong here: the statistics (`difference_statistics`), the runs' names (the page has them).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thesis_assets.evaluation.difference_statistics import MIN_SCENES
from thesis_assets.schemas.evaluation import DifferenceRow

INK, GRID = "#010203", "#040506"
"""Drawn in these, and written as the page's own colours, so that the picture follows its light and dark."""
SIZE = (5.2, 2.9)
"""Inches of 72 units: as wide as a phone, so that its letters are not smaller there than they are meant."""

MAX_TICKS = 8
"""Epochs up to which each has its mark."""

DODGE = 0.1
"""Of the axis: whiskers and dots of several runs at one epoch stand side by side over so much of it."""


@dataclass(frozen=True)
class GainCurves:
    """The picture as markup, and the colour of each run in it."""

    svg: str
    colours: dict[str, str]


def gain_curves(rows: Sequence[DifferenceRow]) -> GainCurves | None:
    """Draw the PSNR differences of one experiment's runs to the unrefined render, in dB; None where there is none.

    Args:
        rows: with a difference, one a run and epoch.
    """
    if not rows:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator

    runs = list(dict.fromkeys(row.run_name for row in rows))
    palette = mpl.colormaps["tab10" if len(runs) <= 10 else "tab20"]
    colours = {run: mpl.colors.to_hex(palette(place % palette.N)) for place, run in enumerate(runs)}
    style: Any = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        **{"axes.edgecolor": GRID, "grid.color": GRID, "axes.spines.top": False, "axes.spines.right": False},
        **{"svg.fonttype": "none", "svg.hashsalt": rows[0].exp_name, "font.size": 10, "axes.grid": True},
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=0.8)
        shift = DODGE * max(row.epoch for row in rows) / len(runs)
        for place, run in enumerate(runs):
            of_run = sorted((row for row in rows if row.run_name == run), key=lambda row: row.epoch)
            _draw_run(axes, of_run, colours[run], shift * (place - (len(runs) - 1) / 2))
        axes.set_xlabel("epoch")
        axes.set_ylabel("PSNR gain, dB")
        epochs = sorted({0, *(row.epoch for row in rows)})
        axes.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) <= MAX_TICKS else MaxNLocator(integer=True))
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return GainCurves(_inline(content.getvalue()), colours)


def _draw_run(axes: object, rows: Sequence[DifferenceRow], colour: str, shift: float) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    means = [(row.epoch, row.difference) for row in rows if row.difference is not None]
    axes.plot(*zip((0, 0.0), *means, strict=True), color=colour, linewidth=1.6, marker="o", markersize=3.5)
    for row in rows:
        if row.interval_over == "scenes" and row.low is not None and row.high is not None:
            axes.plot(
                [row.epoch + shift] * 2, [row.low, row.high], color=colour, linewidth=1.2, marker="_", markersize=7
            )
        elif 1 < row.n_scenes < MIN_SCENES:
            values = list(row.by_scene.values())
            axes.plot(
                [row.epoch] * len(values), values, color=colour, linestyle="", marker="o", markersize=3, alpha=0.5
            )


def _inline(svg: str) -> str:
    """The element alone, as HTML takes it in: in the page's colours, without size, metadata and names of namespaces."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    head, rest = element.split(">", 1)
    head = re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    for drawn, own in ((INK, "currentColor"), (GRID, "var(--line)")):
        rest = rest.replace(drawn, own)
    return f'{head} role="img" aria-label="PSNR gain over epochs, a line a run">{rest}'.strip()
