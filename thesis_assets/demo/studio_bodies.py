"""The bodies of the studio: proportions, skeleton and poses, and the skinned surface around it.

Joints come in the order of SMPL (24); the first 22 are also the body joints of SMPL-X. The rest pose is a T: y up, facing
+z, the left arm along +x, the pelvis at the origin. Lengths are metres, rotations axis-angle in radians, each relative to
the parent joint, as in SMPL. `betas` are coefficients of the studio's own shape space, not of a licensed body model.
A body has the same topology for everybody, so that `faces` is shared. Does not belong here: clothes, colour, movement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
N_JOINTS = len(JOINT_NAMES)
N_SMPLX_JOINTS = 22
"""SMPL-X keeps its hands in finger joints of their own; the studio's hands are rigid."""

Proportions = Mapping[str, float]
"""Factors on the mean body, 1 each for `betas` of zero."""
_SHARES = {
    "stature": 0.035, "girth": 0.06, "legs": 0.03, "arms": 0.03, "shoulders": 0.05, "hips": 0.05, "belly": 0.08,
    "head": 0.03, "chest": 0.05, "extremities": 0.04,
}  # fmt: skip

_X, _Y, _Z = np.eye(3)
_BONES: dict[str, tuple[tuple[float, float, float], str, list[int]]] = {
    "spine1": ((0.0, 0.11, -0.01), "stature", []),
    "spine2": ((0.0, 0.135, 0.0), "stature", []),
    "spine3": ((0.0, 0.06, 0.0), "stature", []),
    "neck": ((0.0, 0.205, -0.01), "stature", []),
    "head": ((0.0, 0.07, 0.02), "stature", []),
    "hip": ((0.085, -0.09, 0.0), "hips", [0]),
    "knee": ((0.01, -0.39, 0.0), "legs", [1]),
    "ankle": ((-0.005, -0.40, -0.02), "legs", [1]),
    "foot": ((0.01, -0.055, 0.12), "extremities", [0, 1, 2]),
    "collar": ((0.06, 0.125, -0.01), "shoulders", [0]),
    "shoulder": ((0.115, 0.025, -0.01), "shoulders", [0]),
    "elbow": ((0.26, 0.0, -0.01), "arms", [0]),
    "wrist": ((0.245, 0.0, 0.01), "arms", [0]),
    "hand": ((0.085, 0.0, 0.0), "extremities", [0, 1, 2]),
}
"""From the parent to a joint (of the left side): metres of the mean body, and what scales which axes beside the stature."""


def proportions_of(betas: Sequence[float]) -> Proportions:
    """One factor a coefficient (10 of them): `1 + share * beta`."""
    return {name: 1.0 + share * beta for (name, share), beta in zip(_SHARES.items(), betas, strict=True)}


def rest_joints(body: Proportions) -> np.ndarray:
    """(24, 3) joint positions of the rest pose, pelvis at the origin."""
    joints = np.zeros((N_JOINTS, 3))
    for index, name in enumerate(JOINT_NAMES[1:], start=1):
        side, _, part = name.rpartition("_")
        metres, scaled_by, axes = _BONES[part]
        bone = body["stature"] * np.array(metres)
        bone[axes] *= body[scaled_by]
        bone[0] *= -1.0 if side == "right" else 1.0
        joints[index] = joints[PARENTS[index]] + bone
    return joints


@dataclass(frozen=True)
class Pose:
    """One person at one moment.

    Attributes:
        rotations: (24, 3) axis-angle, relative to the parent; the pelvis's is relative to the world.
        translation: (3,) world position of the pelvis, metres.
    """

    rotations: np.ndarray
    translation: np.ndarray


def forward_kinematics(rest: np.ndarray, pose: Pose) -> np.ndarray:
    """(24, 4, 4) world transform of every joint's frame: its axes, and in the last column its place. `rest`: (24, 3)."""
    world = np.tile(np.eye(4), (N_JOINTS, 1, 1))
    world[:, :3, :3] = Rotation.from_rotvec(pose.rotations).as_matrix()
    world[0, :3, 3] = rest[0] + pose.translation
    for index, parent in enumerate(PARENTS[1:], start=1):
        world[index, :3, 3] = rest[index] - rest[parent]
        world[index] = world[parent] @ world[index]
    return world


def posed_joints(rest: np.ndarray, pose: Pose) -> np.ndarray:
    """(24, 3) world positions of the joints."""
    return forward_kinematics(rest, pose)[:, :3, 3]


def blend_poses(first: Pose, second: Pose, share: float) -> Pose:
    """The pose `share` of the way from `first` to `second`, each joint along the shorter arc."""
    start = Rotation.from_rotvec(first.rotations)
    step = (start.inv() * Rotation.from_rotvec(second.rotations)).as_rotvec()
    rotations = (start * Rotation.from_rotvec(share * step)).as_rotvec()
    return Pose(rotations, (1 - share) * first.translation + share * second.translation)


# --- surfaces --------------------------------------------------------------------------------------------------------


class Part(IntEnum):
    """What a vertex belongs to."""

    TORSO, HEAD, LEG, FOOT, ARM, HAND, SKIRT, HAIR = range(8)


@dataclass(frozen=True)
class Mesh:
    """A surface in the rest pose.

    Attributes:
        vertices: (V, 3) rest positions, metres.
        faces: (F, 3) vertex numbers, anticlockwise seen from outside.
        weights: (V, 24) share of each joint in a vertex, rows sum to 1.
        parts: (V,) `Part` of each vertex.
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Surface:
    """A posed mesh: `vertices` (V, 3) and unit `normals` (V, 3), in the world."""

    vertices: np.ndarray
    normals: np.ndarray


def join_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one, in order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        weights=np.concatenate([mesh.weights for mesh in meshes]),
        parts=np.concatenate([mesh.parts for mesh in meshes]),
    )


def pose_mesh(mesh: Mesh, rest: np.ndarray, pose: Pose) -> Surface:
    """Linear blend skinning (Magnenat-Thalmann et al. 1988; the form SMPL uses), and normals weighted by the faces' areas."""
    transforms = forward_kinematics(rest, pose)
    transforms[:, :3, 3] -= np.einsum("jab,jb->ja", transforms[:, :3, :3], rest)
    blended = np.einsum("vj,jab->vab", mesh.weights, transforms[:, :3])
    vertices = np.einsum("vab,vb->va", blended[:, :, :3], mesh.vertices) + blended[:, :, 3]
    normals = np.zeros_like(vertices)
    for corner in mesh.faces.T:
        np.add.at(normals, corner, face_normals(vertices, mesh.faces))
    return Surface(vertices, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) outward normals, as long as twice the face's area."""
    first, second, third = np.moveaxis(vertices[faces], 1, 0)
    return np.cross(second - first, third - first)


class Ring(NamedTuple):
    """One cross-section of a tube: centre (3,), half widths along the tube's two axes (one number: alike), shares of joints."""

    centre: np.ndarray
    half_widths: np.ndarray
    shares: dict[str, float]


Level = tuple[tuple[float, float, float] | float, tuple[float, float] | float, dict[str, float]]
"""A ring in a table: offset, half widths, shares of joints; joints of a pair without their side."""


def rings(anchor: np.ndarray, size: object, width: float, levels: Sequence[Level], side: str = "") -> list[Ring]:
    """The rings of a table: `size` times their offsets from the anchor, `width` times their half widths."""

    def joint(name: str) -> str:
        return name if name in JOINT else f"{side}_{name}"

    return [
        Ring(anchor + np.multiply(size, offset), np.multiply(width, half), {joint(name): shares[name] for name in shares})
        for offset, half, shares in levels
    ]


def tube(rings: Sequence[Ring], axes: tuple[np.ndarray, np.ndarray], segments: int, part: Part) -> Mesh:
    """A closed tube through elliptic rings; its two ends are single vertices."""
    n_rings, around = len(rings), np.arange(segments)
    following = (around + 1) % segments
    angles = 2 * np.pi * around / segments
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = [ring.centre + (circle * ring.half_widths) @ np.stack(axes) for ring in rings]
    weights = np.zeros((n_rings, N_JOINTS))
    for ring, row in zip(rings, weights, strict=True):
        row[[JOINT[name] for name in ring.shares]] = list(ring.shares.values())
    last = (n_rings - 1) * segments
    here, there = (np.arange(0, last, segments)[:, None] + place for place in (around, following))
    lower, upper = [here, here + segments, there], [there, here + segments, there + segments]
    bottom, top = [n_rings * segments, around, following], [n_rings * segments + 1, last + following, last + around]
    sides = np.stack([np.stack(lower, axis=-1), np.stack(upper, axis=-1)], axis=1)
    ends = [np.stack(np.broadcast_arrays(*corners), axis=1) for corners in (bottom, top)]
    faces = np.concatenate([sides.reshape(-1, 3), *ends])
    mesh = Mesh(
        vertices=np.concatenate([*vertices, [rings[0].centre, rings[-1].centre]]),
        faces=faces,
        weights=np.concatenate([np.repeat(weights, segments, axis=0), weights[[0, -1]]]),
        parts=np.full(n_rings * segments + 2, int(part)),
    )
    first, second, third = np.moveaxis(mesh.vertices[faces], 1, 0)
    outwards = np.einsum("fa,fa->", first, np.cross(second, third)) > 0
    return mesh if outwards else replace(mesh, faces=faces[:, ::-1])


_TORSO: dict[str, Sequence[Level]] = {
    "hips": (
        ((0, -0.15, 0), (0.060, 0.060), {"pelvis": 1.0}),
        ((0, -0.11, 0), (0.140, 0.105), {"pelvis": 1.0}),
        ((0, -0.05, 0), (0.160, 0.118), {"pelvis": 1.0}),
        ((0, 0.03, 0), (0.156, 0.114), {"pelvis": 0.8, "spine1": 0.2}),
    ),
    "belly": (
        ((0, 0.12, 0), (0.140, 0.106), {"pelvis": 0.2, "spine1": 0.7, "spine2": 0.1}),
        ((0, 0.21, 0), (0.138, 0.106), {"spine1": 0.5, "spine2": 0.5}),
    ),
    "chest": (
        ((0, 0.29, 0), (0.150, 0.114), {"spine2": 0.5, "spine3": 0.5}),
        ((0, 0.37, 0), (0.162, 0.118), {"spine3": 1.0}),
    ),
    "shoulders": (
        ((0, 0.425, 0), (0.168, 0.108), {"spine3": 1.0}),
        ((0, 0.465, 0), (0.150, 0.085), {"spine3": 1.0}),
        ((0, 0.495, 0), (0.085, 0.066), {"spine3": 0.7, "neck": 0.3}),
    ),
}
_NECK: Sequence[Level] = (
    ((0, 0.525, 0), (0.056, 0.056), {"neck": 0.9, "spine3": 0.1}),
    ((0, 0.585, 0), (0.052, 0.055), {"neck": 0.6, "head": 0.4}),
)
_HEAD = ((-1.0, 0.25), (-0.82, 0.62), (-0.5, 0.86), (-0.1, 0.98), (0.3, 1.0), (0.65, 0.84), (0.88, 0.52), (1.0, 0.15))
"""Height and width from chin to crown, as shares of the largest."""
_THIGH: Sequence[Level] = (
    (-0.1, 0.085, {"pelvis": 0.7, "hip": 0.3}),
    (0.06, 0.088, {"pelvis": 0.35, "hip": 0.65}),
    (0.3, 0.080, {"hip": 1.0}),
    (0.6, 0.067, {"hip": 1.0}),
    (0.86, 0.057, {"hip": 0.85, "knee": 0.15}),
)
_SHANK: Sequence[Level] = (
    (0.0, 0.055, {"hip": 0.5, "knee": 0.5}),
    (0.14, 0.054, {"hip": 0.12, "knee": 0.88}),
    (0.35, 0.056, {"knee": 1.0}),
    (0.65, 0.046, {"knee": 1.0}),
    (0.97, 0.038, {"knee": 0.7, "ankle": 0.3}),
)
_FOOT: Sequence[Level] = (
    ((0, -0.040, -0.065), (0.022, 0.020), {"ankle": 1.0}),
    ((0, -0.035, -0.045), (0.036, 0.036), {"ankle": 1.0}),
    ((0, -0.030, 0.01), (0.041, 0.044), {"ankle": 1.0}),
    ((0, -0.042, 0.07), (0.045, 0.034), {"ankle": 0.8, "foot": 0.2}),
    ((0, -0.052, 0.13), (0.049, 0.025), {"ankle": 0.4, "foot": 0.6}),
    ((0, -0.057, 0.18), (0.038, 0.019), {"foot": 1.0}),
    ((0, -0.060, 0.20), (0.018, 0.012), {"foot": 1.0}),
)
_UPPER_ARM: Sequence[Level] = (
    (-0.22, 0.052, {"spine3": 0.5, "collar": 0.5}),
    (0.02, 0.058, {"collar": 0.5, "shoulder": 0.5}),
    (0.25, 0.053, {"shoulder": 1.0}),
    (0.6, 0.046, {"shoulder": 1.0}),
    (0.86, 0.040, {"shoulder": 0.85, "elbow": 0.15}),
)
_LOWER_ARM: Sequence[Level] = (
    (0.0, 0.039, {"shoulder": 0.5, "elbow": 0.5}),
    (0.14, 0.040, {"shoulder": 0.12, "elbow": 0.88}),
    (0.4, 0.040, {"elbow": 1.0}),
    (0.75, 0.032, {"elbow": 1.0}),
    (1.0, 0.027, {"elbow": 0.6, "wrist": 0.4}),
)
_HAND: Sequence[Level] = (
    ((-0.005, 0, 0), (0.022, 0.026), {"wrist": 1.0}),
    ((0.04, 0, 0), (0.021, 0.040), {"wrist": 1.0}),
    ((0.085, 0, 0), (0.020, 0.043), {"wrist": 1.0}),
    ((0.13, 0, 0), (0.017, 0.036), {"wrist": 1.0}),
    ((0.165, 0, 0), (0.010, 0.018), {"wrist": 1.0}),
)
UPRIGHT = (_X, _Z)
"""Axes of a tube that runs upwards."""


def body_mesh(rest: np.ndarray, body: Proportions, *, segments: int) -> Mesh:
    """The skin and clothes of a body, without what an outfit adds. `rest`: (24, 3) joints; `segments`: vertices around the torso."""
    stature, width, end = body["stature"], body["stature"] * body["girth"], body["stature"] * body["extremities"]
    spine = np.array([0.0, 0.0, rest[JOINT["spine2"]][2]])
    torso = [ring for where, levels in _TORSO.items() for ring in rings(spine, stature, width * body[where], levels)]
    torso += rings(spine, stature, stature, _NECK)
    limb = max(6, round(segments * 0.72))
    tubes = [
        tube(torso, UPRIGHT, segments, Part.TORSO),
        tube(head_rings(rest, body, 1.0), UPRIGHT, segments, Part.HEAD),
    ]
    for side, outward in (("left", 1.0), ("right", -1.0)):
        hip, knee, ankle, shoulder, elbow, wrist = (
            rest[JOINT[f"{side}_{part}"]] for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        leg = rings(hip, knee - hip, width, _THIGH, side) + rings(knee, ankle - knee, width, _SHANK, side)
        arm = rings(shoulder, elbow - shoulder, width, _UPPER_ARM, side)
        arm += rings(elbow, wrist - elbow, width, _LOWER_ARM, side)
        tubes += [
            tube(leg, UPRIGHT, limb, Part.LEG),
            tube(rings(ankle, end, end, _FOOT, side), (_X, _Y), limb, Part.FOOT),
            tube(arm, (_Y, outward * _Z), limb, Part.ARM),
            tube(rings(wrist, outward * end, end, _HAND, side), (_Y, outward * _Z), max(6, limb - 2), Part.HAND),
        ]
    return join_meshes(tubes)


def skull(rest: np.ndarray, size: float) -> np.ndarray:
    """(3,) the middle of the head."""
    return rest[JOINT["head"]] + size * np.array([0.0, 0.085, 0.012])


def head_rings(rest: np.ndarray, body: Proportions, swell: float) -> list[Ring]:
    """The head from chin to crown. `swell` > 1 makes a shell around it, for hair."""
    size = body["head"] * body["stature"]
    levels: list[Level] = [  # the chin stands before the neck
        ((0, 0.118 * up * swell, 0.012 if up < -0.4 else 0), (0.078 * wide, 0.098 * wide), {"head": 1.0})
        for up, wide in _HEAD
    ]
    return rings(skull(rest, size), size, size * swell, levels)
