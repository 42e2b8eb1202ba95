"""W-MPJPE, WA-MPJPE, acceleration and jitter: on motion whose drift is known, and against another library's fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from thesis_assets.evaluation.pose_motion import (
    CHUNK_FRAMES,
    NO_FPS,
    FrameJoints,
    acceleration_errors_mm,
    chunk_errors_mm,
    frame_ranges,
    jitter,
    motion_metrics,
)

Array = np.ndarray[Any, np.dtype[np.float64]]
FPS = 30.0


def walk(n_frames: int, n_joints: int = 24, seed: int = 0) -> Array:
    """(T, J, 3): a body that sways while it goes round a circle of three metres."""
    rng = np.random.default_rng(seed)
    rest, phase = rng.normal(scale=0.3, size=(n_joints, 3)), rng.uniform(0, 6, (n_joints, 3))
    time = np.arange(n_frames)[:, None, None] / FPS
    path = np.stack([np.cos(time[:, 0, 0]), np.zeros(n_frames), np.sin(time[:, 0, 0])], axis=1) * 3
    return np.asarray(rest + 0.05 * np.sin(4 * time + phase) + path[:, None])


def reference(predicted: Array, true: Array, n_first: int | None) -> list[float]:
    """By SciPy's rotation and a loop over chunks: the similarity of the first frames, or of all, over the whole chunk."""
    errors: list[float] = []
    for start in range(0, len(true), 100):
        ours, theirs = predicted[start : start + 100], true[start : start + 100]
        source, target = (side[:n_first].reshape(-1, 3) for side in (ours, theirs))
        rotation, _ = Rotation.align_vectors(target - target.mean(0), source - source.mean(0))
        turned = rotation.apply(source - source.mean(0))
        scale = np.sum(turned * (target - target.mean(0))) / np.sum(turned**2)
        for one, other in zip(ours, theirs, strict=True):
            moved = scale * rotation.apply(one - source.mean(0)) + target.mean(0)
            errors.append(1000 * float(np.mean([np.linalg.norm(each) for each in moved - other])))
    return errors


@pytest.mark.parametrize("n_frames", [1, 2, 40, 100, 101, 250])
def test_both_are_those_of_an_own_reference(n_frames: int) -> None:
    true = walk(n_frames)
    drift = 0.004 * np.arange(n_frames)[:, None, None] * np.array([1.0, 0.2, 0.0])
    noise = np.random.default_rng(1).normal(scale=0.02, size=true.shape)
    turn = Rotation.from_euler("xyz", [0.3, 1.2, -0.5])
    predicted = 0.8 * turn.apply((true + drift + noise).reshape(-1, 3)).reshape(true.shape) + [4.0, -1.0, 2.0]
    by_first, by_all = chunk_errors_mm(predicted, true)
    assert by_first == pytest.approx(reference(predicted, true, 2), abs=1e-6)
    assert by_all == pytest.approx(reference(predicted, true, None), abs=1e-6)


def test_a_steady_drift_grows_from_the_first_frames_of_each_chunk() -> None:
    """The body stands, the prediction slides a centimetre a frame: W-MPJPE is how far it has slid, WA-MPJPE how far from the middle."""
    n_frames, slide = 2 * CHUNK_FRAMES, np.array([0.01, 0.0, 0.0])
    body = np.random.default_rng(2).normal(scale=0.4, size=(1, 24, 3))
    true = np.repeat(body, n_frames, axis=0)
    predicted = true + np.arange(n_frames)[:, None, None] * slide
    by_first, by_all = (np.array(errors).reshape(2, CHUNK_FRAMES) for errors in chunk_errors_mm(predicted, true))
    in_chunk = np.arange(CHUNK_FRAMES)
    # The fit is over two frames that differ by a centimetre: it turns and scales by some thousandths.
    assert np.allclose(by_first, 10 * np.abs(in_chunk - 0.5), rtol=0.01, atol=1)
    assert np.allclose(by_all[0], by_all[1], atol=1e-6)
    assert by_all.mean() < by_first.mean() / 2
    assert abs(by_all[0].argmin() - 49.5) < 2


@settings(max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(0.2, 5.0))
def test_any_similarity_of_a_whole_path_is_forgiven_by_both(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    true = walk(120, seed=seed)
    turn = Rotation.random(random_state=seed)
    predicted = scale * turn.apply(true.reshape(-1, 3)).reshape(true.shape) + rng.normal(size=3)
    for errors in chunk_errors_mm(predicted, true):
        assert errors == pytest.approx([0] * 120, abs=1e-5)


def test_acceleration_and_jitter_of_known_curves() -> None:
    """Root-relative joints that bend by 0.5 a t^2 differ by a; a cubic c t^3 has the third derivative 6 c."""
    time = np.arange(8)[:, None, None] / FPS
    rest = np.random.default_rng(3).normal(size=(1, 4, 3))
    true = np.repeat(rest, 8, axis=0)
    bent = true.copy()
    bent[:, 1:] += 0.5 * time**2 * np.array([0.6, 0.8, 0.0])  # 1 m/s^2, of three joints of four: not the root
    assert acceleration_errors_mm(bent, true, FPS) == pytest.approx([750] * 6)
    assert acceleration_errors_mm(bent, true, None) == pytest.approx([750 / FPS**2] * 6)
    assert acceleration_errors_mm(bent + time**2, true + 5, FPS) == pytest.approx([750] * 6)  # the root's own path
    assert jitter(true + 5 * time**3 * np.array([1.0, 0, 0]), FPS) == pytest.approx([3.0] * 5)  # 30 m/s^3


def frames_of(
    true: Array, predicted: Array, names: list[int], people: tuple[int, ...] = (0,)
) -> dict[str, FrameJoints]:
    return {
        f"{name:06d}": FrameJoints(people, *(side[place][None] for side in (predicted, true, true)))
        for place, name in enumerate(names)
    }


def test_differences_in_time_are_over_consecutive_frames_only() -> None:
    true = walk(8)
    predicted = true + np.random.default_rng(4).normal(scale=0.01, size=true.shape)
    found = motion_metrics(frames_of(true, predicted, [0, 1, 2, 3, 5, 6, 7, 9]), FPS)
    assert [name for name, row in found.items() if row.values["accel_mm"] is not None] == ["000002", "000003", "000007"]
    assert [name for name, row in found.items() if row.values["jitter"] is not None] == ["000003"]
    assert found["000003"].values["accel_mm"] == pytest.approx(
        acceleration_errors_mm(predicted[1:4], true[1:4], FPS)[0]
    )
    assert "without a gap" in found["000005"].reasons["accel_mm"]
    assert all(row.values["w_mpjpe_mm"] is not None for row in found.values())
    strided = motion_metrics(frames_of(true, predicted, list(range(0, 16, 2))), FPS)
    assert {row.values["accel_mm"] for row in strided.values()} == {None}


def test_without_frames_a_second_there_is_no_jitter_and_it_is_said() -> None:
    true = walk(6)
    found = motion_metrics(frames_of(true, true, list(range(6))), None)
    assert {row.values["jitter"] for row in found.values()} == {None}
    assert {row.reasons["jitter"] for row in found.values()} == {NO_FPS}


def test_people_have_paths_and_chunks_of_their_own() -> None:
    """The second person comes at frame 30: their chunk begins there, and a frame's value is the mean of both."""
    paths = [walk(130, seed=seed) for seed in (5, 6)]
    rng = np.random.default_rng(7)
    guessed = [path + rng.normal(scale=0.02, size=path.shape).cumsum(axis=0) * 0.1 for path in paths]
    frames = {}
    for frame in range(130):
        people = (0, 1) if frame >= 30 else (0,)
        true, predicted = (np.stack([side[person][frame] for person in people]) for side in (paths, guessed))
        frames[f"{frame:06d}"] = FrameJoints(people, predicted, true, true)
    found = [row.values["w_mpjpe_mm"] for row in motion_metrics(frames, FPS).values()]
    first, second = reference(guessed[0], paths[0], 2), reference(guessed[1][30:], paths[1][30:], 2)
    assert found[:30] == pytest.approx(first[:30], abs=1e-6)
    assert found[30:] == pytest.approx((np.array(first[30:]) + second) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), ([3], "000003"), ([3, 4, 5, 9, 11, 12], "000003-000005, 000009, 000011-000012")],
)
def test_frames_are_named_by_their_runs(names: list[int], text: str) -> None:
    assert frame_ranges(f"{name:06d}" for name in names) == text
