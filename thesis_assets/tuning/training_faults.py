"""Errors of a training step: each names the step and the samples, and says that the last checkpoint is intact."""

from collections.abc import Sequence
from typing import TypeVar

from thesis_assets.errors import DiskFull, InvalidFile, ThesisAssetsError
from thesis_assets.tuning.trainer_flags import TrainerFlags


class NotFinite(ThesisAssetsError):
    """The loss or a gradient is not a number: nothing after it can be trusted."""


class AnotherProcessFailed(ThesisAssetsError):
    """The cause is another process's to tell."""


def not_finite(what: str, step: int, sample_ids: Sequence[str]) -> NotFinite:
    """The error of a loss or gradient (`what`) that is not a number at `step`."""
    return NotFinite(
        f"the {what} is not finite at step {step}",
        found="samples " + ", ".join(sample_ids[:8]),
        remedy="look at these samples' images; else lower learning_rate or clip gradients (max_grad_norm), under another "
        "run name. The last checkpoint is intact",
    )


class OutOfMemory(ThesisAssetsError):
    """A step does not fit in the memory of its device."""


def out_of_memory(error: BaseException, step: int, flags: TrainerFlags) -> OutOfMemory:
    """The error of a step that found no memory."""
    return OutOfMemory(
        f"step {step} does not fit in memory",
        key="train_batch_size, resolution",
        found=f"{flags.train_batch_size} at {flags.resolution}: {_first_line(error)}",
        remedy="under another run name: halve train_batch_size and double gradient_accumulation_steps (the same batch), lower "
        "resolution, or set mixed_precision: bf16. The last checkpoint is intact",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


Fault = TypeVar("Fault", InvalidFile, DiskFull)


def at_step(error: Fault, step: int) -> Fault:
    """The error of a sample or a file, with the step it was wanted for."""
    return type(error)(
        f"{error.problem} (at step {step})",
        file=error.file,
        key=error.key,
        found=error.found,
        wanted=error.wanted,
        remedy=error.remedy,
    )
