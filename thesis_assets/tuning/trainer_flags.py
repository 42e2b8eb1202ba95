"""The settings of a run: the flags of our trainers, as one value, and how `train_config.json` keeps those of any backend.

Our trainers have `TrainerFlags`, the published trainer's flags by their published names; a backend that runs another's program, or
nothing, has the values that it really uses. A run that is gone on with keeps what nobody sets now.
Does not belong here: what a flag does, and the `accelerate launch` before the script (`trainer_start`).
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import NoneType, UnionType
from typing import Any, NoReturn, get_args, get_type_hints

from thesis_assets.errors import InvalidExperiment, NotBuiltYet
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import read_json, sha256_value


@dataclass(frozen=True)
class TrainerFlags:
    """Every flag with its default. One that a backend has no use for is accepted all the same: one command line fits all."""

    dataset_path: str
    output_dir: str
    tracker_run_name: str

    learning_rate: float = 2e-5
    lr_scheduler: str = "cosine"
    """Not the published `constant`: over a few hundred steps a falling rate leaves much less noise on flat surfaces."""
    lr_warmup_steps: int = 20
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """0: no clipping."""

    max_train_steps: int = 10_000
    train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    num_processes: int | None = None
    """Not a published flag: how many processes there must be, since a launcher may start others. None: whatever is started."""
    resolution: int = 512
    seed: int = 42
    mixed_precision: str = "no"
    dataloader_num_workers: int = 0
    checkpointing_steps: int = 1000
    eval_freq: int = 1000
    num_samples_eval: int = 48
    resume: str | None = None

    lambda_l2: float = 1.0
    lambda_lpips: float = 1.0
    lambda_gram: float = 1.0
    gram_loss_warmup_steps: int = 2000

    report_to: str = "none"
    tracker_project_name: str = "difix"
    tracker_entity: str | None = None
    tracker_tags: str | None = None
    """Comma separated."""
    viz_freq: int = 100

    timestep: int = 199
    mv_unet: bool = False
    prompt: str | None = None
    lora_rank_vae: int = 4
    pretrained_model_name_or_path: str | None = None
    base_model_id: str | None = None
    revision: str | None = None
    variant: str | None = None
    tokenizer_name: str | None = None
    cache_dir: str | None = None
    train_image_prep: str | None = None
    test_image_prep: str | None = None
    num_training_epochs: int | None = None
    lr_num_cycles: int = 1
    lr_power: float = 1.0
    gradient_checkpointing: bool = False
    enable_xformers_memory_efficient_attention: bool = False
    lpips_weights: str | None = None
    """Not a published flag: the folder of the two files of LPIPS, for the losses; None looks into torch's hub cache."""
    set_grads_to_none: bool = False
    allow_tf32: bool = False

    def values(self) -> dict[str, Any]:
        """Every flag by its name."""
        return asdict(self)

    def hyperparameters(self) -> dict[str, Any]:
        """What the weights depend on, beside the data: equal for two runs of equal result. Places and reporting are not."""
        return hyperparameters(asdict(self))

    def samples_per_step(self) -> int:
        """Seen by one optimizer step, in all processes."""
        return self.train_batch_size * self.gradient_accumulation_steps * (self.num_processes or 1)

    def hyperparameter_digest(self) -> str:
        return sha256_value(self.hyperparameters())

    def as_arguments(self) -> list[str]:
        """The command line that `parse_flags` reads back to this value; flags at their default are written too."""
        arguments: list[str] = []
        for name, value in asdict(self).items():
            if isinstance(value, bool):
                arguments += [f"--{name}"] if value else []
            elif value is not None:
                arguments += [f"--{name}", str(value)]
        return arguments


NOT_HYPERPARAMETERS = (
    *("dataset_path", "output_dir", "resume", "dataloader_num_workers", "viz_freq", "cache_dir", "lpips_weights"),
    *("report_to", "tracker", "tracker_run_name", "tracker_project_name", "tracker_entity", "tracker_tags"),
)


def parse_flags(arguments: Sequence[str]) -> TrainerFlags:
    """Read a command line.

    Raises:
        InvalidExperiment: an unknown flag, a missing one, or a value of the wrong type.
    """
    parser = _Parser(prog="trainer", allow_abbrev=False)
    hints = get_type_hints(TrainerFlags)
    for field in fields(TrainerFlags):
        kind = _plain_type(hints[field.name])
        required = field.name in ("dataset_path", "output_dir", "tracker_run_name")
        if kind is bool:
            parser.add_argument(f"--{field.name}", action="store_true")
        else:
            parser.add_argument(
                f"--{field.name}", type=kind, required=required, default=None if required else field.default
            )
    return TrainerFlags(**vars(parser.parse_args(list(arguments))))


SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")


def check_schedule(name: str) -> None:
    """Refuse, by `NotBuiltYet`, a schedule that is not one of `SCHEDULES`."""
    if name not in SCHEDULES:
        raise NotBuiltYet(
            "this learning-rate schedule is not there in this version",
            key="lr_scheduler",
            found=name,
            wanted=", ".join(SCHEDULES),
            remedy="choose one of those",
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidExperiment(
            f"the trainer does not take these flags: {message}",
            key="runs.<run_name>.extra_args",
            remedy="correct extra_args: the trainer's flags are those of the published script",
        )


def _plain_type(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


@dataclass(frozen=True)
class PlainFlags:
    """Settings that are no `TrainerFlags`."""

    settings: Mapping[str, Any]
    seed: int

    def values(self) -> dict[str, Any]:
        return dict(self.settings)

    def hyperparameter_digest(self) -> str:
        return sha256_value(hyperparameters(self.settings))


RunFlags = TrainerFlags | PlainFlags
"""Settings by name, and which of them the weights depend on, beside the data."""


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the weights depend on."""
    return {name: value for name, value in settings.items() if name not in NOT_HYPERPARAMETERS}


_OF_THE_MODEL = ("pretrained_model_name_or_path", "base_model_id", "model_sha256")
"""Settings that the run's `model` says."""


_AS_THE_PLACE_HAS = frozenset({"mixed_precision", "num_processes"})
"""Not kept: what a CPU cannot do, and how many processes were started."""


def kept_run(run_tree: TuningRunTree, run: RunSpec) -> RunSpec:
    """The run with the values that it was begun with, where the experiment's file sets none.

    Raises:
        InvalidFile: the run has a `train_config.json` that cannot be read.
    """
    then = _hyperparameters_of_then(run_tree)
    kept = {
        name: then[name]
        for name in RunSpec.model_fields
        if name not in run.model_fields_set and then.get(name) is not None and name not in ("model", "extra_args")
    }
    return RunSpec.model_construct(_fields_set=set(run.model_fields_set), **{**run.__dict__, **kept})


def kept_settings(run_tree: TuningRunTree, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The settings, with the recorded value of each hyperparameter that is not `given`.

    Raises:
        InvalidFile: the run has a `train_config.json` that cannot be read.
    """
    then = _hyperparameters_of_then(run_tree)
    return {name: then[name] if name in then and name not in given else value for name, value in settings.items()}


def _hyperparameters_of_then(run_tree: TuningRunTree) -> dict[str, Any]:
    if not run_tree.train_config.is_file():
        return {}
    config = read_json(run_tree.train_config, TrainConfig)
    # Of an adopted run nobody knows what it was begun with.
    known = {} if config.is_adopted else hyperparameters(config.flags)
    return {name: value for name, value in known.items() if name not in _AS_THE_PLACE_HAS}


def settings_in_file(run: RunSpec) -> set[str]:
    """The settings that the experiment's file sets, by the trainer's names."""
    names = run.model_fields_set | flags_in(run.extra_args)
    return names | set(_OF_THE_MODEL) if "model" in names else names


def flags_in(arguments: Sequence[str]) -> set[str]:
    """The names of a command line's flags."""
    return {word[2:].partition("=")[0] for word in arguments if word.startswith("--")}
