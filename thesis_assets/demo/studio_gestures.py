"""Gestures that the choreographies share: where a pair stands, how legs walk, arms hang, open and meet.

A pair has an axis: the direction from the first person to the second in degrees about y, 0 along x. Angles are degrees; x
forward bends the spine and sends a leg back, and a left arm falls with negative z.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio_motion import Own, Reach, Stance
from thesis_assets.demo.studio_people import Side

Degrees = dict[str, tuple[float, float, float]]


def smooth(value: float) -> float:
    """0 below 0, 1 above 1, an S between."""
    clipped = float(np.clip(value, 0.0, 1.0))
    return clipped * clipped * (3 - 2 * clipped)


def bump(time: float, middle: float, half_width: float) -> float:
    """1 at `middle`, falling smoothly to 0 at `half_width` from it."""
    return smooth(1.0 - abs(time - middle) / half_width)


def stance(
    axis: float,
    offset: float,
    angles: Degrees,
    reaches: list[Reach],
    extra_heading: float = 0.0,
) -> Stance:
    """A person at `offset` metres along the pair's axis, facing the middle."""
    x, _, z = along(axis, offset)
    facing = 90.0 if offset < 0 else -90.0
    return Stance((float(x), float(z)), axis + facing + extra_heading, angles, [r for r in reaches if r.share > 1e-3])


def along(axis: float, distance: float) -> np.ndarray:
    """World vector of a length along the pair's axis, which is x before the pair is turned."""
    vector: np.ndarray = Rotation.from_euler("y", axis, degrees=True).apply([distance, 0.0, 0.0])
    return vector


def beside(axis: float, distance: float, height: float) -> np.ndarray:
    """A world point at the first person's left, level with the middle between the two."""
    point: np.ndarray = Rotation.from_euler("y", axis, degrees=True).apply([0.0, height, -distance])
    return point


def meet(side: Side, point: np.ndarray, axis: float, sign: int, share: float) -> Reach:
    """A hand at a point shared with the other's: palm against palm."""
    goal = point + along(axis, sign * 0.016)
    outward = 1.0 if side == "left" else -1.0
    return Reach(side, goal, share, elbow=(outward, -0.6, -0.2))


def open_arm(side: Side, share: float) -> Reach:
    """An arm held out to the side and a little ahead."""
    outward = 1.0 if side == "left" else -1.0
    target = Own("spine3", (0.56 * outward, 0.08, 0.28))
    return Reach(side, target, share, elbow=(0.3 * outward, -1.0, -0.3))


def arms_down() -> Degrees:
    """Arms hanging, elbows a little bent."""
    return {
        "left_shoulder": (0.0, 0.0, -72.0),
        "right_shoulder": (0.0, 0.0, 72.0),
        "left_elbow": (0.0, -22.0, 0.0),
        "right_elbow": (0.0, 22.0, 0.0),
    }


def steps(phase: float, swing_degrees: float) -> Degrees:
    """Legs of a walk; `phase` in radians."""
    wave = float(np.sin(phase))
    return {
        "left_hip": (-swing_degrees * wave, 0.0, 2.0),
        "right_hip": (swing_degrees * wave, 0.0, -2.0),
        "left_knee": (6.0 + swing_degrees * max(0.0, -wave), 0.0, 0.0),
        "right_knee": (6.0 + swing_degrees * max(0.0, wave), 0.0, 0.0),
    }


def guard(lean: float) -> Degrees:
    """A boxer's stance: left foot ahead, knees bent, chin down."""
    return arms_down() | {
        "pelvis": (lean, 0.0, 0.0),
        "left_hip": (-26.0, 0.0, 5.0),
        "right_hip": (14.0, 0.0, -6.0),
        "left_knee": (30.0, 0.0, 0.0),
        "right_knee": (26.0, 0.0, 0.0),
        "spine1": (6.0, 0.0, 0.0),
        "neck": (8.0, 0.0, 0.0),
    }


def mirrored(direction: tuple[float, float, float]) -> tuple[float, float, float]:
    """A direction for the right arm from one for the left, or the reverse."""
    return (-direction[0], direction[1], direction[2])
