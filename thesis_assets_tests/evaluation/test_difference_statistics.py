"""Intervals and tests of paired differences: they keep what they promise on simulated scenes, and on cases worked by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from thesis_assets.evaluation.leaderboard import (
    MIN_SCENES,
    bootstrap_interval,
    frames_interval,
    run_differences,
    sign_flip_p,
    summarise,
)
from thesis_assets_tests.evaluation.measured import measured, run

TRUE_DIFFERENCE = 0.1
DRAWS = 400
FRAMES = 6

Scatter = Callable[[np.random.Generator, int], np.ndarray]


def even(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(scale=0.08, size=n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Most scenes gain a little, few a lot."""
    return 0.05 * (rng.gamma(2.0, size=n) - 2.0)


@pytest.mark.parametrize(("scatter", "n_scenes"), [(even, 20), (even, 40), (skewed, 24)])
def test_the_leaderboards_interval_covers_the_true_difference_as_often_as_it_says(
    scatter: Scatter, n_scenes: int
) -> None:
    rng = np.random.default_rng(20)
    covered = 0
    for _ in range(DRAWS):
        # Frames differ by decibels, the effect is a tenth of one: only pairing shows it.
        before = rng.normal(22, 3, size=(n_scenes, FRAMES))
        gain = TRUE_DIFFERENCE + scatter(rng, n_scenes)[:, None] + rng.normal(scale=0.05, size=(n_scenes, FRAMES))
        names = [f"d_{place:02d}" for place in range(n_scenes)]
        tuned = {name: measured(list(values)) for name, values in zip(names, before + gain, strict=True)}
        unrefined = {name: measured(list(values), epoch=0) for name, values in zip(names, before, strict=True)}
        found = next(each for each in run_differences(run("a", tuned, unrefined)) if each.metric == "psnr")
        assert found.interval_over == "scenes"
        assert found.low is not None and found.high is not None  # noqa: PT018
        covered += found.low <= TRUE_DIFFERENCE <= found.high
    assert 0.90 <= covered / DRAWS <= 0.98


def test_the_interval_is_that_of_student_for_scenes_that_scatter_evenly() -> None:
    values = np.random.default_rng(3).normal(0.1, 0.05, size=30)
    low, high = bootstrap_interval(list(values))
    by_formula = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(by_formula, abs=0.004)


def test_the_same_scenes_give_the_same_interval_whatever_their_order() -> None:
    values = [0.3, -0.1, 0.2, 0.05, 0.12, 0.4, 0.0]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values[::-1]) == pytest.approx(bootstrap_interval(values), abs=0.01)


def test_below_six_scenes_the_interval_is_over_frames_and_says_so() -> None:
    few = summarise([[0.1, 0.2, 0.3]] * (MIN_SCENES - 1))
    enough = summarise([[0.1, 0.2, 0.3]] * MIN_SCENES)
    assert (few.interval_over, enough.interval_over) == ("frames", "scenes")
    assert summarise([[0.1]]).interval_over is None  # one frame has no scatter


def test_the_interval_over_frames_is_worked_by_hand() -> None:
    # Two scenes of variance 0.02 / 2 frames each: standard error of the mean of both 0.5 sqrt(0.01 + 0.01).
    interval = frames_interval([[0.0, 0.2], [0.4, 0.6]])
    assert interval == pytest.approx((0.3 - 1.96 * 0.5 * 0.02**0.5, 0.3 + 1.96 * 0.5 * 0.02**0.5), abs=1e-5)


@pytest.mark.parametrize(
    ("means", "p"),
    [
        ([0.1, 0.2, 0.3, 0.1, 0.2], 2 / 32),
        ([-0.1, -0.2, -0.3, -0.1, -0.2], 2 / 32),
        ([0.1], 1.0),
        ([0.3, -0.1], 1.0),  # ++ and -- give 0.2, +- and -+ 0.1: all are at least 0.1 away
        ([0.0, 0.0], 1.0),
        ([1.0, 1.0, -1.0], 1.0),
    ],
)
def test_the_sign_flip_p_is_that_of_a_hand_worked_case(means: list[float], p: float) -> None:
    assert sign_flip_p(means) == pytest.approx(p)


def test_signs_are_counted_and_many_scenes_have_no_sign_flip() -> None:
    found = summarise([[0.1], [-0.1], [0.0], [0.2]])
    assert (found.scenes_above, found.scenes_below, found.difference) == (2, 1, pytest.approx(0.05))
    assert summarise([[0.1, 0.1]] * 17).sign_flip_p is None
