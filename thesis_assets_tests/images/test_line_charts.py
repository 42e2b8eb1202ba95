"""Charts are small, and draw what is there: every finite point, and a logarithmic axis where values span decades."""

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageColor

from thesis_assets.images.contact_sheet import MAX_MARKDOWN_BYTES
from thesis_assets.images.line_charts import PALETTE, Chart, Series, line_charts


def drawn(*charts: Chart) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(line_charts(charts))).convert("RGB")).astype(int)


def near(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has a colour, nearly."""
    return np.abs(pixels - ImageColor.getrgb(colour)).max(axis=-1) < 40


def test_a_line_rises_where_its_values_rise() -> None:
    pixels = drawn(Chart("loss", [Series("loss", [1, 2, 3], [0.0, 5.0, 10.0])]))
    rows, columns = np.nonzero(near(pixels, PALETTE[0]))
    span = columns.max() - columns.min()
    left, right = rows[columns < columns.min() + span / 10], rows[columns > columns.max() - span / 10]
    assert left.min() > right.max()


def test_each_series_has_a_colour_of_its_own_and_a_name() -> None:
    one = [Series("sum", [1, 2], [1.0, 2.0])]
    both = [*one, Series("l2", [1, 2], [2.0, 1.0])]
    assert not near(drawn(Chart("loss", one)), PALETTE[1]).any()
    assert near(drawn(Chart("loss", both)), PALETTE[1]).any()


def test_points_that_are_not_finite_and_charts_without_any_are_left_out() -> None:
    holes = drawn(Chart("loss", [Series("loss", [1, 2, 3], [1.0, math.nan, 3.0])]))
    empty = Chart("learning rate", [Series("rate", [1, 2], [math.nan, math.inf])])
    assert near(holes, PALETTE[0]).any()
    assert drawn(Chart("loss", [Series("loss", [1, 3], [1.0, 3.0])]), empty).shape == holes.shape
    assert (drawn(empty) < 200).any(), "it says that there is nothing"


def test_a_single_point_is_seen() -> None:
    assert near(drawn(Chart("PSNR", [Series("refined", [0], [23.0])])), PALETTE[0]).sum() > 10


def test_ten_thousand_noisy_steps_stay_below_what_the_event_log_takes() -> None:
    noise = np.random.default_rng(0).random((3, 10_000)) + 0.01
    charts = [Chart(str(number), [Series("x", list(range(10_000)), list(line))]) for number, line in enumerate(noise)]
    assert len(line_charts(charts)) < MAX_MARKDOWN_BYTES * 3 // 4


def test_decades_are_drawn_logarithmically_only_where_all_values_are_positive() -> None:
    steps = [1.0, 2.0, 3.0]

    def height_of_the_middle(values: list[float]) -> float:
        """As a share of what the line spans: 0 at its lowest value, 1 at its highest."""
        pixels = drawn(Chart("loss", [Series("loss", steps, values)], log=True))
        rows, columns = np.nonzero(near(pixels, PALETTE[0]))
        middle = rows[np.abs(columns - (columns.min() + columns.max()) / 2) < 2].mean()
        return float((rows.max() - middle) / (rows.max() - rows.min()))

    assert height_of_the_middle([0.01, 0.1, 1.0]) == pytest.approx(0.5, abs=0.1)
    assert height_of_the_middle([0.0, 0.1, 1.0]) < 0.2
