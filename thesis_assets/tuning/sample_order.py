"""The order in which training samples are seen: a seeded permutation an epoch, known for every step without a history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Draw:
    """One sample as it is shown: which, and whether mirrored left to right (render, target and reference alike)."""

    index: int
    mirrored: bool


@dataclass(frozen=True)
class SampleOrder:
    """A pure function of `seed` and the count of samples seen, so that a resumed run goes on where the first one was."""

    n_samples: int
    seed: int

    def draw(self, count: int) -> Draw:
        """The sample that is seen after `count` others. Every sample stands once in each epoch; batches cross epochs."""
        epoch, place = divmod(count, self.n_samples)
        order, mirrored = _epoch(self.n_samples, self.seed, epoch)
        return Draw(int(order[place]), bool(mirrored[place]))

    def batches(self, first: int, last: int, size: int) -> Iterator[list[Draw]]:
        """Batches of `size` draws, from sample count `first` up to `last`."""
        for start in range(first, last, size):
            yield [self.draw(count) for count in range(start, start + size)]


@lru_cache(maxsize=4)
def _epoch(n_samples: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    random = np.random.default_rng([seed, epoch])
    return random.permutation(n_samples), random.random(n_samples) < 0.5
