"""Trackers of curves beside the progress file: which one can be used here, and starting it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from thesis_assets.tuning.trainer_flags import TrainerFlags

if TYPE_CHECKING:
    from accelerate import Accelerator


def usable_tracker(kind: str) -> tuple[str, str | None]:
    """`kind`, or `none` with a note where the tracker's package is not installed: curves never stop a training."""
    if kind != "none" and find_spec(kind) is None:
        return "none", f"tracker {kind}: its package is not installed, so curves stand in logs/progress.jsonl only"
    return kind, None


def start_tracker(accelerator: Accelerator, flags: TrainerFlags) -> None:
    """Start the accelerator's tracker with the run's name and hyperparameters."""
    if flags.report_to == "none":
        return
    wandb: dict[str, Any] = {"name": flags.tracker_run_name, "dir": str(accelerator.project_dir)}
    if flags.tracker_entity:
        wandb["entity"] = flags.tracker_entity
    if flags.tracker_tags:
        wandb["tags"] = flags.tracker_tags.split(",")
    config = {name: "" if value is None else value for name, value in flags.hyperparameters().items()}
    accelerator.init_trackers(
        flags.tracker_project_name, config=config, init_kwargs={"wandb": wandb} if flags.report_to == "wandb" else {}
    )
