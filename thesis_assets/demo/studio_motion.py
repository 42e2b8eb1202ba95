"""What two people do at a moment, and how they stand then: waltz, swing, twirl, hug, boxing.

A choreography maps a time in [0, 1] to a `Duet`; `solve` makes poses of it: joint angles, feet on the floor, hands that reach
for the other. Reaching is two-bone inverse kinematics in closed form: the elbow lies on a circle around the line from shoulder
to hand. The first person stands at -x and looks to +x, the second opposite, before the pair is turned about y as a whole.
Angles are degrees; x forward bends the spine and sends a leg back, and a left arm falls with negative z.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from thesis_assets.demo.studio_bodies import JOINT, N_JOINTS, Pose, forward_kinematics, posed_joints
from thesis_assets.demo.studio_people import OUTWARD, Individual, Side

_HAND_CLEARANCE = 0.028
"""Metres between the middle of a hand and the surface it lies on: half the hand's thickness and a little."""

Vector = tuple[float, float, float]
Degrees = dict[str, Vector]
"""Joint name to degrees about x, y, z (in this order), relative to the parent."""


class Spot(NamedTuple):
    """A place on the other person's torso: near a joint, on the side that `direction` (rest pose) points to."""

    joint: str
    direction: Vector


class Own(NamedTuple):
    """A place relative to one's own joint, in one's own heading: metres outward, up, ahead."""

    joint: str
    offset: Vector


class Between(NamedTuple):
    """A place where hands of both meet: metres towards the second person from the middle, up, to the first person's right."""

    along: float
    up: float
    right: float


class Reach(NamedTuple):
    """A hand on its way: `share` 0 leaves it where the joint angles have it, 1 brings it to the target.

    `elbow`: where the elbow points, in one's own heading: outward, up, ahead.
    """

    side: Side
    target: Spot | Own | Between
    share: float
    elbow: Vector = (1.0, -0.6, -0.2)


class Role(NamedTuple):
    """One person's part: angles beside those of hanging arms, reaches in order, degrees away from facing the other."""

    angles: Degrees
    reaches: Sequence[Reach]
    turned: float = 0.0


class Duet(NamedTuple):
    """Two people `gap` metres apart; `axis`: degrees about y of the direction from the first to the second, 0 along x."""

    axis: float
    gap: float
    roles: tuple[Role, Role]


def solve(people: Sequence[Individual], duet: Duet, turned: float) -> list[Pose]:
    """Poses of both; the pair is turned by `turned` degrees. Reaches refer to the other as they stand before anybody reaches."""
    axis = _about_y(turned + duet.axis)
    standing, headings = [], []
    for person, role, sign in zip(people, duet.roles, (-1, 1), strict=True):
        rotations, heading = np.zeros((N_JOINTS, 3)), _about_y(turned + duet.axis - 90.0 * sign + role.turned)
        for name, degrees in (_ARMS_DOWN | role.angles).items():
            rotations[JOINT[name]] = Rotation.from_euler("xyz", degrees, degrees=True).as_rotvec()
        rotations[0] = (heading * Rotation.from_rotvec(rotations[0])).as_rotvec()
        standing.append(person.grounded(Pose(rotations, axis.apply([sign * duet.gap / 2, 0.0, 0.0]))))
        headings.append(heading)
    reached = list(standing)
    for own, (person, heading) in enumerate(zip(people, headings, strict=True)):
        for side, target, share, elbow in duet.roles[own].reaches:
            if share <= 1e-3:
                continue
            mirror = np.array([OUTWARD[side], 1.0, 1.0])
            match target:
                case Spot():
                    surface, vertex = people[1 - own].surface(standing[1 - own]), people[1 - own].spot(*target)
                    goal = surface.vertices[vertex] + _HAND_CLEARANCE * surface.normals[vertex]
                case Own():
                    goal = posed_joints(person.rest, standing[own])[JOINT[target.joint]]
                    goal = goal + heading.apply(mirror * target.offset)
                case Between():  # palm against palm
                    goal = axis.apply(target) + axis.apply([(own - 0.5) * 0.032, 0.0, 0.0])
            goal = (1 - share) * person.posed_palm(reached[own], side) + share * goal
            reached[own] = reach_with_arm(person, reached[own], side, goal, heading.apply(mirror * elbow))
    return reached


def _about_y(degrees: float) -> Rotation:
    return Rotation.from_euler("y", degrees, degrees=True)


def reach_with_arm(person: Individual, pose: Pose, side: Side, goal: np.ndarray, pole: np.ndarray) -> Pose:
    """Turn shoulder and elbow so that the middle of the hand comes to `goal`, or as near as the arm is long.

    `goal`: (3,) world position, metres; `pole`: (3,) world direction in which the elbow bends out.
    """
    collar, shoulder, elbow, wrist = (JOINT[f"{side}_{name}"] for name in ("collar", "shoulder", "elbow", "wrist"))
    rotations = pose.rotations.copy()
    rotations[[elbow, wrist]] = 0.0
    world = forward_kinematics(person.rest, Pose(rotations, pose.translation))
    frame, start = world[collar, :3, :3], world[shoulder, :3, 3]
    upper = person.rest[elbow] - person.rest[shoulder]
    lower = person.rest[wrist] + person.palm(side) - person.rest[elbow]
    bend = _elbow(start, goal, pole, float(np.linalg.norm(upper)), float(np.linalg.norm(lower)))
    turn = _shortest_turn(upper, frame.T @ (bend - start))
    rotations[shoulder] = turn.as_rotvec()
    rotations[elbow] = _shortest_turn(lower, (frame @ turn.as_matrix()).T @ (goal - bend)).as_rotvec()
    return Pose(rotations, pose.translation)


def _elbow(start: np.ndarray, goal: np.ndarray, pole: np.ndarray, upper: float, lower: float) -> np.ndarray:
    """Where the elbow goes: the law of cosines in the plane of shoulder, goal and pole."""
    along = goal - start
    distance = float(np.clip(np.linalg.norm(along), abs(upper - lower) + 0.02, 0.998 * (upper + lower)))
    along = along / np.linalg.norm(along)
    out = pole - (pole @ along) * along
    out = out / np.linalg.norm(out)
    cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    return np.asarray(start + upper * (cosine * along + np.sqrt(1 - cosine**2) * out))


def _shortest_turn(first: np.ndarray, second: np.ndarray) -> Rotation:
    """The rotation without twist that takes the direction `first` to `second`."""
    return Rotation.align_vectors(second, first)[0]


# --- what choreographies are made of ---------------------------------------------------------------------------------

_ARMS_DOWN: Degrees = {  # elbows a little bent
    "left_shoulder": (0.0, 0.0, -72.0),
    "right_shoulder": (0.0, 0.0, 72.0),
    "left_elbow": (0.0, -22.0, 0.0),
    "right_elbow": (0.0, 22.0, 0.0),
}


def _smooth(value: float) -> float:
    """0 below 0, 1 above 1, an S between."""
    clipped = float(np.clip(value, 0.0, 1.0))
    return clipped * clipped * (3 - 2 * clipped)


def _bump(time: float, middle: float, half_width: float) -> float:
    """1 at `middle`, falling smoothly to 0 at `half_width` from it."""
    return _smooth(1.0 - abs(time - middle) / half_width)


def _open_arms(left: float, right: float) -> list[Reach]:
    """Arms held out to the side and a little ahead, each by its share."""
    target, elbow = Own("spine3", (0.56, 0.08, 0.28)), (0.3, -1.0, -0.3)
    return [Reach("left", target, left, elbow), Reach("right", target, right, elbow)]


def _legs(left: float, right: float, left_aside: float, right_aside: float) -> Degrees:
    """Both hips: back (forward below 0), and to the side."""
    return {"left_hip": (left, 0.0, left_aside), "right_hip": (right, 0.0, right_aside)}


def _knees(left: float, right: float) -> Degrees:
    """Both knees bent."""
    return {"left_knee": (left, 0.0, 0.0), "right_knee": (right, 0.0, 0.0)}


def _steps(phase: float, swing_degrees: float) -> Degrees:
    """Legs of a walk; `phase` in radians."""
    wave = float(np.sin(phase))
    bent = (6.0 + swing_degrees * max(0.0, backwards) for backwards in (-wave, wave))
    return _legs(-swing_degrees * wave, swing_degrees * wave, 2.0, -2.0) | _knees(*bent)


# --- the choreographies ----------------------------------------------------------------------------------------------


def _waltz(time: float) -> Duet:
    """Closed hold, turning, with a step apart in the middle."""
    apart, step, sway = _bump(time, 0.55, 0.22), 4 * np.pi * time, 8.0 * np.sin(4 * np.pi * time)
    held = 1.0 - _smooth(apart / 0.35)
    joined, parted = Between(0.0, 1.28, -0.55), _open_arms(1 - held, 1 - held)
    leader = _steps(step, 24) | {"spine2": (4.0 - 6 * apart, 0.0, sway), "head": (0.0, 20.0, 0.0)}
    partner = _steps(step, 22) | {"spine2": (-6.0, 0.0, -sway), "head": (-8.0, -25.0, 0.0)}
    at_back = Reach("right", Spot("spine3", (-0.5, 0.0, -1.0)), held, (1.0, -0.3, 0.0))
    at_shoulder = Reach("left", Spot("spine3", (1.0, 0.6, 0.0)), held, (1.0, -0.5, 0.0))
    first = Role(leader, [Reach("left", joined, held), at_back, *parted])
    second = Role(partner, [Reach("right", joined, held), at_shoulder, *parted])
    return Duet(axis=150.0 * time, gap=0.50 + 0.62 * apart, roles=(first, second))


def _swing(time: float) -> Duet:
    """Both hands held at arm's length, leaning back, kicking; the hands part at the end."""
    held = 1.0 - _smooth((time - 0.72) / 0.16)
    left, right = Between(0.0, 1.08, -0.16), Between(0.0, 1.08, 0.16)

    def dancer(sign: float, hands: tuple[Side, Side]) -> Role:
        kick, bounce = sign * np.sin(6 * np.pi * time), 10.0 * np.cos(6 * np.pi * time) * sign
        angles = _legs(-50.0 * max(0.0, kick) - 8, -50.0 * max(0.0, -kick) - 8, 6.0, -6.0)
        angles |= _knees(25.0 + 15 * max(0.0, -kick), 25.0 + 15 * max(0.0, kick))
        angles |= {"pelvis": (-9.0 * held, 0.0, 0.0), "spine2": (6.0, bounce, 0.0)}
        joined = [Reach(side, place, held) for side, place in zip(hands, (left, right), strict=True)]
        return Role(angles, [*joined, *_open_arms(1 - held, 1 - held)])

    return Duet(
        axis=70.0 * np.sin(2 * np.pi * time),
        gap=0.94 + 0.10 * np.sin(4 * np.pi * time) * held + 0.5 * (1 - held),
        roles=(dancer(1.0, ("left", "right")), dancer(-1.0, ("right", "left"))),
    )


def _twirl(time: float) -> Duet:
    """The second person turns once under the raised hands, then comes into the arm of the first."""
    closing, begin = _smooth((time - 0.68) / 0.22), 1.0 - _smooth(time / 0.14)
    raised, held = _bump(time, 0.40, 0.40), 1.0 - begin
    hand = Between(0.16 * raised, 1.20 + 0.62 * raised, -(0.10 + 0.25 * (1 - raised)))
    lead = _steps(3 * np.pi * time, 14) | {"spine2": (5.0, 0.0, 8.0 * raised), "head": (-6.0, 0.0, 0.0)}
    turner = _steps(5 * np.pi * time, 20) | {"spine2": (-3.0, 0.0, -5.0 * raised), "head": (0.0, 12.0, 0.0)}
    at_back = Reach("right", Spot("spine2", (0.3, 0.0, -1.0)), closing, (1.0, -0.2, 0.2))
    at_chest = Reach("left", Spot("spine3", (0.4, 0.5, 1.0)), closing, (1.0, -0.5, 0.0))
    first = Role(lead, [Reach("left", hand, held), at_back, *_open_arms(begin, (1 - closing) * 0.7)])
    reaches = [Reach("right", hand, held), at_chest, *_open_arms((1 - closing) * 0.8, begin)]
    second = Role(turner, reaches, turned=360.0 * _smooth((time - 0.12) / 0.55))
    return Duet(axis=30.0 * time, gap=0.62 + 0.35 * begin - 0.10 * closing, roles=(first, second))


def _hug(time: float) -> Duet:
    """They walk to each other with open arms and hold each other, swaying."""
    near, holding = _smooth(time / 0.55), _smooth((time - 0.36) / 0.22)
    spread, sway = (1 - holding) * _smooth(time / 0.2), 7.0 * np.sin(5 * np.pi * time) * holding
    angles = _steps(7 * np.pi * time, 28 * (1 - near))
    angles |= {"spine1": (5.0 * holding, 0.0, sway), "spine2": (3.0 * holding, 0.0, 0.0)}
    angles |= {"neck": (4.0, 0.0, 14.0 * holding), "head": (6.0 * holding, 10.0 * holding, 10.0 * holding)}
    over = Reach("left", Spot("spine3", (0.6, 0.3, -0.9)), holding, (1.0, 0.35, 0.2))
    under = Reach("right", Spot("spine2", (-0.6, 0.1, -0.9)), holding, (1.0, -0.6, 0.2))
    both = Role(angles, [*_open_arms(spread, spread), over, under])
    return Duet(axis=25.0 * holding * time, gap=1.20 - 0.83 * near, roles=(both, both))


def _boxing(time: float) -> Duet:
    """Both in guard; the first lands a straight right, the second answers with a push of both hands and a kick."""
    punch, push, kick = _bump(time, 0.27, 0.16), _bump(time, 0.56, 0.15), _bump(time, 0.88, 0.18)
    down = (0.4, -1.0, 0.1)
    chin: Degrees = {"spine1": (6.0, 0.0, 0.0), "neck": (8.0, 0.0, 0.0)}
    # Left foot ahead, knees bent.
    first = chin | _legs(-26.0, 14.0, 5.0, -6.0) | _knees(30.0, 26.0)
    first |= {"pelvis": (-14.0 * push + 16.0 * punch, 0.0, 0.0), "spine2": (4.0, 26.0 * punch, 0.0)}
    second = chin | _legs(-26.0, -22.0 - 66.0 * kick, 5.0, -4.0) | _knees(30.0, 34.0 - 26.0 * kick)
    second |= {"pelvis": (-18.0 * kick - 14.0 * punch + 10.0 * push, 0.0, 0.0)}

    def fists(ahead: float) -> list[Reach]:
        places: dict[Side, Own] = {"left": Own("neck", (0.12, 0.02, ahead)), "right": Own("neck", (0.10, 0.0, 0.20))}
        return [Reach(side, place, 1.0, down) for side, place in places.items()]

    straight = Reach("right", Spot("spine3", (0.0, 0.0, 1.0)), punch, (1.0, -0.4, 0.0))
    pushed_left = Reach("left", Spot("spine3", (-0.5, 0.1, 1.0)), push, down)
    pushed_right = Reach("right", Spot("spine3", (0.5, 0.1, 1.0)), push, down)
    roles = (Role(first, [*fists(0.26), straight]), Role(second, [*fists(0.24), pushed_left, pushed_right]))
    return Duet(axis=40.0 * time, gap=0.98 - 0.20 * punch - 0.30 * push + 0.12 * kick, roles=roles)


CHOREOGRAPHIES = {"waltz": _waltz, "swing": _swing, "twirl": _twirl, "hug": _hug, "boxing": _boxing}
