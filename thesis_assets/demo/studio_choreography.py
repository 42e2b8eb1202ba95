"""What the two people of a scene do at a moment: waltz, swing, twirl, hug, boxing.

A choreography maps a time in [0, 1] to the stances of both. The first person stands at -x and looks to +x, the second
opposite, before the pair is turned as a whole. What the actions share stands in `studio_gestures`.
"""

from collections.abc import Callable

import numpy as np

from thesis_assets.demo.studio_gestures import (
    Degrees,
    along,
    arms_down,
    beside,
    bump,
    guard,
    meet,
    mirrored,
    open_arm,
    smooth,
    stance,
    steps,
)
from thesis_assets.demo.studio_motion import Own, Reach, Spot, Stance

Choreography = Callable[[float, float], tuple[Stance, Stance]]
"""(time in [0, 1], degrees by which the pair is turned) to the stances of the first and the second person."""

_BACK = (0.0, 0.0, -1.0)
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
    follow = stance(axis, gap / 2, turner, [
        meet("right", hand, axis, 1, held),
        Reach("left", Spot("spine3", (0.4, 0.5, 1.0)), closing, elbow=(1.0, -0.5, 0.0)),
        open_arm("left", (1 - closing) * 0.8), open_arm("right", begin),
    ], extra_heading=360.0 * turning)  # fmt: skip
    return (
        stance(axis, -gap / 2, lead, [
            meet("left", hand, axis, -1, held),
            Reach("right", Spot("spine2", (0.3, 0.0, -1.0)), closing, elbow=(-1.0, -0.2, 0.2)),
            open_arm("right", (1 - closing) * 0.7), open_arm("left", begin),
        ]),
        follow,
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
        return (
            arms_down()
            | walk
            | lean
            | {"neck": (4.0, 0.0, 14.0 * holding), "head": (6.0 * holding, 10.0 * holding, 10.0 * holding)}
        )

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
    first_back, second_back = push, punch
    first = guard(-14.0 * first_back + 16.0 * punch) | {"spine2": (4.0, 26.0 * punch, 0.0)}
    second = guard(-14.0 * second_back + 14.0 * push)
    second |= {"right_hip": (-22.0 - 66.0 * kick, 0.0, -4.0), "right_knee": (34.0 - 26.0 * kick, 0.0, 0.0)}
    second |= {"pelvis": (-18.0 * kick - 14.0 * second_back + 10.0 * push, 0.0, 0.0)}
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


CHOREOGRAPHIES: dict[str, Choreography] = {
    "waltz": waltz,
    "swing": swing,
    "twirl": twirl,
    "hug": hug,
    "boxing": boxing,
}
