"""The leaderboard's picture: PSNR differences, a bar for each run and epoch, a dot for each scene, the interval of the mean."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets.evaluation.leaderboard import UNREFINED, Leaderboard
from thesis_assets.evaluation.leaderboard_tables import psnr_differences

if TYPE_CHECKING:
    from PIL import ImageDraw

SCALE = 2
"""Drawn this many times larger and shrunk, so that dots and lines are smooth."""
LEFT, TOP, BOTTOM, RIGHT = 76, 56, 84, 24
BAR_WIDTH, BAR_GAP, GROUP_GAP, PLOT_HEIGHT = 44, 26, 40, 280
MIN_WIDTH = 640
MAX_BARS = 60
"""More than that is a picture of 4,000 pixels; the table has them all."""
INK, MUTED, GRID = (40, 44, 52), (110, 116, 128), (226, 229, 235)
GAIN, LOSS, DOT = (93, 153, 198), (214, 126, 104), (28, 58, 92)


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

    @property
    def extent(self) -> tuple[float, ...]:
        """Every number that must be inside the picture."""
        return (*self.differences, *(self.interval or ()), self.mean)


def difference_plot(board: Leaderboard) -> bytes:
    """A PNG; without any paired difference it says so."""
    from PIL import Image, ImageDraw

    every = plotted_bars(board)
    bars = every[:MAX_BARS]
    runs = list(dict.fromkeys(bar.run for bar in bars))
    inner = len(bars) * (BAR_WIDTH + BAR_GAP) + max(0, len(runs) - 1) * GROUP_GAP
    width, height = max(MIN_WIDTH, LEFT + inner + RIGHT), TOP + PLOT_HEIGHT + BOTTOM
    picture = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    title = "PSNR difference, dB (same frames, same protocol)"
    shown = f", the first {len(bars)} of {len(every)}" if len(every) > len(bars) else ""
    _text(draw, (LEFT, 12), title + shown, 15, INK)
    _text(
        draw, (LEFT, 32), "dot: a scene; whisker: 95 % over scenes, grey: over frames of these scenes only", 11, MUTED
    )
    if bars:
        low, high, step = value_range([value for bar in bars for value in bar.extent])
        _draw_grid(draw, width, low, high, step)
        _draw_bars(draw, bars, low, high)
    else:
        _text(draw, (LEFT, TOP + PLOT_HEIGHT // 2), "no paired difference yet", 15, MUTED)
    content = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(content, "PNG", optimize=True)
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


def value_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Lowest and highest tick, and the step between ticks: round numbers, with zero and all values inside."""
    low, high = min(0.0, *values), max(0.0, *values)
    rough = max(high - low, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return math.floor(low / step - 0.2) * step, math.ceil(high / step + 0.2) * step, step


def _height_of(value: float, low: float, high: float) -> float:
    return TOP + PLOT_HEIGHT * (high - value) / (high - low)


def _draw_grid(draw: ImageDraw.ImageDraw, width: int, low: float, high: float, step: float) -> None:
    decimals = max(0, -math.floor(math.log10(step)))
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        y = _height_of(value, low, high)
        zero = abs(value) < step / 1000
        _line(draw, (LEFT, y, width - RIGHT, y), INK if zero else GRID, 1.5 if zero else 1)
        _text(
            draw,
            (LEFT - 8, y - 8),
            format(0.0 if zero else value, f"+.{decimals}f") if not zero else "0",
            12,
            MUTED,
            "right",
        )


def _draw_bars(draw: ImageDraw.ImageDraw, bars: Sequence[Bar], low: float, high: float) -> None:
    x, start, previous = LEFT + BAR_GAP / 2, float(LEFT), bars[0].run
    for bar in bars:
        if bar.run != previous:
            _draw_run(draw, previous, start, x - BAR_GAP / 2)
            x += GROUP_GAP
            start, previous = x - BAR_GAP / 2, bar.run
        _draw_bar(draw, bar, x, low, high)
        x += BAR_WIDTH + BAR_GAP
    _draw_run(draw, previous, start, x - BAR_GAP / 2)


def _draw_bar(draw: ImageDraw.ImageDraw, bar: Bar, x: float, low: float, high: float) -> None:
    zero, top = _height_of(0.0, low, high), _height_of(bar.mean, low, high)
    box = (x, min(zero, top), x + BAR_WIDTH, max(zero, top))
    draw.rectangle([edge * SCALE for edge in box], fill=GAIN if bar.mean >= 0 else LOSS)
    middle = x + BAR_WIDTH / 2
    for number, value in enumerate(bar.differences):
        spread = (number - (len(bar.differences) - 1) / 2) * min(10.0, 30.0 / len(bar.differences))
        _dot(draw, middle + spread, _height_of(value, low, high))
    if bar.interval is not None:
        color = INK if bar.over == "scenes" else MUTED
        bottom, highest = (_height_of(value, low, high) for value in bar.interval)
        for ends in (
            (middle, bottom, middle, highest),
            (middle - 6, bottom, middle + 6, bottom),
            (middle - 6, highest, middle + 6, highest),
        ):
            _line(draw, ends, color, 1.5)
    highest = min(_height_of(value, low, high) for value in (*bar.extent, 0.0))
    _text(draw, (middle, highest - 24), f"{bar.mean:+.3f}", 12, INK, "centre")
    _text(draw, (middle, TOP + PLOT_HEIGHT + 8), f"epoch {bar.epoch}", 12, INK, "centre")


def _draw_run(draw: ImageDraw.ImageDraw, run: str, left: float, right: float) -> None:
    y = TOP + PLOT_HEIGHT + 32
    _line(draw, (left + 4, y, right - 4, y), MUTED, 1)
    room = (right - left + GROUP_GAP - 8) * SCALE
    font_size, label = 13, run
    while len(label) > 4 and _length(draw, label, font_size) > room:
        label = label.rstrip("…")[:-1] + "…"
    _text(draw, ((left + right) / 2, y + 6), label, font_size, INK, "centre")


def _length(draw: ImageDraw.ImageDraw, text: str, size: int) -> float:
    from PIL import ImageFont

    return float(draw.textlength(text, font=ImageFont.load_default(size * SCALE)))


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float = 3.5) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse([edge * SCALE for edge in box], fill=DOT, outline="white", width=SCALE)


def _line(
    draw: ImageDraw.ImageDraw, ends: tuple[float, float, float, float], color: tuple[int, int, int], width: float
) -> None:
    draw.line([end * SCALE for end in ends], fill=color, width=round(width * SCALE))


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    color: tuple[int, int, int],
    align: str = "left",
) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size * SCALE)
    shift = {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * _length(draw, text, size)
    draw.text((place[0] * SCALE - shift, place[1] * SCALE), text, fill=color, font=font)
