"""The learning rate of a step, as a pure function: a resumed run needs no scheduler state but the step."""

import math

from thesis_assets.errors import NotBuiltYet

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")


def check_schedule(name: str) -> None:
    """Refuse a schedule that is not there.

    Raises:
        NotBuiltYet: it is another one than `SCHEDULES`.
    """
    if name not in SCHEDULES:
        raise NotBuiltYet(
            "this learning-rate schedule is not there in this version",
            key="lr_scheduler",
            found=name,
            wanted=", ".join(SCHEDULES),
            remedy="choose one of those",
        )


def learning_rate(peak: float, schedule: str, *, step: int, warmup_steps: int, max_steps: int) -> float:
    """The rate that the update to `step` (counted from 1) is made with.

    All but `constant` rise linearly over the first `warmup_steps`; `linear` and `cosine` then fall to nought at the end.
    """
    if schedule == "constant":
        return peak
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if schedule == "constant_with_warmup":
        return peak
    passed = (step - 1 - warmup_steps) / max(1, max_steps - warmup_steps)
    return peak * (1 - passed if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * passed)))
