"""Progress lines of an export: count, rate, time left; at most one every few seconds."""

import time
from collections.abc import Callable


class ExportProgress:
    """Counts triplets and says so now and then.

    Args:
        on_progress: gets the lines; None: nobody listens.
        every: seconds between two lines.
    """

    def __init__(
        self, scene_name: str, total: int, on_progress: Callable[[str], None] | None, every: float = 5.0
    ) -> None:
        self._scene_name = scene_name
        self._total = total
        self._on_progress = on_progress
        self._every = every
        self._kept = 0
        self._started = self._said = time.monotonic()

    def say(self, line: str) -> None:
        """Pass a line of another's on."""
        if self._on_progress is not None:
            self._on_progress(line)

    def keep(self, n: int) -> None:
        """`n` triplets were there already; they do not count in the rate."""
        self._kept = n
        if n and self._on_progress is not None:
            self._on_progress(f"{self._scene_name}: {n} of {self._total} triplets are there already")

    def at(self, n_finished: int) -> None:
        """`n_finished` triplets were made or dropped since the start."""
        now = time.monotonic()
        if self._on_progress is None or now - self._said < self._every:
            return
        self._said = now
        rate = n_finished / (now - self._started)
        done = self._kept + n_finished
        left = f", {(self._total - done) / rate:.0f} s left" if rate > 0 else ""
        self._on_progress(f"{self._scene_name}: {done} of {self._total} triplets, {rate:.1f}/s{left}")
