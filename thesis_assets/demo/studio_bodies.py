"""The shape of a studio person: rings around the skeleton that become torso, head, limbs, hands and feet.

A body has the same topology for everybody (so that `faces` is shared); what an outfit adds (hair, a skirt) is a second
mesh of the person's own. Does not belong here: colour, poses, pixels.
"""

from collections.abc import Sequence

import numpy as np

from thesis_assets.demo.studio_meshes import Mesh, Part, Ring, join_meshes, tube
from thesis_assets.demo.studio_skeleton import JOINT, Proportions

_X, _Y, _Z = np.eye(3)


def body_mesh(rest: np.ndarray, proportions: Proportions, *, segments: int) -> Mesh:
    """The skin and clothes of a body, without what `studio_looks` adds.

    Args:
        rest: (24, 3) rest joints.
        segments: vertices around the torso; limbs get proportionally fewer.
    """
    limb = max(6, round(segments * 0.72))
    tubes = [
        tube(_torso(rest, proportions), _X, _Z, segments, Part.TORSO),
        tube(head_rings(rest, proportions, 1.0), _X, _Z, segments, Part.HEAD),
    ]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        tubes += [
            tube(_leg(rest, proportions, side), _X, _Z, limb, Part.LEG),
            tube(_foot(rest, proportions, side), _X, _Y, limb, Part.FOOT),
            tube(_arm(rest, proportions, side), _Y, sign * _Z, limb, Part.ARM),
            tube(_hand(rest, proportions, side, sign), _Y, sign * _Z, max(6, limb - 2), Part.HAND),
        ]
    return join_meshes(tubes)


def head_rings(rest: np.ndarray, proportions: Proportions, swell: float) -> list[Ring]:
    """The head as a stack of rings from chin to crown. `swell` > 1 makes a shell around it, for hair."""
    size = proportions.head * proportions.stature
    centre = rest[JOINT["head"]] + size * np.array([0.0, 0.085, 0.012])
    profile = (
        (-1.0, 0.25),
        (-0.82, 0.62),
        (-0.5, 0.86),
        (-0.1, 0.98),
        (0.3, 1.0),
        (0.65, 0.84),
        (0.88, 0.52),
        (1.0, 0.15),
    )
    rings = []
    for height, width in profile:
        forward = 0.012 if height < -0.4 else 0.0  # the chin stands before the neck
        middle = centre + size * np.array([0.0, 0.118 * height * swell, forward])
        rings.append(Ring(middle, (size * 0.078 * width * swell, size * 0.098 * width * swell), {"head": 1.0}))
    return rings


def _torso(rest: np.ndarray, body: Proportions) -> list[Ring]:
    size = body.stature
    hips, waist, chest = body.girth * body.hips, body.girth * body.belly, body.girth * body.chest
    shoulders = body.girth * body.shoulders
    levels = [
        (-0.15, 0.060, 0.060, hips, {"pelvis": 1.0}),
        (-0.11, 0.140, 0.105, hips, {"pelvis": 1.0}),
        (-0.05, 0.160, 0.118, hips, {"pelvis": 1.0}),
        (0.03, 0.156, 0.114, hips, {"pelvis": 0.8, "spine1": 0.2}),
        (0.12, 0.140, 0.106, waist, {"pelvis": 0.2, "spine1": 0.7, "spine2": 0.1}),
        (0.21, 0.138, 0.106, waist, {"spine1": 0.5, "spine2": 0.5}),
        (0.29, 0.150, 0.114, chest, {"spine2": 0.5, "spine3": 0.5}),
        (0.37, 0.162, 0.118, chest, {"spine3": 1.0}),
        (0.425, 0.168, 0.108, shoulders, {"spine3": 1.0}),
        (0.465, 0.150, 0.085, shoulders, {"spine3": 1.0}),
        (0.495, 0.085, 0.066, shoulders, {"spine3": 0.7, "neck": 0.3}),
        (0.525, 0.056, 0.056, 1.0, {"neck": 0.9, "spine3": 0.1}),
        (0.585, 0.052, 0.055, 1.0, {"neck": 0.6, "head": 0.4}),
    ]
    spine = rest[JOINT["spine2"]][2]
    return [
        Ring(np.array([0.0, size * height, spine]), (size * wide * factor, size * deep * factor), shares)
        for height, wide, deep, factor, shares in levels
    ]


def _leg(rest: np.ndarray, body: Proportions, side: str) -> list[Ring]:
    hip, knee, ankle = (f"{side}_{name}" for name in ("hip", "knee", "ankle"))
    thigh = [(-0.1, 0.085, {"pelvis": 0.7, hip: 0.3}), (0.06, 0.088, {"pelvis": 0.35, hip: 0.65})]
    thigh += [(0.3, 0.080, {hip: 1.0}), (0.6, 0.067, {hip: 1.0}), (0.86, 0.057, {hip: 0.85, knee: 0.15})]
    shank = [(0.0, 0.055, {hip: 0.5, knee: 0.5}), (0.14, 0.054, {hip: 0.12, knee: 0.88})]
    shank += [(0.35, 0.056, {knee: 1.0}), (0.65, 0.046, {knee: 1.0}), (0.97, 0.038, {knee: 0.7, ankle: 0.3})]
    return _limb(rest, hip, knee, thigh, body) + _limb(rest, knee, ankle, shank, body)


def _foot(rest: np.ndarray, body: Proportions, side: str) -> list[Ring]:
    ankle, toes = f"{side}_ankle", f"{side}_foot"
    size = body.stature * body.extremities
    levels = [
        (-0.065, -0.040, 0.022, 0.020, {ankle: 1.0}),
        (-0.045, -0.035, 0.036, 0.036, {ankle: 1.0}),
        (0.01, -0.030, 0.041, 0.044, {ankle: 1.0}),
        (0.07, -0.042, 0.045, 0.034, {ankle: 0.8, toes: 0.2}),
        (0.13, -0.052, 0.049, 0.025, {ankle: 0.4, toes: 0.6}),
        (0.18, -0.057, 0.038, 0.019, {toes: 1.0}),
        (0.20, -0.060, 0.018, 0.012, {toes: 1.0}),
    ]
    return [
        Ring(rest[JOINT[ankle]] + size * np.array([0.0, down, ahead]), (size * wide, size * high), shares)
        for ahead, down, wide, high, shares in levels
    ]


def _arm(rest: np.ndarray, body: Proportions, side: str) -> list[Ring]:
    collar, shoulder, elbow, wrist = (f"{side}_{name}" for name in ("collar", "shoulder", "elbow", "wrist"))
    upper = [(-0.22, 0.052, {"spine3": 0.5, collar: 0.5}), (0.02, 0.058, {collar: 0.5, shoulder: 0.5})]
    upper += [
        (0.25, 0.053, {shoulder: 1.0}),
        (0.6, 0.046, {shoulder: 1.0}),
        (0.86, 0.040, {shoulder: 0.85, elbow: 0.15}),
    ]
    lower = [(0.0, 0.039, {shoulder: 0.5, elbow: 0.5}), (0.14, 0.040, {shoulder: 0.12, elbow: 0.88})]
    lower += [(0.4, 0.040, {elbow: 1.0}), (0.75, 0.032, {elbow: 1.0}), (1.0, 0.027, {elbow: 0.6, wrist: 0.4})]
    return _limb(rest, shoulder, elbow, upper, body) + _limb(rest, elbow, wrist, lower, body)


def _hand(rest: np.ndarray, body: Proportions, side: str, sign: float) -> list[Ring]:
    wrist = f"{side}_wrist"
    size = body.stature * body.extremities
    levels = (
        (-0.005, 0.022, 0.026),
        (0.04, 0.021, 0.040),
        (0.085, 0.020, 0.043),
        (0.13, 0.017, 0.036),
        (0.165, 0.010, 0.018),
    )
    return [
        Ring(rest[JOINT[wrist]] + size * np.array([sign * along, 0.0, 0.0]), (size * thick, size * wide), {wrist: 1.0})
        for along, thick, wide in levels
    ]


def _limb(
    rest: np.ndarray, start: str, end: str, levels: Sequence[tuple[float, float, dict[str, float]]], body: Proportions
) -> list[Ring]:
    first, last = rest[JOINT[start]], rest[JOINT[end]]
    width = body.stature * body.girth
    return [
        Ring((1 - along) * first + along * last, (width * radius, width * radius), shares)
        for along, radius, shares in levels
    ]
