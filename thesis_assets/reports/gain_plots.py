"""Pictures of PSNR differences: the leaderboard's bars as a PNG, and an experiment's gain over epochs as SVG for a page."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thesis_assets.reports.difference_statistics import MIN_SCENES
from thesis_assets.reports.leaderboard import RECONSTRUCTION, UNREFINED, Leaderboard
from thesis_assets.reports.leaderboard_tables import (
    LEAKED_MARK,
    LEAKED_PEOPLE,
    MOVED_MARK,
    SEEN_PEOPLE,
    marks_of,
    psnr_differences,
)
from thesis_assets.schemas.evaluation import DifferenceRow

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes


MAX_BARS = 60
"""More than that is a picture of 4,000 pixels; the table has them all."""
GROUP_GAP = 0.6
"""Between two runs, in bars."""
GAIN, LOSS, DOT, INK, MUTED, OVER_SEEDS = "#5d99c6", "#d67e68", "#1c3a5c", "#282c34", "#8a919e", "#6b3fa0"


def difference_plot(board: Leaderboard) -> bytes:
    """A PNG, of the same bytes for the same numbers; without any paired difference it says so."""
    from matplotlib.figure import Figure

    every = plotted_bars(board)
    bars = every[:MAX_BARS]
    runs = list(dict.fromkeys(map(pair_name, bars)))
    width = max(6.4, 0.9 + 0.72 * (len(bars) + GROUP_GAP * len(runs)))
    figure = Figure(figsize=(width, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    shown = f", the first {len(bars)} of {len(every)}" if len(every) > len(bars) else ""
    axes.set_title(f"PSNR difference, dB (same frames, same protocol){shown}", loc="left", fontsize=11, pad=22)
    legend = "dot: a scene; whisker: 95 % over scenes, grey: over frames of these scenes only"
    legend += ", violet: over seeds" if any(bar.interval_over == "seeds" for bar in bars) else ""
    legend += f"; {MOVED_MARK}: not current" if any(bar.moved for bar in bars) else ""
    legend += f"; {LEAKED_MARK}: {LEAKED_PEOPLE}" if any(bar.leaked for bar in bars) else ""
    axes.annotate(legend, (0, 1), (0, 7), "axes fraction", textcoords="offset points", fontsize=8, color=MUTED)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    if bars:
        axes.set_axisbelow(True)
        axes.grid(axis="y", alpha=0.35)
        axes.axhline(0, color=INK, linewidth=1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if abs(value) > 1e-9 else "0")
        _draw_bars(axes, bars, runs)
        axes.margins(y=0.12)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no paired difference yet", ha="center", color=MUTED, transform=axes.transAxes)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def plotted_bars(board: Leaderboard) -> list[DifferenceRow]:
    """Runs in the order of the leaderboard, each against the unrefined render and then against its baseline, epochs ascending."""
    bars = psnr_differences(board)
    order = list(dict.fromkeys(map(pair_name, bars)))
    return sorted(bars, key=lambda bar: (order.index(pair_name(bar)), bar.epoch))


def pair_name(bar: DifferenceRow) -> str:
    """A run, what it is compared with where that is another run, whose gain it is, and whether it was trained on the people."""
    words = [f"{bar.exp_name} / {bar.run_name}" + ("" if bar.against == UNREFINED else f" − {bar.against}")]
    words += [bar.whose] if bar.whose == RECONSTRUCTION else []
    return ", ".join([*words, *([SEEN_PEOPLE] if bar.seen_people else [])])


def _draw_bars(axes: Axes, bars: Sequence[DifferenceRow], runs: Sequence[str]) -> None:
    places = [number + GROUP_GAP * runs.index(pair_name(bar)) for number, bar in enumerate(bars)]
    for place, bar in zip(places, bars, strict=True):
        scenes = [value for _, value in sorted(bar.by_scene.items())]
        mean = bar.difference or 0.0
        axes.bar(place, mean, 0.62, color=GAIN if mean >= 0 else LOSS)
        step = min(0.14, 0.45 / len(scenes))
        spread = [place + step * (number - (len(scenes) - 1) / 2) for number in range(len(scenes))]
        axes.scatter(spread, scenes, s=22, color=DOT, edgecolors="white", linewidths=0.8, zorder=3)
        if bar.interval is not None:
            ink = {"scenes": INK, "seeds": OVER_SEEDS}.get(bar.interval_over or "", MUTED)
            axes.plot([place, place], bar.interval, color=ink, marker="_", markersize=10, linewidth=1.5, zorder=2)
        top = max(0.0, mean, *scenes, *(bar.interval or ()))
        axes.annotate(f"{mean:+.3f}", (place, top), (0, 5), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(places, [f"epoch {bar.epoch} {marks_of(bar)}".strip() for bar in bars], fontsize=9)
    axes.tick_params(axis="x", length=0)
    for run in runs:
        own = [place for place, bar in zip(places, bars, strict=True) if pair_name(bar) == run]
        text = "\n".join(textwrap.wrap(run, width=max(12, 11 * len(own)), break_on_hyphens=False))
        below: Any = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 10}
        axes.annotate(text, ((own[0] + own[-1]) / 2, 0), (0, -22), ("data", "axes fraction"), **below)


PAGE_INK, PAGE_LINE = "#010203", "#040506"
"""Drawn in these, and written as the page's own colours, so that the picture follows its light and dark."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
SIZE = (5.2, 2.9)
"""Inches of 72 units: as wide as a phone, so that its letters are not smaller there than they are meant."""

MAX_TICKS = 8
"""Epochs up to which each has its mark."""

DODGE = 0.1
"""Of the axis: whiskers and dots of several runs at one epoch stand side by side over so much of it."""


@dataclass(frozen=True)
class GainCurves:
    """The picture as markup, and the colour of each run in it: the page has the runs' names."""

    svg: Markup
    colours: dict[str, str]


def gain_curves(rows: Sequence[DifferenceRow]) -> GainCurves | None:
    """Draw the PSNR differences of one experiment's runs to the unrefined render, in dB, a line a run; None where there is none.

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
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), PAGE_INK),
        **{"axes.edgecolor": PAGE_LINE, "grid.color": PAGE_LINE, "axes.spines.top": False, "axes.spines.right": False},
        **{"svg.fonttype": "none", "svg.hashsalt": rows[0].exp_name, "font.size": 10, "axes.grid": True},
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=PAGE_INK, linewidth=0.8)
        shift = DODGE * max(row.epoch for row in rows) / len(runs)
        for place, run in enumerate(runs):
            of_run = sorted((row for row in rows if row.run_name == run), key=lambda row: row.epoch)
            _draw_run(axes, of_run, colours[run], shift * (place - (len(runs) - 1) / 2))
        axes.set_xlabel("epoch")
        axes.set_ylabel("PSNR gain, dB")
        epochs = sorted({0, *(row.epoch for row in rows)})
        axes.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) <= MAX_TICKS else MaxNLocator(integer=True))
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata=NO_METADATA)
    return GainCurves(_inline(content.getvalue()), colours)


def _draw_run(axes: Axes, rows: Sequence[DifferenceRow], colour: str, shift: float) -> None:
    """The means, and for each its interval over scenes or seeds, or a dot a scene."""
    means = [(row.epoch, row.difference) for row in rows if row.difference is not None]
    axes.plot(*zip((0, 0.0), *means, strict=True), color=colour, linewidth=1.6, marker="o", markersize=3.5)
    for row in rows:
        if row.interval_over in ("scenes", "seeds") and row.interval is not None:
            axes.plot([row.epoch + shift] * 2, row.interval, color=colour, linewidth=1.2, marker="_", markersize=7)
        elif 1 < row.n_scenes < MIN_SCENES:
            dots: Any = {"color": colour, "linestyle": "", "marker": "o", "markersize": 3, "alpha": 0.5}
            axes.plot([row.epoch] * len(row.by_scene), list(row.by_scene.values()), **dots)


def _inline(svg: str) -> Markup:
    """The element alone, as HTML takes it in: in the page's colours, without names of namespaces."""
    from markupsafe import Markup

    element = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    return Markup(element.replace(PAGE_INK, "currentColor").replace(PAGE_LINE, "var(--line)"))  # noqa: S704 - drawn here
