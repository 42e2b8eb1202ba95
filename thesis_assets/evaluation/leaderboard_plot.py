"""The leaderboard's picture: PSNR differences, a bar for each run and epoch, a dot for each scene, the interval of the mean."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets.evaluation.leaderboard import UNREFINED, Leaderboard
from thesis_assets.evaluation.leaderboard_tables import psnr_differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS = 60
"""More than that is a picture of 4,000 pixels; the table has them all."""
GROUP_GAP = 0.6
"""Between two runs, in bars."""
GAIN, LOSS, DOT, INK, MUTED = "#5d99c6", "#d67e68", "#1c3a5c", "#282c34", "#8a919e"


@dataclass(frozen=True)
class Bar:
    """One run at one epoch against one other: the differences of its scenes, and the interval of their mean, dB."""

    run: str
    epoch: int
    differences: tuple[float, ...]
    interval: tuple[float, float] | None = None
    over: str | None = None

    @property
    def mean(self) -> float:
        return math.fsum(self.differences) / len(self.differences)


def difference_plot(board: Leaderboard) -> bytes:
    """A PNG, of the same bytes for the same numbers; without any paired difference it says so."""
    from matplotlib.figure import Figure

    every = plotted_bars(board)
    bars = every[:MAX_BARS]
    runs = list(dict.fromkeys(bar.run for bar in bars))
    width = max(6.4, 0.9 + 0.72 * (len(bars) + GROUP_GAP * len(runs)))
    figure = Figure(figsize=(width, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    shown = f", the first {len(bars)} of {len(every)}" if len(every) > len(bars) else ""
    axes.set_title(f"PSNR difference, dB (same frames, same protocol){shown}", loc="left", fontsize=11, pad=22)
    legend = "dot: a scene; whisker: 95 % over scenes, grey: over frames of these scenes only"
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


def plotted_bars(board: Leaderboard) -> list[Bar]:
    """Runs in the order of the leaderboard, each against the unrefined render and then against its baseline, epochs ascending."""
    bars = []
    for row in psnr_differences(board):
        name = f"{row.exp_name} / {row.run_name}" + ("" if row.against == UNREFINED else f" − {row.against}")
        interval = (row.low, row.high) if row.low is not None and row.high is not None else None
        scenes = tuple(value for _, value in sorted(row.by_scene.items()))
        bars.append(Bar(name, row.epoch, scenes, interval, row.interval_over))
    order = list(dict.fromkeys(bar.run for bar in bars))
    return sorted(bars, key=lambda bar: (order.index(bar.run), bar.epoch))


def _draw_bars(axes: Axes, bars: Sequence[Bar], runs: Sequence[str]) -> None:
    places = [number + GROUP_GAP * runs.index(bar.run) for number, bar in enumerate(bars)]
    axes.bar(places, [bar.mean for bar in bars], 0.62, color=[GAIN if bar.mean >= 0 else LOSS for bar in bars])
    for place, bar in zip(places, bars, strict=True):
        step = min(0.14, 0.45 / len(bar.differences))
        spread = [place + step * (number - (len(bar.differences) - 1) / 2) for number in range(len(bar.differences))]
        axes.scatter(spread, bar.differences, s=22, color=DOT, edgecolors="white", linewidths=0.8, zorder=3)
        if bar.interval is not None:
            ink = INK if bar.over == "scenes" else MUTED
            axes.plot([place, place], bar.interval, color=ink, marker="_", markersize=10, linewidth=1.5, zorder=2)
        top = max(0.0, bar.mean, *bar.differences, *(bar.interval or ()))
        axes.annotate(f"{bar.mean:+.3f}", (place, top), (0, 5), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(places, [f"epoch {bar.epoch}" for bar in bars], fontsize=9)
    axes.tick_params(axis="x", length=0)
    for run in runs:
        own = [place for place, bar in zip(places, bars, strict=True) if bar.run == run]
        text = "\n".join(textwrap.wrap(run, width=max(12, 11 * len(own)), break_on_hyphens=False))
        middle = (own[0] + own[-1]) / 2
        axes.annotate(
            text,
            (middle, 0),
            (0, -22),
            ("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=10,
        )
