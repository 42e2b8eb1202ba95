"""From what two people intend to how they stand: joint angles, feet on the floor, hands that reach for the other.

Reaching is two-bone inverse kinematics in closed form: the elbow lies on a circle around the line from shoulder to hand.
Does not belong here: which action is danced when (`studio_choreography`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio_people import Individual, Side
from thesis_assets.demo.studio_skeleton import JOINT, N_JOINTS, Pose, forward_kinematics

HAND_CLEARANCE = 0.028
"""Metres between the middle of a hand and the surface it lies on: half the hand's thickness and a little."""

Angles = Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Spot:
    """A place on the other person's torso: near a joint, on the side that `direction` (rest pose) points to."""

    joint: str
    direction: tuple[float, float, float]


@dataclass(frozen=True)
class Own:
    """A place relative to one's own joint, in one's own heading: metres to the left, up, ahead."""

    joint: str
    offset: tuple[float, float, float]


@dataclass(frozen=True)
class Reach:
    """A hand on its way: `share` 0 leaves it where the joint angles have it, 1 brings it to the target.

    `elbow`: where the elbow points, in one's own heading (left, up, ahead).
    """

    side: Side
    target: Spot | Own | np.ndarray
    share: float = 1.0
    elbow: tuple[float, float, float] = (0.0, -1.0, -0.4)


@dataclass(frozen=True)
class Stance:
    """One person's intention: place on the floor (x, z) in metres, heading in degrees about y (0 faces +z), angles, reaches.

    `angles`: joint name to degrees about x, y, z (in this order), relative to the parent.
    """

    place: tuple[float, float]
    heading: float
    angles: Angles
    reaches: Sequence[Reach] = ()


def solve(people: Sequence[Individual], stances: Sequence[Stance]) -> list[Pose]:
    """Poses of the people of one moment. Reaches refer to the others as they stand before anybody reaches."""
    standing = [person.grounded(_pose(stance)) for person, stance in zip(people, stances, strict=True)]
    reached = list(standing)
    for index, (person, stance) in enumerate(zip(people, stances, strict=True)):
        other = 1 - index
        for reach in stance.reaches:
            goal = _goal(reach, stance, person, standing[index], people[other], standing[other])
            hand = person.posed_palm(reached[index], reach.side)
            goal = (1 - reach.share) * hand + reach.share * goal
            pole = _heading(stance).apply(reach.elbow)
            reached[index] = reach_with_arm(person, reached[index], reach.side, goal, pole)
    return reached


def reach_with_arm(person: Individual, pose: Pose, side: Side, goal: np.ndarray, pole: np.ndarray) -> Pose:
    """Turn shoulder and elbow so that the middle of the hand comes to `goal`, or as near as the arm is long.

    Args:
        goal: (3,) world position, metres.
        pole: (3,) world direction in which the elbow bends out.
    """
    shoulder, elbow, wrist = (JOINT[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    rotations = pose.rotations.copy()
    rotations[[elbow, wrist]] = 0.0
    pose = Pose(rotations, pose.translation)
    world = forward_kinematics(person.rest, pose)
    start = world[shoulder, :3, 3]
    upper, lower = person.rest[elbow] - person.rest[shoulder], person.palm(side) - person.rest[elbow]
    bend = _elbow(start, goal, pole, float(np.linalg.norm(upper)), float(np.linalg.norm(lower)))
    collar = world[JOINT[f"{side}_collar"], :3, :3]
    turned = _shortest_turn(upper, collar.T @ (bend - start))
    pose = pose.turned(f"{side}_shoulder", turned)
    in_arm = (collar @ turned).T @ (goal - bend)
    return pose.turned(f"{side}_elbow", _shortest_turn(lower, in_arm))


def _elbow(start: np.ndarray, goal: np.ndarray, pole: np.ndarray, upper: float, lower: float) -> np.ndarray:
    """Where the elbow goes: the law of cosines in the plane of shoulder, goal and pole."""
    along = goal - start
    distance = float(np.clip(np.linalg.norm(along), abs(upper - lower) + 0.02, 0.998 * (upper + lower)))
    along = along / np.linalg.norm(along)
    out = pole - (pole @ along) * along
    out = out / np.linalg.norm(out)
    cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    bend: np.ndarray = start + upper * (cosine * along + np.sqrt(1 - cosine**2) * out)
    return bend


def _shortest_turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3, 3) rotation without twist that takes the direction `first` to `second` (Rodrigues)."""
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    axis = np.cross(first, second)
    sine, cosine = float(np.linalg.norm(axis)), float(first @ second)
    if sine < 1e-9:  # parallel, or exactly opposed: then any axis across
        across = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
        turn = Rotation.from_rotvec((0.0 if cosine > 0 else np.pi) * across / np.linalg.norm(across))
    else:
        turn = Rotation.from_rotvec(np.arctan2(sine, cosine) * axis / sine)
    matrix: np.ndarray = turn.as_matrix()
    return matrix


def _goal(
    reach: Reach, stance: Stance, person: Individual, pose: Pose, other: Individual, other_pose: Pose
) -> np.ndarray:
    if isinstance(reach.target, Spot):
        surface = other.surface(other_pose)
        vertex = other.spot(reach.target.joint, reach.target.direction)
        goal: np.ndarray = surface.vertices[vertex] + HAND_CLEARANCE * surface.normals[vertex]
        return goal
    if isinstance(reach.target, Own):
        joint = forward_kinematics(person.rest, pose)[JOINT[reach.target.joint], :3, 3]
        place: np.ndarray = joint + _heading(stance).apply(reach.target.offset)
        return place
    return reach.target


def _heading(stance: Stance) -> Rotation:
    return Rotation.from_euler("y", stance.heading, degrees=True)


def _pose(stance: Stance) -> Pose:
    rotations = np.zeros((N_JOINTS, 3))
    for name, degrees in stance.angles.items():
        rotations[JOINT[name]] = Rotation.from_euler("xyz", degrees, degrees=True).as_rotvec()
    lean = Rotation.from_rotvec(rotations[0])
    rotations[0] = (_heading(stance) * lean).as_rotvec()
    x, z = stance.place
    return Pose(rotations, np.array([x, 0.0, z]))
