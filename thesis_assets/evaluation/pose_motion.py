"""Metrics of motion: W-MPJPE, WA-MPJPE, acceleration error and jitter of each person, over the frames of a scene.

As the field defines them: W- and WA-MPJPE in V. Ye et al., "Decoupling Human and Camera Motion from Videos in the Wild"
(SLAHMR), CVPR 2023, and over chunks of 100 frames in S. Shin et al., "WHAM: Reconstructing World-grounded Humans with Accurate
3D Motion", CVPR 2024, whose evaluation also gives the acceleration error of root-relative joints, the jitter in 10 m/s^3, and a
last chunk of fewer frames. A frame's value is the mean over its people.
Does not belong here: one frame by itself (`pose_metrics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thesis_assets.evaluation.pose_metrics import (
    MM_PER_M,
    ROOT_JOINT,
    Array,
    ComparedBodies,
    FrameMetrics,
    fit_similarity,
)
from thesis_assets.schemas.evaluation import POSE_MOTION_METRICS

CHUNK_FRAMES = 100
FIRST_FRAMES = 2
"""W-MPJPE aligns a chunk by so many frames."""
ACCELERATION_FRAMES, JITTER_FRAMES = 3, 4
"""Frames of a second and of a third difference in time; its value stands at the last of them."""
JITTER_UNIT = 10.0
"""Metres a second cubed."""
NO_FPS = "the scene's registry entry has no `fps`"
TOO_FEW = "nobody is there in this frame and the {} before it, without a gap"


@dataclass(frozen=True, eq=False)
class FrameJoints:
    """The joints of one frame's people on both sides.

    Attributes:
        people: index of each in the ground truth.
        predicted: (P, J, 3) metres in the predicted world.
        moved: (P, J, 3) of the ground truth, moved there.
        true: (P, J, 3) of the ground truth in its own world: a motion a frame would add to its path.
    """

    people: tuple[int, ...]
    predicted: Array
    moved: Array
    true: Array

    @classmethod
    def of(cls, compared: ComparedBodies) -> FrameJoints:
        true = compared.true.joints
        people = tuple(theirs for _, theirs in compared.pairs)
        return cls(people, compared.predicted.joints, true, compared.motion.inverse().move(true))


def motion_metrics(frames: Mapping[str, FrameJoints], fps: float | None) -> dict[str, FrameMetrics]:
    """`POSE_MOTION_METRICS` of every frame, with the reason where one is empty.

    Args:
        frames: by frame name, in order.
        fps: frames a second; without it `accel_mm` is in mm a frame squared, else mm/s^2, and there is no jitter.
    """
    names = list(frames)
    people = sorted({person for each in frames.values() for person in each.people})
    found: dict[str, dict[str, list[float]]] = {name: {metric: [] for metric in POSE_MOTION_METRICS} for name in names}
    for person in people:
        own = [name for name in names if person in frames[name].people]
        for metric, by_frame in _of_person([_joints(frames[name], person) for name in own], own, fps).items():
            for name, value in by_frame.items():
                found[name][metric].append(value)
    return {name: _frame_metrics(values, fps) for name, values in found.items()}


def _joints(frame: FrameJoints, person: int) -> tuple[Array, Array, Array]:
    place = frame.people.index(person)
    return frame.predicted[place], frame.moved[place], frame.true[place]


def _of_person(
    joints: Sequence[tuple[Array, Array, Array]], names: Sequence[str], fps: float | None
) -> dict[str, dict[str, float]]:
    """Each metric of one person by frame, where it has a value."""
    predicted, moved, true = (np.stack(side) for side in zip(*joints, strict=True))
    numbers = np.array([int(name) for name in names])
    by_first, by_all = chunk_errors_mm(predicted, true)
    accelerations = acceleration_errors_mm(predicted, moved, fps)
    found = {
        "w_mpjpe_mm": dict(zip(names, by_first, strict=True)),
        "wa_mpjpe_mm": dict(zip(names, by_all, strict=True)),
        "accel_mm": _at_last(names, numbers, accelerations, ACCELERATION_FRAMES),
    }
    if fps is not None:
        found["jitter"] = _at_last(names, numbers, jitter(predicted, fps), JITTER_FRAMES)
    return found


def _at_last(names: Sequence[str], numbers: Array, values: Sequence[float], length: int) -> dict[str, float]:
    """The values of those runs of `length` frames that have no gap, by their last frame."""
    return {
        names[first + length - 1]: value
        for first, value in enumerate(values)
        if numbers[first + length - 1] - numbers[first] == length - 1
    }


def _frame_metrics(found: Mapping[str, Sequence[float]], fps: float | None) -> FrameMetrics:
    values = {metric: float(np.mean(of_people)) if of_people else None for metric, of_people in found.items()}
    reasons = {"accel_mm": TOO_FEW.format(ACCELERATION_FRAMES - 1), "jitter": TOO_FEW.format(JITTER_FRAMES - 1)}
    if fps is None:
        reasons["jitter"] = NO_FPS
    return FrameMetrics(values, {metric: reason for metric, reason in reasons.items() if values[metric] is None})


def chunk_errors_mm(predicted: Array, true: Array) -> tuple[list[float], list[float]]:
    """W-MPJPE and WA-MPJPE of one person by frame: the similarity, with scale, that fits a chunk's first two frames, or all of it.

    Args:
        predicted: (T, J, 3) metres, the person's frames in order.
        true: the same shape, each side in a world of its own.
    """
    by_first: list[float] = []
    by_all: list[float] = []
    for start in range(0, len(predicted), CHUNK_FRAMES):
        ours, theirs = (side[start : start + CHUNK_FRAMES] for side in (predicted, true))
        for errors, n_frames in ((by_first, FIRST_FRAMES), (by_all, CHUNK_FRAMES)):
            move = fit_similarity(ours[:n_frames].reshape(-1, 3), theirs[:n_frames].reshape(-1, 3))
            errors += (np.linalg.norm(move(ours) - theirs, axis=-1).mean(axis=1) * MM_PER_M).tolist()
    return by_first, by_all


def acceleration_errors_mm(predicted: Array, true: Array, fps: float | None) -> list[float]:
    """How far predicted and true acceleration of root-relative joints are apart, the mean over joints: T - 2 values.

    Args:
        predicted: (T, J, 3) metres, the person's frames in order.
        true: the same shape, in the same world.
        fps: to mm/s^2; None: mm a frame squared.
    """
    apart = (predicted - predicted[:, [ROOT_JOINT]]) - (true - true[:, [ROOT_JOINT]])
    return _mean_norms(np.diff(apart, n=2, axis=0), MM_PER_M * (fps or 1.0) ** 2)


def jitter(predicted: Array, fps: float) -> list[float]:
    """The third derivative of the predicted joints (T, J, 3), in 10 m/s^3, the mean over joints: T - 3 values."""
    return _mean_norms(np.diff(predicted, n=3, axis=0), fps**3 / JITTER_UNIT)


def _mean_norms(differences: Array, scale: float) -> list[float]:
    norms: list[float] = (np.linalg.norm(differences, axis=-1).mean(axis=-1) * scale).tolist()
    return norms


def frame_ranges(names: Iterable[str]) -> str:
    """Frames as a reader names them: `000002-000007, 000011`."""
    runs: list[list[str]] = []
    for name in names:
        if runs and int(name) == int(runs[-1][-1]) + 1:
            runs[-1][1:] = [name]
        else:
            runs.append([name])
    return ", ".join("-".join(run) for run in runs)
