"""The trainers of this package by the name of their backend. Light: torch is imported when a model is built.

Does not belong here: what a trainer does; backends that run another's program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.tuning.run_config import TrainerFlags

if TYPE_CHECKING:
    from thesis_assets.tuning.trained_model import TrainedModel


@dataclass(frozen=True)
class Backend:
    """One of our trainers.

    Attributes:
        script: the program that `accelerate launch` starts.
        build: flags to the model, on the CPU and with random weights drawn from torch's generator.
        unused: flags that do nothing here, and why.
        check: asked before the launch, where the network is: refuses what cannot be trained, and returns notes on what will be.
    """

    name: str
    script: Path
    build: Callable[[TrainerFlags], TrainedModel]
    unused: Mapping[str, str]
    check: Callable[[TrainerFlags], list[str]] = lambda flags: []

    def notes_on_unused(self, flags: TrainerFlags) -> list[str]:
        """One line for each flag that is set to something and does nothing."""
        values = asdict(flags)
        unused = {**self.unused, **_idle(flags)}
        return [f"{name} = {values[name]}: no effect, {why}" for name, why in unused.items() if values[name]]


def _idle(flags: TrainerFlags) -> dict[str, str]:
    """Flags that others make meaningless, and why."""
    restarts, polynomial = flags.lr_scheduler == "cosine_with_restarts", flags.lr_scheduler == "polynomial"
    found = {}
    if flags.lr_num_cycles != TrainerFlags.lr_num_cycles and not restarts:
        found["lr_num_cycles"] = f"lr_scheduler {flags.lr_scheduler} has no cycles"
    if flags.lr_power != TrainerFlags.lr_power and not polynomial:
        found["lr_power"] = f"lr_scheduler {flags.lr_scheduler} has no power"
    if flags.lr_warmup_steps != TrainerFlags.lr_warmup_steps and flags.lr_scheduler == "constant":
        found["lr_warmup_steps"] = "lr_scheduler constant has no warm-up"
    if flags.report_to != "wandb":
        found |= dict.fromkeys(("tracker_entity", "tracker_tags"), "wandb alone has it")
    return found


def _build_tiny(flags: TrainerFlags) -> TrainedModel:
    from thesis_assets.tuning.tiny_model import TinyTraining

    return TinyTraining(flags)


LOW_RATE_FOR_TINY = 2e-4


def _check_tiny(flags: TrainerFlags) -> list[str]:
    if 0 < flags.learning_rate < LOW_RATE_FOR_TINY:
        return [
            f"learning_rate = {flags.learning_rate:g}: right for fine-tuning; the tiny network is trained from nothing, and learns "
            "ten to a hundred times as fast with 2e-3"
        ]
    return []


_UNUSED_BY_ALL = {
    "viz_freq": "pictures are written at every evaluation (eval_freq)",
    "train_image_prep": "images are resized by `resolution`",
    "test_image_prep": "images are resized by `resolution`",
    "num_training_epochs": "max_train_steps ends the run",
    "set_grads_to_none": "gradients are always set to none",
}
_FROM_NOTHING = "the tiny network is trained from nothing"
TINY = Backend(
    name="tiny",
    script=Path(__file__).parent / "train_tiny.py",
    build=_build_tiny,
    unused={
        **_UNUSED_BY_ALL,
        "lambda_lpips": "the tiny backend's loss is the L2 term alone",
        "lambda_gram": "the tiny backend's loss is the L2 term alone",
        "gram_loss_warmup_steps": "the tiny backend has no Gram loss",
        "timestep": "the tiny backend does not diffuse",
        "mv_unet": "the tiny network always looks at the reference",
        "prompt": "the tiny network takes no text",
        "lora_rank_vae": "the tiny network has no VAE",
        "pretrained_model_name_or_path": _FROM_NOTHING,
        "base_model_id": _FROM_NOTHING,
        "revision": _FROM_NOTHING,
        "variant": _FROM_NOTHING,
        "tokenizer_name": "the tiny network takes no text",
        "cache_dir": "nothing is downloaded",
        "gradient_checkpointing": "the tiny network fits",
        "lora_rank_unet": "the tiny network is trained whole",
        "enable_xformers_memory_efficient_attention": "torch's own attention is used",
    },
    check=_check_tiny,
)


def _build_difix(flags: TrainerFlags) -> TrainedModel:
    from thesis_assets.tuning.difix.training import DifixTraining

    return DifixTraining(flags)


def _check_difix(flags: TrainerFlags) -> list[str]:
    from thesis_assets.tuning.difix.training import check_difix

    return check_difix(flags)


DIFIX = Backend(
    name="difix",
    script=Path(__file__).parent / "train_difix.py",
    build=_build_difix,
    unused={
        **_UNUSED_BY_ALL,
        "tokenizer_name": "the tokenizer is the base model's",
        "enable_xformers_memory_efficient_attention": "torch's own memory-efficient attention is always used",
    },
    check=_check_difix,
)

BACKENDS: dict[str, Backend] = {TINY.name: TINY, DIFIX.name: DIFIX}
