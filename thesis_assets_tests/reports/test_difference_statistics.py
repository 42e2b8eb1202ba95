"""Intervals and tests of paired differences: they keep what they promise on simulated scenes, and on cases worked by hand."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import thesis_assets
from thesis_assets.reports.difference_statistics import (
    BLOCK_FRAMES,
    MIN_SCENES,
    bootstrap_interval,
    interval_within,
    sign_flip_p,
    summarise,
)
from thesis_assets.reports.leaderboard import run_differences
from thesis_assets_tests.evaluation.measured import measured, run

PAGE = Path(thesis_assets.__file__).parents[1] / "docs" / "read_the_results.md"
TRUE_DIFFERENCE = 0.1
DRAWS = 1000
WITHIN_DRAWS = 500

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def student_3(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_t(3, size=n)


def log_normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Most scenes gain a little, few a lot."""
    return rng.lognormal(size=n) - math.exp(0.5)


SCATTERS: dict[str, Draw] = {"normal": normal, "t3": student_3, "log-normal": log_normal}


def named(values: np.ndarray) -> dict[str, float]:
    """(cameras, frames) by the names of rows."""
    return {f"cam_{cam}/{frame:06d}": value for cam, of_cam in enumerate(values) for frame, value in enumerate(of_cam)}


def coverage_over_scenes(draw: Draw, n_scenes: int) -> float:
    """How often the interval over scenes holds the true difference; a scene's own frames scatter a tenth as much."""
    rng = np.random.default_rng(20)
    covered = 0
    for _ in range(DRAWS):
        means = TRUE_DIFFERENCE + 0.08 * draw(rng, n_scenes)
        frames = means[:, None, None] + rng.normal(scale=0.008, size=(n_scenes, 1, 4))
        found = summarise([named(scene) for scene in frames])
        assert found.interval_over == "scenes"
        assert found.low is not None and found.high is not None  # noqa: PT018
        covered += found.low <= TRUE_DIFFERENCE <= found.high
    return covered / DRAWS


def autocorrelated(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    """(..., frames): each frame like the one before it."""
    noise = rng.normal(size=shape)
    for frame in range(1, shape[-1]):
        noise[..., frame] = correlation * noise[..., frame - 1] + math.sqrt(1 - correlation**2) * noise[..., frame]
    return noise


def coverage_within(n_scenes: int, n_cameras: int, n_frames: int, correlation: float) -> float:
    """How often the interval within scenes holds the true difference of these scenes."""
    rng = np.random.default_rng(21)
    covered = 0
    for _ in range(WITHIN_DRAWS):
        frames = TRUE_DIFFERENCE + autocorrelated(rng, (n_scenes, n_cameras, n_frames), correlation)
        found = summarise([named(scene) for scene in frames])
        assert found.interval_over == "frames"
        assert found.low is not None and found.high is not None  # noqa: PT018
        covered += found.low <= TRUE_DIFFERENCE <= found.high
    return covered / WITHIN_DRAWS


def printed() -> dict[tuple[str, str], float]:
    """The table of docs/read_the_results.md: coverage in per cent by (what scatters how, of how many)."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d+) % \|$", PAGE.read_text(), flags=re.MULTILINE)
    return {(what, of): int(percent) / 100 for what, of, percent in rows}


@pytest.mark.parametrize("n_scenes", [6, 10, 20])
@pytest.mark.parametrize("scatter", SCATTERS)
def test_the_interval_over_scenes_covers_the_true_difference_as_often_as_the_page_says(
    scatter: str, n_scenes: int
) -> None:
    found = coverage_over_scenes(SCATTERS[scatter], n_scenes)
    if scatter != "log-normal":
        assert 0.92 <= found <= 0.97
    assert found == pytest.approx(printed()[f"over scenes, {scatter}", f"{n_scenes} scenes"], abs=0.011)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [(1, 1, 150), (3, 2, 100)])
def test_the_interval_within_scenes_covers_theirs_as_often_as_the_page_says(
    sizes: tuple[int, int, int], correlation: float
) -> None:
    found = coverage_within(*sizes, correlation)
    assert found >= (0.91 if correlation < 0.9 else 0.85)
    text = "{} scenes, {} cameras, {} frames".format(*sizes).replace("1 scenes, 1 cameras", "1 scene, 1 camera")
    assert found == pytest.approx(printed()[f"within scenes, autocorrelation {correlation:g}", text], abs=0.021)


def test_the_leaderboards_interval_is_of_paired_frames() -> None:
    """Frames differ by decibels, the effect is a tenth of one: only pairing shows it."""
    rng = np.random.default_rng(22)
    before = rng.normal(22, 3, size=(MIN_SCENES, 5))
    gain = TRUE_DIFFERENCE + rng.normal(scale=0.02, size=(MIN_SCENES, 1)) + rng.normal(scale=0.01, size=(MIN_SCENES, 5))
    names = [f"d_{place:02d}" for place in range(MIN_SCENES)]
    tuned = {name: measured(list(values)) for name, values in zip(names, before + gain, strict=True)}
    unrefined = {name: measured(list(values), epoch=0) for name, values in zip(names, before, strict=True)}
    found = next(each for each in run_differences(run("a", tuned, unrefined)) if each.metric == "psnr")
    assert found.low is not None
    assert found.low > 0
    assert (found.low, found.high) == pytest.approx(bootstrap_interval(list(gain.mean(axis=1))))


def test_the_interval_is_that_of_student_for_scenes_that_scatter_evenly() -> None:
    values = np.random.default_rng(3).normal(0.1, 0.05, size=30)
    low, high = bootstrap_interval(list(values))
    by_formula = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(by_formula, abs=0.004)


def test_the_same_scenes_give_the_same_interval_whatever_their_order() -> None:
    values = [0.3, -0.1, 0.2, 0.05, 0.12, 0.4, 0.0]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values[::-1]) == pytest.approx(bootstrap_interval(values), abs=0.01)


def long_scene(*means: float) -> Mapping[str, float]:
    """A camera's frames, in blocks of the given means."""
    return named(np.repeat(means, BLOCK_FRAMES)[None])


def test_below_six_scenes_the_interval_is_within_them_and_says_so() -> None:
    scene = long_scene(0.1, 0.2, 0.3)
    few, enough = summarise([scene] * (MIN_SCENES - 1)), summarise([scene] * MIN_SCENES)
    assert (few.interval_over, enough.interval_over) == ("frames", "scenes")


@pytest.mark.parametrize(
    "by_scene",
    [
        [{"cam_4/000000": 0.1}],
        [{f"cam_4/{frame:06d}": frame / 10 for frame in range(BLOCK_FRAMES)}],  # many frames, one moment
        [long_scene(0.1, 0.2, 0.3, 0.4)],
        [long_scene(0.1, 0.2, 0.3, 0.4), long_scene(0.1)],  # nothing says how sure the second is
    ],
)
def test_below_five_blocks_of_time_there_is_no_interval(by_scene: list[Mapping[str, float]]) -> None:
    assert interval_within(by_scene) is None
    assert summarise(by_scene).interval_over is None


def test_the_interval_within_a_scene_is_students_of_its_blocks() -> None:
    blocks = [0.1, 0.3, 0.2, 0.6, 0.4]
    wanted = stats.t.interval(0.95, 4, np.mean(blocks), stats.sem(blocks))
    assert interval_within([long_scene(*blocks)]) == pytest.approx(wanted)
    cameras = {f"cam_{cam}/{frame:06d}": value for cam, value in enumerate(blocks) for frame in range(BLOCK_FRAMES)}
    assert interval_within([cameras]) == pytest.approx(wanted)
    of_bodies = {name.removeprefix("cam_0/"): value for name, value in long_scene(*blocks).items()}
    assert interval_within([of_bodies]) == pytest.approx(wanted)


def test_the_interval_within_two_scenes_is_welchs() -> None:
    blocks = [[0.1, 0.3, 0.2, 0.6], [1.0, 1.1, 1.3]]
    found = interval_within([long_scene(*each) for each in blocks])
    assert found is not None
    signed = stats.ttest_ind(blocks[0], [-value for value in blocks[1]], equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((signed.low / 2, signed.high / 2))


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
    found = summarise([{"000000": value} for value in (0.1, -0.1, 0.0, 0.2)])
    assert (found.scenes_above, found.scenes_below, found.difference) == (2, 1, pytest.approx(0.05))
    assert summarise([{"000000": 0.1, "000001": 0.1}] * 17).sign_flip_p is None
