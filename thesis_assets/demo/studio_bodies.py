"""The bodies of the studio: proportions, skeleton and poses, and the skinned surface around it.

Joints come in the order of SMPL (24); the first 22 are also the body joints of SMPL-X. The rest pose is a T: y up, facing
+z, the left arm along +x, the pelvis at the origin. Lengths are metres, rotations axis-angle in radians, each relative to
the parent joint, as in SMPL. `betas` are coefficients of the studio's own shape space, not of a licensed body model.
A body has the same topology for everybody, so that `faces` is shared; hair and a skirt are meshes of their own.
Does not belong here: colour, movement.
"""

from collections.abc import Mapping, Sequence
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


class Pose(NamedTuple):
    """One person at one moment: rotations (24, 3), the pelvis's relative to the world; its place in the world (3,), metres."""

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


class Mesh(NamedTuple):
    """A surface in the rest pose: vertices (V, 3) in metres, faces (F, 3) anticlockwise seen from outside.

    `weights`: (V, 24) share of each joint in a vertex, rows sum to 1; `parts`: (V,) `Part` of each vertex.
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    parts: np.ndarray


class Surface(NamedTuple):
    """A posed mesh: `vertices` (V, 3) and unit `normals` (V, 3), in the world."""

    vertices: np.ndarray
    normals: np.ndarray


def join_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one, in order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    moved = [mesh._replace(faces=mesh.faces + start) for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(*(np.concatenate(arrays) for arrays in zip(*moved, strict=True)))


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


class Levels(NamedTuple):
    """Rings of a tube as a table: joints (of a pair without their side), and rows of offsets, half widths, shares of the joints."""

    joints: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]


Rings = tuple[np.ndarray, np.ndarray, np.ndarray]
"""R cross-sections of a tube: centres (R, 3), half widths (R, 2) along its two axes (or (R, 1), alike), weights (R, 24)."""
_X, _Y, _Z = np.eye(3)
_UPRIGHT = (_X, _Z)

_TORSO = Levels(("pelvis", "spine1", "spine2", "spine3", "neck", "head"), (
    (-0.15, 0.060, 0.060, 1, 0, 0, 0, 0, 0), (-0.11, 0.140, 0.105, 1, 0, 0, 0, 0, 0),
    (-0.05, 0.160, 0.118, 1, 0, 0, 0, 0, 0), (0.03, 0.156, 0.114, 0.8, 0.2, 0, 0, 0, 0),
    (0.12, 0.140, 0.106, 0.2, 0.7, 0.1, 0, 0, 0), (0.21, 0.138, 0.106, 0, 0.5, 0.5, 0, 0, 0),
    (0.29, 0.150, 0.114, 0, 0, 0.5, 0.5, 0, 0), (0.37, 0.162, 0.118, 0, 0, 0, 1, 0, 0),
    (0.425, 0.168, 0.108, 0, 0, 0, 1, 0, 0), (0.465, 0.150, 0.085, 0, 0, 0, 1, 0, 0),
    (0.495, 0.085, 0.066, 0, 0, 0, 0.7, 0.3, 0), (0.525, 0.056, 0.056, 0, 0, 0, 0.1, 0.9, 0),
    (0.585, 0.052, 0.055, 0, 0, 0, 0, 0.6, 0.4),
))  # fmt: skip
_TORSO_WIDTHS = ("hips",) * 4 + ("belly",) * 2 + ("chest",) * 2 + ("shoulders",) * 3
"""What scales its rings up to the neck."""
_HEAD = ((-1.0, 0.25), (-0.82, 0.62), (-0.5, 0.86), (-0.1, 0.98), (0.3, 1.0), (0.65, 0.84), (0.88, 0.52), (1.0, 0.15))
"""Height and width from chin to crown, as shares of the largest."""
_THIGH = Levels(("pelvis", "hip", "knee"), (
    (-0.1, 0.085, 0.7, 0.3, 0), (0.06, 0.088, 0.35, 0.65, 0), (0.3, 0.080, 0, 1, 0), (0.6, 0.067, 0, 1, 0),
    (0.86, 0.057, 0, 0.85, 0.15),
))  # fmt: skip
_SHANK = Levels(("hip", "knee", "ankle"), (
    (0.0, 0.055, 0.5, 0.5, 0), (0.14, 0.054, 0.12, 0.88, 0), (0.35, 0.056, 0, 1, 0), (0.65, 0.046, 0, 1, 0),
    (0.97, 0.038, 0, 0.7, 0.3),
))  # fmt: skip
_FOOT = Levels(("ankle", "foot"), (
    (-0.040, -0.065, 0.022, 0.020, 1, 0), (-0.035, -0.045, 0.036, 0.036, 1, 0), (-0.030, 0.01, 0.041, 0.044, 1, 0),
    (-0.042, 0.07, 0.045, 0.034, 0.8, 0.2), (-0.052, 0.13, 0.049, 0.025, 0.4, 0.6),
    (-0.057, 0.18, 0.038, 0.019, 0, 1), (-0.060, 0.20, 0.018, 0.012, 0, 1),
))  # fmt: skip
_UPPER_ARM = Levels(("spine3", "collar", "shoulder", "elbow"), (
    (-0.22, 0.052, 0.5, 0.5, 0, 0), (0.02, 0.058, 0, 0.5, 0.5, 0), (0.25, 0.053, 0, 0, 1, 0), (0.6, 0.046, 0, 0, 1, 0),
    (0.86, 0.040, 0, 0, 0.85, 0.15),
))  # fmt: skip
_LOWER_ARM = Levels(("shoulder", "elbow", "wrist"), (
    (0.0, 0.039, 0.5, 0.5, 0), (0.14, 0.040, 0.12, 0.88, 0), (0.4, 0.040, 0, 1, 0), (0.75, 0.032, 0, 1, 0),
    (1.0, 0.027, 0, 0.6, 0.4),
))  # fmt: skip
_HAND = Levels(("wrist",), (
    (-0.005, 0.022, 0.026, 1), (0.04, 0.021, 0.040, 1), (0.085, 0.020, 0.043, 1), (0.13, 0.017, 0.036, 1),
    (0.165, 0.010, 0.018, 1),
))  # fmt: skip
_LONG_HAIR = Levels(("head", "spine3"), (
    (0.05, -0.075, 0.070, 0.035, 1, 0), (-0.08, -0.075, 0.078, 0.040, 1, 0), (-0.20, -0.083, 0.080, 0.032, 0.6, 0.4),
    (-0.31, -0.091, 0.060, 0.020, 0.2, 0.8),
))  # fmt: skip
_BUN = Levels(("head",), (
    (0.048, -0.105, 0.0135, 1), (0.0732, -0.105, 0.0405, 1), (0.1068, -0.105, 0.0405, 1), (0.132, -0.105, 0.0135, 1),
))  # fmt: skip
_SKIRT = Levels(("pelvis", "left_hip"), (
    (0.08, 0.148, 0.115, 1, 0), (-0.06, 0.185, 0.140, 0.9, 0.1), (-0.20, 0.220, 0.175, 0.6, 0.4),
    (-0.36, 0.255, 0.205, 0.4, 0.6), (-0.46, 0.270, 0.220, 0.3, 0.7),
))  # fmt: skip


def body_mesh(rest: np.ndarray, body: Proportions, *, segments: int) -> Mesh:
    """The skin and clothes of a body, without what an outfit adds. `rest`: (24, 3) joints; `segments`: vertices around the torso."""
    stature, width, end = body["stature"], body["stature"] * body["girth"], body["stature"] * body["extremities"]
    spine = np.array([0.0, 0.0, rest[JOINT["spine2"]][2]])
    widths = np.array([[width * body[name]] for name in _TORSO_WIDTHS] + [[stature]] * 2)
    limb = max(6, round(segments * 0.72))
    tubes = [
        _tube([_rings(_TORSO, spine, [stature * _Y], widths)], _UPRIGHT, segments, Part.TORSO),
        _tube([_head(rest, body, 1.0)], _UPRIGHT, segments, Part.HEAD),
    ]
    for side, outward in (("left", 1.0), ("right", -1.0)):
        hip, knee, ankle, shoulder, elbow, wrist = (
            rest[JOINT[f"{side}_{part}"]] for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
        )
        leg = [_rings(_THIGH, hip, [knee - hip], width, side), _rings(_SHANK, knee, [ankle - knee], width, side)]
        arm = [
            _rings(_UPPER_ARM, shoulder, [elbow - shoulder], width, side),
            _rings(_LOWER_ARM, elbow, [wrist - elbow], width, side),
        ]
        foot = _rings(_FOOT, ankle, [end * _Y, end * _Z], end, side)
        hand = _rings(_HAND, wrist, [outward * end * _X], end, side)
        tubes += [
            _tube(leg, _UPRIGHT, limb, Part.LEG),
            _tube([foot], (_X, _Y), limb, Part.FOOT),
            _tube(arm, (_Y, outward * _Z), limb, Part.ARM),
            _tube([hand], (_Y, outward * _Z), max(6, limb - 2), Part.HAND),
        ]
    return join_meshes(tubes)


def hair_meshes(rest: np.ndarray, body: Proportions, style: str) -> list[Mesh]:
    """A cap, and what hangs or is bound behind it. `style`: `short`, `long` or `bun`."""
    size = body["stature"] * body["head"]
    centres, half_widths, weights = (column[3:] for column in _head(rest, body, 1.10))
    cap = (centres + size * np.array([0.0, 0.012, -0.020]), half_widths, weights)
    meshes = [_tube([cap], _UPRIGHT, 10, Part.HAIR)]
    for name, levels, segments in (("long", _LONG_HAIR, 10), ("bun", _BUN, 8)):
        if style == name:
            behind = _rings(levels, skull(rest, size), [size * _Y, size * _Z], size)
            meshes.append(_tube([behind], _UPRIGHT, segments, Part.HAIR))
    return meshes


def skirt_mesh(body: Proportions) -> Mesh:
    """A skirt; the legs' share of it goes to the leg that a vertex hangs over."""
    width = body["stature"] * body["girth"] * body["hips"]
    mesh = _tube([_rings(_SKIRT, -0.01 * _Z, [body["stature"] * _Y], width)], _UPRIGHT, 14, Part.SKIRT)
    legs, left = mesh.weights[:, JOINT["left_hip"]], np.clip(0.5 + mesh.vertices[:, 0] / 0.3, 0.0, 1.0)
    mesh.weights[:, [JOINT["left_hip"], JOINT["right_hip"]]] = np.stack([legs * left, legs * (1 - left)], axis=1)
    return mesh


def skull(rest: np.ndarray, size: float) -> np.ndarray:
    """(3,) the middle of the head."""
    return np.asarray(rest[JOINT["head"]] + size * np.array([0.0, 0.085, 0.012]))


def _head(rest: np.ndarray, body: Proportions, swell: float) -> Rings:
    """The head from chin to crown. `swell` > 1 makes a shell around it, for hair."""
    size = body["head"] * body["stature"]
    rows = [  # the chin stands before the neck
        (0.118 * up * swell, 0.012 if up < -0.4 else 0.0, 0.078 * wide, 0.098 * wide, 1.0) for up, wide in _HEAD
    ]
    return _rings(Levels(("head",), tuple(rows)), skull(rest, size), [size * _Y, size * _Z], size * swell)


def _rings(
    levels: Levels, anchor: np.ndarray, directions: Sequence[np.ndarray], width: float | np.ndarray, side: str = ""
) -> Rings:
    """The rings of a table, whose offsets from the anchor go in these directions (K of (3,)); `width` scales half widths."""
    rows, weights = np.array(levels.rows), np.zeros((len(levels.rows), N_JOINTS))
    n_offsets, n_joints = len(directions), len(levels.joints)
    joints = [JOINT[name if name in JOINT else f"{side}_{name}"] for name in levels.joints]
    weights[:, joints] = rows[:, -n_joints:]
    return anchor + rows[:, :n_offsets] @ np.stack(directions), width * rows[:, n_offsets:-n_joints], weights


def _tube(stacks: Sequence[Rings], axes: tuple[np.ndarray, np.ndarray], segments: int, part: Part) -> Mesh:
    """A closed tube through elliptic rings; its two ends are single vertices."""
    centres, half_widths, weights = (np.concatenate(column) for column in zip(*stacks, strict=True))
    n_rings, around = len(centres), np.arange(segments)
    following = (around + 1) % segments
    angles = 2 * np.pi * around / segments
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline = centres[:, None] + (circle * half_widths[:, None]) @ np.stack(axes)
    last, tips = (n_rings - 1) * segments, np.full(segments, n_rings * segments)
    here, there = (np.arange(0, last, segments)[:, None] + place for place in (around, following))
    squares = [(here, here + segments, there), (there, here + segments, there + segments)]
    ends = [(tips, around, following), (tips + 1, last + following, last + around)]
    sides = np.stack([np.stack(corners, axis=-1) for corners in squares], axis=1).reshape(-1, 3)
    faces = np.concatenate([sides, *(np.stack(corners, axis=1) for corners in ends)])
    vertices = np.concatenate([outline.reshape(-1, 3), centres[[0, -1]]])
    outwards = (vertices[faces[:, 0]] * np.cross(vertices[faces[:, 1]], vertices[faces[:, 2]])).sum() > 0
    return Mesh(
        vertices=vertices,
        faces=faces if outwards else faces[:, ::-1],
        weights=np.concatenate([np.repeat(weights, segments, axis=0), weights[[0, -1]]]),
        parts=np.full(len(vertices), int(part)),
    )
