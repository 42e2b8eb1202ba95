"""The shape of a studio person: proportions, skeleton and poses, and the skinned surface of a body around it.

Joints come in the order of SMPL (24); the first 22 are also the body joints of SMPL-X. The rest pose is a T: y up, facing
+z, the left arm along +x, the pelvis at the origin. Lengths are metres, rotations axis-angle in radians, each relative to
the parent joint, as in SMPL. `betas` are coefficients of the studio's own shape space, not of a licensed body model.
A body has the same topology for everybody (so that `faces` is shared); what an outfit adds (hair, a skirt) is a second
mesh of the person's own. Does not belong here: colour, pixels, what people do (`studio_motion`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

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

_CENTRAL_OFFSETS = {
    "spine1": (0.0, 0.11, -0.01),
    "spine2": (0.0, 0.135, 0.0),
    "spine3": (0.0, 0.06, 0.0),
    "neck": (0.0, 0.205, -0.01),
    "head": (0.0, 0.07, 0.02),
}
_LEFT_OFFSETS = {
    "hip": (0.085, -0.09, 0.0),
    "knee": (0.01, -0.39, 0.0),
    "ankle": (-0.005, -0.40, -0.02),
    "foot": (0.01, -0.055, 0.12),
    "collar": (0.06, 0.125, -0.01),
    "shoulder": (0.115, 0.025, -0.01),
    "elbow": (0.26, 0.0, -0.01),
    "wrist": (0.245, 0.0, 0.01),
    "hand": (0.085, 0.0, 0.0),
}


@dataclass(frozen=True)
class Proportions:
    """Factors on the mean body, 1 each for `betas` of zero."""

    stature: float
    girth: float
    legs: float
    arms: float
    shoulders: float
    hips: float
    belly: float
    head: float
    chest: float
    extremities: float

    @classmethod
    def of_betas(cls, betas: np.ndarray) -> "Proportions":
        """One factor a coefficient: `1 + share * beta`. `betas`: (10,)."""
        shares = (0.035, 0.06, 0.03, 0.03, 0.05, 0.05, 0.08, 0.03, 0.05, 0.04)
        return cls(*(1.0 + share * float(beta) for share, beta in zip(shares, betas, strict=True)))


@dataclass(frozen=True)
class Pose:
    """One person at one moment.

    Attributes:
        rotations: (24, 3) axis-angle, relative to the parent; the pelvis's is relative to the world.
        translation: (3,) world position of the pelvis, metres.
    """

    rotations: np.ndarray
    translation: np.ndarray

    def turned(self, joint: str, matrix: np.ndarray) -> "Pose":
        """This pose with the local rotation of one joint replaced. `matrix`: (3, 3)."""
        rotations = self.rotations.copy()
        rotations[JOINT[joint]] = Rotation.from_matrix(matrix).as_rotvec()
        return Pose(rotations, self.translation)

    def moved(self, offset: np.ndarray) -> "Pose":
        """This pose displaced by `offset`, (3,) metres."""
        return Pose(self.rotations, self.translation + offset)


def rest_joints(proportions: Proportions) -> np.ndarray:
    """(24, 3) joint positions of the rest pose, pelvis at the origin."""
    joints = np.zeros((N_JOINTS, 3))
    for index in range(1, N_JOINTS):
        joints[index] = joints[PARENTS[index]] + _offset(JOINT_NAMES[index], proportions)
    return joints


def forward_kinematics(rest: np.ndarray, pose: Pose) -> np.ndarray:
    """World transform of every joint's frame.

    Args:
        rest: (24, 3) rest joints.

    Returns:
        (24, 4, 4): the columns of the upper left are the joint's axes, the last column is its world position.
    """
    local = np.tile(np.eye(4), (N_JOINTS, 1, 1))
    local[:, :3, :3] = Rotation.from_rotvec(pose.rotations).as_matrix()
    local[0, :3, 3] = rest[0] + pose.translation
    world = np.empty_like(local)
    world[0] = local[0]
    for index in range(1, N_JOINTS):
        parent = PARENTS[index]
        local[index, :3, 3] = rest[index] - rest[parent]
        world[index] = world[parent] @ local[index]
    return world


def posed_joints(rest: np.ndarray, pose: Pose) -> np.ndarray:
    """(24, 3) world positions of the joints."""
    return np.asarray(forward_kinematics(rest, pose)[:, :3, 3])


def blend_poses(first: Pose, second: Pose, share: float) -> Pose:
    """The pose `share` of the way from `first` to `second`, each joint along the shorter arc."""
    start = Rotation.from_rotvec(first.rotations)
    step = (start.inv() * Rotation.from_rotvec(second.rotations)).as_rotvec()
    rotations = (start * Rotation.from_rotvec(share * step)).as_rotvec()
    return Pose(rotations, (1 - share) * first.translation + share * second.translation)


def _offset(name: str, proportions: Proportions) -> np.ndarray:
    side, _, part = name.partition("_")
    if not part:
        return proportions.stature * np.array(_CENTRAL_OFFSETS[name])
    offset = proportions.stature * np.array(_LEFT_OFFSETS[part])
    if side == "right":
        offset[0] = -offset[0]
    if part in ("knee", "ankle"):
        offset[1] *= proportions.legs
    elif part in ("elbow", "wrist"):
        offset[0] *= proportions.arms
    elif part in ("foot", "hand"):
        offset *= proportions.extremities
    elif part in ("collar", "shoulder"):
        offset[0] *= proportions.shoulders
    elif part == "hip":
        offset[0] *= proportions.hips
    return offset


class Part(IntEnum):
    """What a vertex belongs to."""

    TORSO = 0
    HEAD = 1
    LEG = 2
    FOOT = 3
    ARM = 4
    HAND = 5
    SKIRT = 6
    HAIR = 7


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


@dataclass(frozen=True)
class Ring:
    """One cross-section of a tube: centre (3,), half widths along the tube's two axes, shares of joints."""

    centre: np.ndarray
    half_widths: tuple[float, float]
    shares: dict[str, float]


def tube(rings: Sequence[Ring], first_axis: np.ndarray, second_axis: np.ndarray, segments: int, part: Part) -> Mesh:
    """A closed tube through elliptic rings; its two ends are single vertices."""
    angles = 2 * np.pi * np.arange(segments) / segments
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = [ring.centre + (circle * ring.half_widths) @ np.stack([first_axis, second_axis]) for ring in rings]
    tips = [rings[0].centre, rings[-1].centre]
    n_rings = len(rings)
    around = np.arange(segments)
    following = (around + 1) % segments
    faces = []
    for row in range(n_rings - 1):
        lower, upper = row * segments, (row + 1) * segments
        faces.append(np.stack([lower + around, upper + around, lower + following], axis=1))
        faces.append(np.stack([lower + following, upper + around, upper + following], axis=1))
    bottom, top, last = n_rings * segments, n_rings * segments + 1, (n_rings - 1) * segments
    faces.append(np.stack([np.full(segments, bottom), around, following], axis=1))
    faces.append(np.stack([np.full(segments, top), last + following, last + around], axis=1))
    shares = np.stack([_weights(ring.shares) for ring in rings])
    mesh = Mesh(
        vertices=np.concatenate([*vertices, np.stack(tips)]),
        faces=np.concatenate(faces),
        weights=np.concatenate([np.repeat(shares, segments, axis=0), shares[[0, -1]]]),
        parts=np.full(n_rings * segments + 2, int(part)),
    )
    return mesh if _signed_volume(mesh) > 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1], mesh.weights, mesh.parts)


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
    """Linear blend skinning (Magnenat-Thalmann et al. 1988; the form SMPL uses), and area-weighted normals."""
    transforms = forward_kinematics(rest, pose)
    transforms[:, :3, 3] -= np.einsum("jab,jb->ja", transforms[:, :3, :3], rest)
    blended = np.einsum("vj,jab->vab", mesh.weights, transforms[:, :3])
    vertices = np.einsum("vab,vb->va", blended[:, :, :3], mesh.vertices) + blended[:, :, 3]
    return Surface(vertices, vertex_normals(vertices, mesh.faces))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, each the mean of the faces around, weighted by area."""
    corners = vertices[faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], areas)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals


def _weights(shares: dict[str, float]) -> np.ndarray:
    row = np.zeros(N_JOINTS)
    for name, share in shares.items():
        row[JOINT[name]] = share
    return row


def _signed_volume(mesh: Mesh) -> float:
    first, second, third = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float(np.einsum("fa,fa->", first, np.cross(second, third)))


_X, _Y, _Z = np.eye(3)


def body_mesh(rest: np.ndarray, proportions: Proportions, *, segments: int) -> Mesh:
    """The skin and clothes of a body, without what an outfit adds. `rest`: (24, 3) joints; `segments`: vertices around the torso."""
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
    heights, widths = (-1.0, -0.82, -0.5, -0.1, 0.3, 0.65, 0.88, 1.0), (0.25, 0.62, 0.86, 0.98, 1.0, 0.84, 0.52, 0.15)
    rings = []
    for height, width in zip(heights, widths, strict=True):
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
    upper += [(0.25, 0.053, {shoulder: 1.0}), (0.6, 0.046, {shoulder: 1.0})]
    upper += [(0.86, 0.040, {shoulder: 0.85, elbow: 0.15})]
    lower = [(0.0, 0.039, {shoulder: 0.5, elbow: 0.5}), (0.14, 0.040, {shoulder: 0.12, elbow: 0.88})]
    lower += [(0.4, 0.040, {elbow: 1.0}), (0.75, 0.032, {elbow: 1.0}), (1.0, 0.027, {elbow: 0.6, wrist: 0.4})]
    return _limb(rest, shoulder, elbow, upper, body) + _limb(rest, elbow, wrist, lower, body)


def _hand(rest: np.ndarray, body: Proportions, side: str, sign: float) -> list[Ring]:
    wrist = f"{side}_wrist"
    size = body.stature * body.extremities
    lengths = (-0.005, 0.04, 0.085, 0.13, 0.165)
    thicknesses, widths = (0.022, 0.021, 0.020, 0.017, 0.010), (0.026, 0.040, 0.043, 0.036, 0.018)
    return [
        Ring(rest[JOINT[wrist]] + size * np.array([sign * along, 0.0, 0.0]), (size * thick, size * wide), {wrist: 1.0})
        for along, thick, wide in zip(lengths, thicknesses, widths, strict=True)
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
