"""The skeleton of the studio's people: proportions from `betas`, rest joints, poses, forward kinematics.

Joints come in the order of SMPL (24); the first 22 are also the body joints of SMPL-X. The rest pose is a T: y up, facing
+z, the left arm along +x, the pelvis at the origin. Lengths are metres, rotations axis-angle in radians, each relative to
the parent joint, as in SMPL. `betas` are coefficients of the studio's own shape space, not of a licensed body model.
Does not belong here: surfaces (`studio_bodies`) and what people do (`studio_motion`).
"""

from dataclasses import dataclass

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
    joints: np.ndarray = forward_kinematics(rest, pose)[:, :3, 3]
    return joints


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
