"""Trackers of curves beside the progress file: TensorBoard and Weights & Biases. Curves never stop a training.

Credentials and addresses are the tracker's own business: its variables (`WANDB_*`) reach the trainer as they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.storage import sha256_value
from thesis_assets.tuning.trainer_flags import TrainerFlags

if TYPE_CHECKING:
    from accelerate import Accelerator


def usable_tracker(kind: str) -> tuple[str, str | None]:
    """`kind`, or `none` with a note where the tracker's package is not installed."""
    if kind != "none" and find_spec(kind) is None:
        return "none", f"tracker {kind}: its package is not installed, so curves stand in logs/progress.jsonl only"
    return kind, None


class RunTracker:
    """The accelerator's tracker under the run's name. Where it fails, it is told once and left alone.

    Args:
        kind: `tensorboard` or `wandb`, one that `usable_tracker` gave.
        step: that the run goes on from: later points of an earlier attempt are replaced.
    """

    def __init__(self, accelerator: Accelerator, flags: TrainerFlags, kind: str, step: int) -> None:
        self._accelerator, self._kind = accelerator, kind
        self.failure: str | None = None
        config = {name: "" if value is None else value for name, value in flags.hyperparameters().items()}
        options = _wandb_options(flags, str(accelerator.project_dir)) if kind == "wandb" else {"purge_step": step + 1}
        self._safely(
            lambda: accelerator.init_trackers(flags.tracker_project_name, config=config, init_kwargs={kind: options})
        )

    @property
    def url(self) -> str | None:
        """Where the run is looked at; None for a tracker without an address."""
        found: list[str] = []
        if self._kind == "wandb" and self._accelerator.is_main_process:
            self._safely(lambda: found.append(self._accelerator.get_tracker("wandb").run.url))
        return found[0] if found else None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves."""
        self._safely(lambda: self._accelerator.log(dict(values), step=step))

    def picture(self, name: str, path: Path, step: int) -> None:
        """An image file."""
        self._safely(lambda: self._log_picture(name, path, step))

    def finish(self) -> None:
        """Send what is left."""
        self._safely(lambda: [tracker.finish() for tracker in self._accelerator.trackers])
        self._accelerator.trackers = []

    def _log_picture(self, name: str, path: Path, step: int) -> None:
        from thesis_assets.images.codecs import read_rgb

        options = {"dataformats": "NHWC"} if self._kind == "tensorboard" else {}
        self._accelerator.get_tracker(self._kind).log_images({name: read_rgb(path)[None]}, step=step, **options)

    def _safely(self, act: Callable[[], Any]) -> None:
        if self.failure is not None:
            return
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a tracker's service answers, the training goes on
            self.failure = f"tracker {self._kind} failed, so curves stand in logs/progress.jsonl only: {error}"
            self._accelerator.trackers = []
            sys.stderr.write(self.failure + "\n")


def _wandb_options(flags: TrainerFlags, directory: str) -> dict[str, Any]:
    options: dict[str, Any] = {"name": flags.tracker_run_name, "dir": directory}
    if "WANDB_RUN_ID" not in os.environ:
        # The same on every attempt: a run that is resumed goes on in its own curves.
        options |= {"id": sha256_value([flags.tracker_run_name, flags.output_dir])[:16], "resume": "allow"}
    if flags.tracker_entity:
        options["entity"] = flags.tracker_entity
    if flags.tracker_tags:
        options["tags"] = flags.tracker_tags.split(",")
    return options
