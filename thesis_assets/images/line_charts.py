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
    from PIL import ImageDraw

Colour = tuple[int, int, int]

SCALE = 2
"""Drawn this many times larger and shrunk, so that lines are smooth."""
WIDTH, LEFT, RIGHT, TOP, HEIGHT, GAP, BOTTOM = 720, 74, 28, 12, 150, 40, 30
MAX_POINTS = 700
"""A picture column each; more are shown as the mean of those that share one."""
INK, MUTED, GRID = (40, 44, 52), (110, 116, 128), (226, 229, 235)
PALETTE: tuple[Colour, ...] = ((33, 102, 172), (214, 96, 77), (77, 146, 33), (146, 84, 160), (180, 130, 30))


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


def line_charts(charts: Sequence[Chart], *, axis: str = "step") -> bytes:
    """Draw the charts that have a point. Returns a PNG; without any it says so."""
    from PIL import Image, ImageDraw

    shown = [chart for chart in charts if any(_points(series) for series in chart.series)]
    height = TOP + max(1, len(shown)) * (HEIGHT + GAP) + BOTTOM - GAP + 24
    picture = Image.new("RGB", (WIDTH * SCALE, height * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    every = [x for chart in shown for series in chart.series for x, _ in _points(series)]
    if not every:
        _text(draw, (LEFT, TOP + HEIGHT / 2), "nothing to draw yet", 15, MUTED)
    span = (min(every, default=0.0), max(every, default=1.0))
    for number, chart in enumerate(shown):
        _draw_chart(draw, chart, TOP + 24 + number * (HEIGHT + GAP), span)
    if shown:
        _draw_axis(draw, TOP + 24 + (len(shown) - 1) * (HEIGHT + GAP) + HEIGHT, span, axis)
    content = io.BytesIO()
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    # A palette: half of the bytes, and no difference to see.
    small.quantize(255).save(content, "PNG", optimize=True)
    return content.getvalue()


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        span = abs(low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / wanted * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


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


@dataclass(frozen=True)
class _Frame:
    """Where a panel's values lie on the picture."""

    top: float
    span: tuple[float, float]
    low: float
    high: float
    log: bool

    def x(self, value: float) -> float:
        return _x(value, self.span)

    def y(self, value: float) -> float:
        here = math.log10(value) if self.log else value
        return self.top + HEIGHT * (self.high - here) / (self.high - self.low)


def _x(value: float, span: tuple[float, float]) -> float:
    share = (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _draw_chart(draw: ImageDraw.ImageDraw, chart: Chart, top: float, span: tuple[float, float]) -> None:
    lines = [(series, _points(series)) for series in chart.series]
    values = [y for _, points in lines for _, y in points]
    log = chart.log and min(values) > 0 and max(values) / min(values) > 10
    if log:
        marks = [
            10.0**power for power in range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
        ]
        frame = _Frame(top, span, math.log10(marks[0]), math.log10(marks[-1]), log=True)
    else:
        marks = ticks(min(values), max(values))
        frame = _Frame(top, span, marks[0], marks[-1], log=False)
    for mark in marks:
        _line(draw, [(LEFT, frame.y(mark)), (WIDTH - RIGHT, frame.y(mark))], GRID, 1)
        _text(draw, (LEFT - 8, frame.y(mark) - 8), f"{mark:.4g}", 12, MUTED, "right")
    _text(draw, (LEFT, top - 22), chart.title + (" (logarithmic)" if log else ""), 14, INK)
    for number, (series, points) in enumerate(lines):
        colour = PALETTE[number % len(PALETTE)]
        places = [(frame.x(x), frame.y(y)) for x, y in points]
        if len(places) > 1:
            _line(draw, places, colour, 1.5)
        if series.dots or len(places) == 1:
            for place in places:
                _dot(draw, place, colour)
    if len(lines) > 1:
        _draw_names(draw, [series.name for series, _ in lines], top - 20)


def _draw_names(draw: ImageDraw.ImageDraw, names: Sequence[str], y: float) -> None:
    x = float(WIDTH - RIGHT)
    for number, name in reversed(list(enumerate(names))):
        x -= _length(draw, name, 12) / SCALE
        _text(draw, (x, y), name, 12, INK)
        x -= 22
        _line(draw, [(x, y + 8), (x + 16, y + 8)], PALETTE[number % len(PALETTE)], 2.5)
        x -= 14


def _draw_axis(draw: ImageDraw.ImageDraw, y: float, span: tuple[float, float], axis: str) -> None:
    for mark in ticks(*span, wanted=6):
        if span[0] <= mark <= span[1]:
            x = _x(mark, span)
            _line(draw, [(x, y), (x, y + 5)], MUTED, 1)
            _text(draw, (x, y + 7), f"{mark:,.6g}", 12, MUTED, "centre")
    _text(draw, (LEFT - 8, y + 7), axis, 12, MUTED, "right")


def _length(draw: ImageDraw.ImageDraw, text: str, size: int) -> float:
    from PIL import ImageFont

    return float(draw.textlength(text, font=ImageFont.load_default(size * SCALE)))


def _dot(draw: ImageDraw.ImageDraw, place: tuple[float, float], colour: Colour, radius: float = 3.0) -> None:
    x, y = place
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse([edge * SCALE for edge in box], fill=colour, outline="white", width=SCALE)


def _line(draw: ImageDraw.ImageDraw, places: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
    draw.line([(x * SCALE, y * SCALE) for x, y in places], fill=colour, width=round(width * SCALE), joint="curve")


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    align: str = "left",
) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size * SCALE)
    shift = {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * _length(draw, text, size)
    draw.text((place[0] * SCALE - shift, place[1] * SCALE), text, fill=colour, font=font)
