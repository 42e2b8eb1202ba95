"""The learning rate of a step, as a pure function: a resumed run needs no scheduler state but the step."""

import math

from thesis_assets.errors import NotBuiltYet

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
POLYNOMIAL_END = 1e-7
"""The rate that `polynomial` ends at, as in the published trainer's library."""


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


def learning_rate(
    peak: float, schedule: str, *, step: int, warmup_steps: int, max_steps: int, cycles: int = 1, power: float = 1.0
) -> float:
    """The rate that the update to `step` (counted from 1) is made with.

    All but `constant` rise linearly over the first `warmup_steps`; `linear`, `cosine` and `polynomial` then fall to nought (the
    last to `POLYNOMIAL_END`) at the end, `cosine_with_restarts` does so `cycles` times.
    """
    if schedule == "constant":
        return peak
    if step <= warmup_steps:
        return peak * step / warmup_steps
    passed = (step - 1 - warmup_steps) / max(1, max_steps - warmup_steps)
    if schedule == "linear":
        return peak * (1 - passed)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * passed))
    if schedule == "cosine_with_restarts":
        return peak * 0.5 * (1 + math.cos(math.pi * (cycles * passed % 1)))
    if schedule == "polynomial":
        end = min(POLYNOMIAL_END, peak)
        return end + (peak - end) * float((1 - passed) ** power)
    return peak
