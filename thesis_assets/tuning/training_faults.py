"""Errors of a training step: each names the step and the samples, and says that the last checkpoint is intact."""

from collections.abc import Sequence

from thesis_assets.errors import InvalidFile, ThesisAssetsError


class NotFinite(ThesisAssetsError):
    """The loss or a gradient is not a number: nothing after it can be trusted."""


def not_finite(what: str, step: int, sample_ids: Sequence[str]) -> NotFinite:
    """The error of a loss or gradient (`what`) that is not a number at `step`."""
    return NotFinite(
        f"the {what} is not finite at step {step}",
        found="samples " + ", ".join(sample_ids[:8]),
        remedy="look at these samples' images; else lower learning_rate or clip gradients (max_grad_norm), under another "
        "run name. The last checkpoint is intact",
    )


def at_step(error: InvalidFile, step: int) -> InvalidFile:
    """The error of an unreadable sample, with the step it was wanted for."""
    return InvalidFile(
        f"{error.problem} (at step {step})",
        file=error.file,
        key=error.key,
        found=error.found,
        wanted=error.wanted,
        remedy=error.remedy,
    )
