"""Whether a mean of paired differences is more than chance: intervals over scenes or frames, and the exact sign-flip test.

Pure arithmetic over numbers. Does not belong here: which frames or scenes may be paired (`leaderboard`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_SCENES = 6
"""From so many scenes on their differences are resampled; of fewer, resampling says little (two of five scenes are often the same)."""
RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95
MAX_FLIPPED = 16
"""Scenes up to which all 2^n signs are tried."""


@dataclass(frozen=True)
class PairedSummary:
    """The mean of paired differences and how sure it is.

    Attributes:
        low: lower end of the 95 % interval; None where there is none.
        over: what the interval was taken over. One over frames is too narrow for a claim about other scenes.
        sign_flip_p: two-sided exact p of the sign-flip test over scenes; None above `MAX_FLIPPED` scenes.
        above: scenes whose difference is positive.
    """

    mean: float
    low: float | None
    high: float | None
    over: Literal["scenes", "frames"] | None
    sign_flip_p: float | None
    above: int
    below: int


def summarise(by_scene: Sequence[Sequence[float]]) -> PairedSummary:
    """The mean over scenes of each scene's mean difference, with its interval.

    Args:
        by_scene: the paired differences of every frame, a sequence a scene; none empty.
    """
    means = [math.fsum(frames) / len(frames) for frames in by_scene]
    enough = len(means) >= MIN_SCENES
    interval = bootstrap_interval(means) if enough else frames_interval(by_scene)
    return PairedSummary(
        mean=math.fsum(means) / len(means),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        over=None if interval is None else "scenes" if enough else "frames",
        sign_flip_p=sign_flip_p(means) if len(means) <= MAX_FLIPPED else None,
        above=sum(mean > 0 for mean in means),
        below=sum(mean < 0 for mean in means),
    )


def bootstrap_interval(means: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over scenes, seeded: the expanded percentile interval.

    The plain percentile interval of n values is too narrow by sqrt((n-1)/n) and by the normal in place of Student's quantile;
    the expanded one takes quantiles further out by just that (Hesterberg 2015, The American Statistician 69, section 5.3).
    """
    import numpy as np
    from scipy.stats import norm, t

    n = len(means)
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf(0.5 + CONFIDENCE / 2, n - 1))
    resampled = _resample_weights(n) @ np.asarray(means, np.float64)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


@cache
def _resample_weights(n: int) -> NDArray[np.float64]:
    """(RESAMPLES, n): the share of each scene in each resample."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def frames_interval(by_scene: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % normal interval of the mean over these scenes alone, frames taken as independent; None where a scene has one frame."""
    if any(len(frames) < 2 for frames in by_scene):
        return None
    total = variance = 0.0
    for frames in by_scene:
        n, mean = len(frames), math.fsum(frames) / len(frames)
        total += mean
        variance += math.fsum((value - mean) ** 2 for value in frames) / (n - 1) / n
    mean, half = total / len(by_scene), 1.959964 * math.sqrt(variance) / len(by_scene)
    return mean - half, mean + half


def sign_flip_p(means: Sequence[float]) -> float:
    """Exact two-sided p: the share of all 2^n sign patterns whose mean is at least as far from zero as the observed one.

    With n scenes it is never below 2 / 2^n: five scenes cannot reach 0.05.
    """
    import numpy as np

    values = np.asarray(means, np.float64)
    patterns = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
    sums = np.abs((1 - 2 * patterns) @ values)
    observed = abs(math.fsum(means))
    return float(np.mean(sums >= observed - 1e-12 * max(1.0, observed)))
