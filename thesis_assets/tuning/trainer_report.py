"""What a running trainer tells: progress lines with time, rate and time left, and the tracker's curves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thesis_assets.schemas.tuning import ProgressLine
from thesis_assets.tuning.progress_file import ProgressWriter

if TYPE_CHECKING:
    from pathlib import Path

    from thesis_assets.tuning.trackers import RunTracker


class TrainerReport:
    """Writes the lines of one trainer process; its clock starts with it. Of several processes one speaks, but each tells why
    it failed."""

    def __init__(self, writer: ProgressWriter, max_steps: int, *, speaks: bool = True) -> None:
        self._writer, self._max_steps, self._speaks = writer, max_steps, speaks
        self._started = time.monotonic()
        self._updates = 0
        self._update_seconds = 0.0
        self.tracker: RunTracker | None = None
        self.step = 0
        """The step that is done, for messages that come from elsewhere."""

    def event(
        self,
        event: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
        picture: Path | None = None,
    ) -> None:
        """A line without the fields of a step. `picture`: for the tracker."""
        if not self._speaks:
            return
        url = self.tracker.url if self.tracker and event == "start" else None
        self._write({"event": event, "message": message, "metrics": dict(metrics or {}), "tracker_url": url})
        if metrics and self.tracker:
            self.tracker.log(metrics, self.step)
        if picture is not None and self.tracker:
            self.tracker.picture(picture.stem.rpartition("_")[0], picture, self.step)

    def failed(self, message: str) -> None:
        """The last line of a process that ends with an error."""
        # A full disk may be what failed; the message stands in stderr too.
        with contextlib.suppress(OSError):
            self._write({"event": "failed", "message": message})

    def close(self) -> None:
        """No line comes after this."""
        self._writer.close()

    def update(
        self, step: int, *, losses: Mapping[str, float], learning_rate: float, samples: int, seconds: float
    ) -> None:
        """The line of one finished step.

        Args:
            losses: the loss's parts, means over the step's samples; several ones become curves `loss_<name>` of their own.
            samples: how many the step saw, in all processes.
            seconds: how long it took; evaluations and saving are not in it.
        """
        self.step = step
        if not self._speaks:
            return
        self._updates += 1
        self._update_seconds += seconds
        per_update = self._update_seconds / self._updates
        loss = sum(losses.values())
        parts = {f"loss_{name}": value for name, value in losses.items()} if len(losses) > 1 else {}
        self._write(
            {
                "event": "step",
                "loss": loss,
                "metrics": parts,
                "learning_rate": learning_rate,
                "samples_per_second": samples / max(per_update, 1e-9),
                "seconds_left": (self._max_steps - step) * per_update,
            }
        )
        if self.tracker:
            self.tracker.log({"loss": loss, "learning_rate": learning_rate, **parts}, step)

    def _write(self, fields: dict[str, Any]) -> None:
        seconds = time.monotonic() - self._started
        line = {"step": self.step, "max_steps": self._max_steps, "seconds": round(seconds, 3), **fields}
        self._writer.write(ProgressLine.model_validate(line))
