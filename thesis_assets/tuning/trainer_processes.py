"""What the processes of one training agree on: the first one decides, or any one of them does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator

Answer = TypeVar("Answer")


def from_first(accelerator: Accelerator, ask: Callable[[], Answer]) -> Answer:
    """The first process's answer, in every process."""
    from accelerate.utils import broadcast_object_list

    answers = [ask() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(answers)
    return answers[0]  # type: ignore[return-value]


def all_or_none(accelerator: Accelerator, wanted: bool) -> bool:
    """True in every process where it is true in any: a signal may reach one of them a step before the others."""
    if accelerator.num_processes == 1:
        return wanted
    import torch

    mark = torch.tensor(float(wanted), device=accelerator.device)
    return bool(accelerator.reduce(mark, reduction="sum") > 0)
