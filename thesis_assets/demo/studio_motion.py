"""What two people do at a moment, and how they stand then: waltz, swing, twirl, hug, boxing.

A choreography maps a time in [0, 1] to the stances of both; `solve` makes poses of them: joint angles, feet on the floor, hands
that reach for the other. Reaching is two-bone inverse kinematics in closed form: the elbow lies on a circle around the line from
shoulder to hand. The first person stands at -x and looks to +x, the second opposite, before the pair is turned as a whole.
A pair has an axis: the direction from the first person to the second in degrees about y, 0 along x. Angles are degrees; x
forward bends the spine and sends a leg back, and a left arm falls with negative z.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio_bodies import JOINT, N_JOINTS, Pose, forward_kinematics
from thesis_assets.demo.studio_people import Individual, Side

HAND_CLEARANCE = 0.028
"""Metres between the middle of a hand and the surface it lies on: half the hand's thickness and a little."""

Degrees = dict[str, tuple[float, float, float]]


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
    angles: Degrees
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

    `goal`: (3,) world position, metres; `pole`: (3,) world direction in which the elbow bends out.
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
    return np.asarray(start + upper * (cosine * along + np.sqrt(1 - cosine**2) * out))


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
    return np.asarray(turn.as_matrix())


def _goal(
    reach: Reach, stance: Stance, person: Individual, pose: Pose, other: Individual, other_pose: Pose
) -> np.ndarray:
    if isinstance(reach.target, Spot):
        surface = other.surface(other_pose)
        vertex = other.spot(reach.target.joint, reach.target.direction)
        return np.asarray(surface.vertices[vertex] + HAND_CLEARANCE * surface.normals[vertex])
    if isinstance(reach.target, Own):
        joint = forward_kinematics(person.rest, pose)[JOINT[reach.target.joint], :3, 3]
        return np.asarray(joint + _heading(stance).apply(reach.target.offset))
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


def smooth(value: float) -> float:
    """0 below 0, 1 above 1, an S between."""
    clipped = float(np.clip(value, 0.0, 1.0))
    return clipped * clipped * (3 - 2 * clipped)


def bump(time: float, middle: float, half_width: float) -> float:
    """1 at `middle`, falling smoothly to 0 at `half_width` from it."""
    return smooth(1.0 - abs(time - middle) / half_width)


def stance(axis: float, offset: float, angles: Degrees, reaches: list[Reach], extra_heading: float = 0.0) -> Stance:
    """A person at `offset` metres along the pair's axis, facing the middle."""
    x, _, z = along(axis, offset)
    facing = 90.0 if offset < 0 else -90.0
    return Stance((float(x), float(z)), axis + facing + extra_heading, angles, [r for r in reaches if r.share > 1e-3])


def along(axis: float, distance: float) -> np.ndarray:
    """World vector of a length along the pair's axis, which is x before the pair is turned."""
    return np.asarray(Rotation.from_euler("y", axis, degrees=True).apply([distance, 0.0, 0.0]))


def beside(axis: float, distance: float, height: float) -> np.ndarray:
    """A world point at the first person's left, level with the middle between the two."""
    return np.asarray(Rotation.from_euler("y", axis, degrees=True).apply([0.0, height, -distance]))


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


Choreography = Callable[[float, float], tuple[Stance, Stance]]
"""(time in [0, 1], degrees by which the pair is turned) to the stances of the first and the second person."""

_FRONT = (0.0, 0.0, 1.0)


def waltz(time: float, turned: float) -> tuple[Stance, Stance]:
    """Closed hold, turning, with a step apart in the middle."""
    apart = bump(time, 0.55, 0.22)
    gap = 0.50 + 0.62 * apart
    axis = turned + 150.0 * time
    held = 1.0 - smooth(apart / 0.35)
    joined = beside(axis, 0.55, 1.28)
    sway = 8.0 * np.sin(4 * np.pi * time)
    step = 4 * np.pi * time
    leader = arms_down() | steps(step, 24) | {"spine2": (4.0 - 6 * apart, 0.0, sway), "head": (0.0, 20.0, 0.0)}
    partner = arms_down() | steps(step, 22) | {"spine2": (-6.0, 0.0, -sway), "head": (-8.0, -25.0, 0.0)}
    return (
        stance(axis, -gap / 2, leader, [
            meet("left", joined, axis, -1, held),
            Reach("right", Spot("spine3", (-0.5, 0.0, -1.0)), held, elbow=(-1.0, -0.3, 0.0)),
            open_arm("left", 1 - held), open_arm("right", 1 - held),
        ]),
        stance(axis, gap / 2, partner, [
            meet("right", joined, axis, 1, held),
            Reach("left", Spot("spine3", (1.0, 0.6, 0.0)), held, elbow=(1.0, -0.5, 0.0)),
            open_arm("left", 1 - held), open_arm("right", 1 - held),
        ]),
    )  # fmt: skip


def swing(time: float, turned: float) -> tuple[Stance, Stance]:
    """Both hands held at arm's length, leaning back, kicking; the hands part at the end."""
    held = 1.0 - smooth((time - 0.72) / 0.16)
    gap = 0.94 + 0.10 * np.sin(4 * np.pi * time) * held + 0.5 * (1 - held)
    axis = turned + 70.0 * np.sin(2 * np.pi * time)
    kick = np.sin(6 * np.pi * time)
    bounce = 10.0 * np.cos(6 * np.pi * time)

    def dancer(sign: float) -> Degrees:
        kicks = {
            "left_hip": (-50.0 * max(0.0, sign * kick) - 8, 0.0, 6.0),
            "right_hip": (-50.0 * max(0.0, -sign * kick) - 8, 0.0, -6.0),
            "left_knee": (25.0 + 15 * max(0.0, -sign * kick), 0.0, 0.0),
            "right_knee": (25.0 + 15 * max(0.0, sign * kick), 0.0, 0.0),
        }
        return arms_down() | kicks | {"pelvis": (-9.0 * held, 0.0, 0.0), "spine2": (6.0, bounce * sign, 0.0)}

    left = beside(axis, 0.16, 1.08)
    right = beside(axis, -0.16, 1.08)
    return (
        stance(axis, -gap / 2, dancer(1.0), [
            meet("left", left, axis, -1, held), meet("right", right, axis, -1, held),
            open_arm("left", 1 - held), open_arm("right", 1 - held),
        ]),
        stance(axis, gap / 2, dancer(-1.0), [
            meet("right", left, axis, 1, held), meet("left", right, axis, 1, held),
            open_arm("left", 1 - held), open_arm("right", 1 - held),
        ]),
    )  # fmt: skip


def twirl(time: float, turned: float) -> tuple[Stance, Stance]:
    """The second person turns once under the raised hands, then comes into the arm of the first."""
    turning = smooth((time - 0.12) / 0.55)
    closing = smooth((time - 0.68) / 0.22)
    begin = 1.0 - smooth(time / 0.14)
    axis = turned + 30.0 * time
    gap = 0.62 + 0.35 * begin - 0.10 * closing
    raised = bump(time, 0.40, 0.40)
    hand = beside(axis, 0.10 + 0.25 * (1 - raised), 1.20 + 0.62 * raised)
    hand = hand + along(axis, 0.16 * raised)
    lead = arms_down() | steps(3 * np.pi * time, 14) | {"spine2": (5.0, 0.0, 8.0 * raised), "head": (-6.0, 0.0, 0.0)}
    turner = (
        arms_down() | steps(5 * np.pi * time, 20) | {"spine2": (-3.0, 0.0, -5.0 * raised), "head": (0.0, 12.0, 0.0)}
    )
    held = 1.0 - begin
    return (
        stance(axis, -gap / 2, lead, [
            meet("left", hand, axis, -1, held),
            Reach("right", Spot("spine2", (0.3, 0.0, -1.0)), closing, elbow=(-1.0, -0.2, 0.2)),
            open_arm("right", (1 - closing) * 0.7), open_arm("left", begin),
        ]),
        stance(axis, gap / 2, turner, [
            meet("right", hand, axis, 1, held),
            Reach("left", Spot("spine3", (0.4, 0.5, 1.0)), closing, elbow=(1.0, -0.5, 0.0)),
            open_arm("left", (1 - closing) * 0.8), open_arm("right", begin),
        ], extra_heading=360.0 * turning),
    )  # fmt: skip


def hug(time: float, turned: float) -> tuple[Stance, Stance]:
    """They walk to each other with open arms and hold each other, swaying."""
    near = smooth(time / 0.55)
    holding = smooth((time - 0.36) / 0.22)
    gap = 1.20 - 0.83 * near
    axis = turned + 25.0 * holding * time
    walk = steps(7 * np.pi * time, 28 * (1 - near))
    sway = 7.0 * np.sin(5 * np.pi * time) * holding
    spread = (1 - holding) * smooth(time / 0.2)

    def hugger(sign: float) -> Degrees:
        lean = {"spine1": (5.0 * holding, 0.0, sign * sway), "spine2": (3.0 * holding, 0.0, 0.0)}
        nod = {"neck": (4.0, 0.0, 14.0 * holding), "head": (6.0 * holding, 10.0 * holding, 10.0 * holding)}
        return arms_down() | walk | lean | nod

    over = (1.0, 0.35, 0.2)
    under = (1.0, -0.6, 0.2)
    return (
        stance(axis, -gap / 2, hugger(1.0), [
            open_arm("left", spread), open_arm("right", spread),
            Reach("left", Spot("spine3", (0.6, 0.3, -0.9)), holding, elbow=over),
            Reach("right", Spot("spine2", (-0.6, 0.1, -0.9)), holding, elbow=mirrored(under)),
        ]),
        stance(axis, gap / 2, hugger(1.0), [
            open_arm("left", spread), open_arm("right", spread),
            Reach("left", Spot("spine3", (0.6, 0.3, -0.9)), holding, elbow=over),
            Reach("right", Spot("spine2", (-0.6, 0.1, -0.9)), holding, elbow=mirrored(under)),
        ]),
    )  # fmt: skip


def boxing(time: float, turned: float) -> tuple[Stance, Stance]:
    """Both in guard; the first lands a straight right, the second answers with a push of both hands and a kick."""
    punch = bump(time, 0.27, 0.16)
    push = bump(time, 0.56, 0.15)
    kick = bump(time, 0.88, 0.18)
    axis = turned + 40.0 * time
    gap = 0.98 - 0.20 * punch - 0.30 * push + 0.12 * kick
    first = guard(-14.0 * push + 16.0 * punch) | {"spine2": (4.0, 26.0 * punch, 0.0)}
    second = guard(-14.0 * punch + 14.0 * push)
    second |= {"right_hip": (-22.0 - 66.0 * kick, 0.0, -4.0), "right_knee": (34.0 - 26.0 * kick, 0.0, 0.0)}
    second |= {"pelvis": (-18.0 * kick - 14.0 * punch + 10.0 * push, 0.0, 0.0)}
    guard_elbow = (0.4, -1.0, 0.1)
    return (
        stance(axis, -gap / 2, first, [
            Reach("left", Own("neck", (0.12, 0.02, 0.26)), 1.0, elbow=guard_elbow),
            Reach("right", Own("neck", (-0.10, 0.0, 0.20)), 1.0, elbow=mirrored(guard_elbow)),
            Reach("right", Spot("spine3", _FRONT), punch, elbow=(-1.0, -0.4, 0.0)),
        ]),
        stance(axis, gap / 2, second, [
            Reach("left", Own("neck", (0.12, 0.02, 0.24)), 1.0, elbow=guard_elbow),
            Reach("right", Own("neck", (-0.10, 0.0, 0.20)), 1.0, elbow=mirrored(guard_elbow)),
            Reach("left", Spot("spine3", (-0.5, 0.1, 1.0)), push, elbow=guard_elbow),
            Reach("right", Spot("spine3", (0.5, 0.1, 1.0)), push, elbow=mirrored(guard_elbow)),
        ]),
    )  # fmt: skip


CHOREOGRAPHIES: dict[str, Choreography] = {"waltz": waltz, "swing": swing, "twirl": twirl, "hug": hug, "boxing": boxing}
