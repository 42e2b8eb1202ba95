"""How sure a mean of paired differences is: an interval over scenes, one within scenes, and the exact sign-flip test.

What they promise is held by a simulation (`test_difference_statistics`), whose table stands in docs/read_the_results.md.
Does not belong here: which rows may be paired (`leaderboard`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
BLOCK_FRAMES = 25
"""About a second of video: what happens in one frame of a camera is still seen in the next ones, and counts once."""
MIN_CLUSTERS = 5


@dataclass(frozen=True)
class PairedSummary:
    """The mean of paired differences and how sure it is.

    Attributes:
        difference: None where nothing is paired.
        low: lower end of the 95 % interval; None where there is none.
        interval_over: `frames`, within these scenes: it makes no claim about other scenes.
        sign_flip_p: two-sided exact p of the sign-flip test over scenes; None above `MAX_FLIPPED` scenes.
        scenes_above: whose difference is positive.
    """

    difference: float | None = None
    low: float | None = None
    high: float | None = None
    interval_over: Literal["scenes", "frames"] | None = None
    sign_flip_p: float | None = None
    scenes_above: int = 0
    scenes_below: int = 0


def summarise(by_scene: Sequence[Mapping[str, float]]) -> PairedSummary:
    """The mean over scenes of each scene's mean difference, with its interval.

    Args:
        by_scene: the paired differences of every frame by its row's name (`cam_4/000003`, `000003`), a mapping a scene; none empty.
    """
    means = [math.fsum(frames.values()) / len(frames) for frames in by_scene]
    enough = len(means) >= MIN_SCENES
    interval = bootstrap_interval(means) if enough else interval_within(by_scene)
    return PairedSummary(
        difference=math.fsum(means) / len(means),
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        interval_over=None if interval is None else "scenes" if enough else "frames",
        sign_flip_p=sign_flip_p(means) if len(means) <= MAX_FLIPPED else None,
        scenes_above=sum(mean > 0 for mean in means),
        scenes_below=sum(mean < 0 for mean in means),
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


def interval_within(by_scene: Sequence[Mapping[str, float]]) -> tuple[float, float] | None:
    """95 % interval of the mean over these scenes alone, by what differs between a camera's blocks of time.

    Frames of a block are taken as one: the variance is that of the blocks' sums (the cluster-robust one of a mean), with Student's
    quantile at Satterthwaite's degrees of freedom.

    Returns:
        None below `MIN_CLUSTERS` blocks, or where a scene has only one.
    """
    from scipy.stats import t

    clusters = [_clusters(frames) for frames in by_scene]
    if sum(map(len, clusters)) < MIN_CLUSTERS or min(map(len, clusters)) < 2:
        return None
    means, variances, freedom = [], [], 0.0
    for of_scene in clusters:
        n = sum(map(len, of_scene))
        mean = math.fsum(value for block in of_scene for value in block) / n
        sums = [math.fsum(value - mean for value in block) / n for block in of_scene]
        variance = math.fsum(each**2 for each in sums) * len(sums) / (len(sums) - 1)
        means.append(mean)
        variances.append(variance)
        freedom += variance**2 / (len(sums) - 1)
    mean, total = math.fsum(means) / len(means), math.fsum(variances)
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, total**2 / freedom)) if total > 0 else 0.0
    half = quantile * math.sqrt(total) / len(means)
    return mean - half, mean + half


def _clusters(frames: Mapping[str, float]) -> list[list[float]]:
    """The differences of one scene, those of a camera's block of time together."""
    found: dict[tuple[str, int], list[float]] = {}
    for name, value in frames.items():
        camera, _, fname = name.rpartition("/")
        found.setdefault((camera, int(fname) // BLOCK_FRAMES), []).append(value)
    return list(found.values())


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
