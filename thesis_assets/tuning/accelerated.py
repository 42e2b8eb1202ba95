"""The accelerator of a training: its device, precision, processes; and what of the request it cannot give.

Does not belong here: the loop that uses it.
"""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from thesis_assets.errors import InvalidExperiment
from thesis_assets.layout import TuningRunTree
from thesis_assets.tuning.trainer_flags import TrainerFlags

WAIT = timedelta(hours=6)
"""How long processes wait for the first one, which evaluates and saves; torch's own 10 minutes are too short for a large test set."""


def make_accelerator(flags: TrainerFlags, tree: TuningRunTree, tracker: str) -> Accelerator:
    """The accelerator that the launch's environment and the flags describe.

    Raises:
        InvalidExperiment: other processes were started than asked for, or the precision cannot be had here.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = flags.allow_tf32
    try:
        accelerator = Accelerator(
            gradient_accumulation_steps=flags.gradient_accumulation_steps,
            mixed_precision=flags.mixed_precision,
            log_with=tracker if tracker != "none" else None,
            project_dir=str(tree.logs_dir),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=WAIT),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
    except ValueError as error:
        raise InvalidExperiment(
            "accelerate cannot train like this here",
            key="mixed_precision",
            found=f"{flags.mixed_precision}: {error}",
            remedy="set mixed_precision: no",
        ) from error
    if flags.num_processes not in (None, accelerator.num_processes):
        raise InvalidExperiment(
            "the training was started with another number of processes than it was asked for",
            key="num_processes",
            found=accelerator.num_processes,
            wanted=flags.num_processes,
            remedy="on a CPU start it by torchrun with ACCELERATE_USE_CPU=true (`accelerate launch --cpu` runs one process, "
            "whatever it is told); on GPUs by `accelerate launch --multi_gpu --num_processes`",
        )
    return accelerator


def precision_notes(accelerator: Accelerator, network: torch.nn.Module) -> list[str]:
    """Lines about a precision that is not what it seems, after keeping what is trained in full precision."""
    notes = []
    cuda = accelerator.device.type == "cuda"
    if accelerator.mixed_precision == "bf16" and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        notes.append("mixed_precision = bf16: this GPU only emulates it; no or fp16 is faster")
    low = {parameter.dtype for parameter in trained_parameters(network) if parameter.dtype != torch.float32}
    if low:
        for parameter in trained_parameters(network):
            parameter.data = parameter.data.float()
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in low))
        notes.append(
            f"trained parameters came in {names}: they are kept in float32 (the gradient scaler fails on float16, and small "
            "updates are lost in either)"
        )
    return notes


def trained_parameters(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Those with gradients, in the network's order."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
