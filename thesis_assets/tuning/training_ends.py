"""How a training ends before its last step: a signal asks it to, or an error that names step and samples.

SIGTERM and SIGUSR2 set a mark that the training loop reads after each step: Slurm sends its warning signal to every process of a
step, and a process that is not prepared for it dies of it. Light: read before torch is imported.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from thesis_assets.errors import DiskFull, InvalidFile, ThesisAssetsError
from thesis_assets.tuning.trainer_flags import TrainerFlags

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopRequest:
    """Which signal asked, if any did."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listen while the block runs; the earlier handlers are put back."""
    request = StopRequest()
    earlier = {number: signal.signal(number, request._note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


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
