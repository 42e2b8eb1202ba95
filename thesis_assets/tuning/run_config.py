"""The settings of a run: the flags of our trainers, as one value, and `train_config.json`, which keeps and locks those of any backend.

Our trainers have `TrainerFlags`, the published trainer's flags by their published names; a backend that runs another's program, or
nothing, has the values that it really uses. `train_config.json` is written before the launch: it puts a lock on the run's name, and
a run that is gone on with keeps what nobody sets now.
Does not belong here: what a flag does, and the `accelerate launch` before the script (`trainer_start`).
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, NoReturn, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from thesis_assets.errors import InvalidExperiment, InvalidFile, InvalidKey, NotBuiltYet, SnapshotChanged
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import CheckpointInfo, TrainConfig
from thesis_assets.splits.data_json import content_of_file, folder_of_configuration, former_folders
from thesis_assets.storage import read_json, sha256_value, write_json
from thesis_assets.tuning.checkpoints import list_checkpoints


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

    # Not published flags.
    mirror: bool = True
    """Half of all samples are shown mirrored left to right."""
    crop: int = 0
    """Windows of this side at full resolution, in place of resized images; 0: whole images."""
    lora_rank_unet: int = 0
    """Of adapters that are tuned in place of the whole U-Net; 0: the U-Net itself."""
    ema_decay: float = 0.0
    """Of the averaged weights, which are evaluated and handed off; 0: none."""
    channels_last: bool = False
    patience: int = 0
    """Evaluations without a better PSNR on `validation_groups` after which it ends; 0: at its last step."""
    validation_groups: str | None = None
    """Comma separated; None: whoever is tested is looked at, and nothing may be chosen by it."""
    keep_last: int = 0
    """Checkpoints that stay, beside those of `keep_steps`; 0: all."""
    keep_steps: str | None = None
    """Comma separated."""
    save_optimizer: bool = True
    """Each checkpoint holds what a run needs to go on; else the newest one alone, in a file of its own."""

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
                # One that is on by default has to be named to be off.
                off = [f"--no-{name}"] if DEFAULTS[name] else []
                arguments += [f"--{name}"] if value else off
            elif value is not None:
                arguments += [f"--{name}", str(value)]
        return arguments


DEFAULTS = {field.name: field.default for field in fields(TrainerFlags)}
NOT_HYPERPARAMETERS = (
    *("dataset_path", "output_dir", "resume", "dataloader_num_workers", "viz_freq", "cache_dir", "lpips_weights"),
    *("report_to", "tracker", "tracker_run_name", "tracker_project_name", "tracker_entity", "tracker_tags"),
    *("validation_groups", "keep_last", "keep_steps", "save_optimizer"),
)
LATER = ("mirror", "crop", "lora_rank_unet", "ema_decay", "channels_last", "patience")
"""What came after the first runs: by its default it does what was done before, and stands in no digest."""


def parse_flags(arguments: Sequence[str]) -> TrainerFlags:
    """Read a command line.

    Raises:
        InvalidExperiment: an unknown flag, a missing one, or a value of the wrong type.
    """
    parser = _Parser(prog="trainer", allow_abbrev=False)
    hints = get_type_hints(TrainerFlags)
    for field in fields(TrainerFlags):
        # Of `int | None` the parser is told the `int`.
        kind = next(one for one in get_args(hints[field.name]) or [hints[field.name]] if one is not NoneType)
        required = field.name in ("dataset_path", "output_dir", "tracker_run_name")
        if kind is bool:
            switch = argparse.BooleanOptionalAction if field.default else "store_true"
            parser.add_argument(f"--{field.name}", action=switch, default=field.default)
        else:
            parser.add_argument(
                f"--{field.name}", type=kind, required=required, default=None if required else field.default
            )
    flags = TrainerFlags(**vars(parser.parse_args(list(arguments))))
    _refuse_out_of_bounds(flags)
    return flags


def _refuse_out_of_bounds(flags: TrainerFlags) -> None:
    """Hold numbers to what the experiment's file may say: flags by hand, or of `extra_args`, have no other bounds."""
    for name, field in RunSpec.model_fields.items():
        value = getattr(flags, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            bounds: Any = Annotated[(type(value), *field.metadata)] if field.metadata else type(value)
            try:
                TypeAdapter(bounds).validate_python(value)
            except ValidationError as error:
                wanted = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise InvalidExperiment(
                    "a flag is out of bounds", key=f"--{name}", found=value, wanted=wanted, remedy="correct it"
                ) from error
    if re.fullmatch(r"(\d+(,\d+)*)?", flags.keep_steps or "") is None:
        raise InvalidExperiment(
            "a flag is out of bounds", key="--keep_steps", found=flags.keep_steps, wanted="steps, comma separated"
        )


SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")


def check_patience(flags: TrainerFlags) -> None:
    """Refuse, by `InvalidExperiment`, to end a run by the scores of people whom one reports on."""
    if flags.patience and flags.validation_groups is None:
        raise InvalidExperiment(
            "a run ends early by what it scores on validation groups, and there are none",
            key=f"runs.{flags.tracker_run_name}.patience",
            found=flags.patience,
            wanted="a test group that is not evaluated",
            remedy="hold out one group more and name it in selection.groups, or set patience: 0",
        )


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
    """The settings that the weights depend on, without those that do what was done before they came."""
    return {name: value for name, value in shaping(settings).items() if name not in LATER or value != DEFAULTS[name]}


def shaping(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the weights depend on."""
    return {name: value for name, value in settings.items() if name not in NOT_HYPERPARAMETERS}


_OF_THE_MODEL = ("pretrained_model_name_or_path", "base_model_id", "model_sha256")
"""Settings that the run's `model` says."""


_AS_THE_PLACE_HAS = frozenset({"mixed_precision", "num_processes"})
"""Not kept: what a CPU cannot do, and how many processes were started."""


def read_config(run_tree: TuningRunTree) -> TrainConfig:
    """A run's `train_config.json`.

    Raises:
        InvalidFile: it is missing or cannot be read; with what mends it.
    """
    try:
        return read_json(run_tree.train_config, TrainConfig)
    except InvalidFile as error:
        raise InvalidFile(
            error.problem,
            file=error.file,
            key=error.key,
            found=error.found,
            remedy="restore it from a copy; or remove it: `thesis-assets run` then writes it anew from what the run is, and trains "
            "nothing that is there",
        ) from error


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


def trained_resolution(run_tree: TuningRunTree, run: RunSpec) -> int:
    """The long side that a run was trained at, or is to be; 512 where only the weights themselves say."""
    side = kept_run(run_tree, run).resolution
    return 512 if side == "auto" else side


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
    config = read_config(run_tree)
    # Of an adopted run nobody knows what it was begun with.
    known = {} if config.is_adopted else shaping(config.flags)
    return {name: value for name, value in known.items() if name not in _AS_THE_PLACE_HAS}


def settings_in_file(run: RunSpec) -> set[str]:
    """The settings that the experiment's file sets, by the trainer's names."""
    names = run.model_fields_set | flags_in(run.extra_args)
    return names | set(_OF_THE_MODEL) if "model" in names else names


def flags_in(arguments: Sequence[str]) -> set[str]:
    """The names of a command line's flags."""
    return {word[2:].partition("=")[0].removeprefix("no-") for word in arguments if word.startswith("--")}


PACKAGES = ("thesis-assets", "torch", "accelerate", "numpy", "pillow", "diffusers", "transformers", "peft")


def make_config(
    tree: DifixTree,
    run_name: str,
    *,
    backend: str,
    flags: RunFlags,
    notes: Sequence[str],
    command: Sequence[str],
    device: str,
    data_json_sha256: str,
    manifest_sha256: Mapping[str, str],
    n_train: int,
    n_test: int,
) -> TrainConfig:
    """The configuration of a run on this snapshot, with the versions and the source revision of this installation."""
    return TrainConfig(
        exp_name=tree.exp_name,
        run_name=run_name,
        backend=backend,
        flags=flags.values(),
        hyperparameter_digest=flags.hyperparameter_digest(),
        launch_command=list(command),
        seed=flags.seed,
        device=device,
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        git_revision=_git_revision(),
        data_json=str(tree.data_json.absolute()),
        data_json_sha256=data_json_sha256,
        manifest_sha256=dict(manifest_sha256),
        n_train_samples=n_train,
        n_test_samples=n_test,
        notes=list(notes),
    )


def lock_config(tree: DifixTree, config: TrainConfig) -> TrainConfig:
    """Write the configuration, or refuse where the run's name has another one already. The first one is never overwritten.

    Returns:
        The one that is there now.

    Raises:
        SnapshotChanged: other data or other hyperparameters; the message has the differences.
    """
    run_tree = tree.tuning_run(config.run_name)
    if not run_tree.train_config.is_file():
        write_json(run_tree.train_config, config)
        return config
    present = read_config(run_tree)
    if present.is_adopted:
        raise SnapshotChanged(
            f"the run {config.run_name} was adopted: it cannot be gone on with, as not all that it was trained with is known",
            file=run_tree.train_config,
            remedy="give a run that trains another name under `runs`; `pretrained` with this one as its `model` takes its weights",
        )
    differences = _differences(present, config, same_data=is_trained_on(tree, present))
    if differences:
        steps = list_checkpoints(run_tree)
        raise SnapshotChanged(
            f"the run {config.run_name} is there already, on other data or with other hyperparameters",
            file=run_tree.train_config,
            key=", ".join(differences),
            found="; ".join(f"{key}: {there}" for key, (there, _) in differences.items()),
            wanted="; ".join(f"{key}: {asked}" for key, (_, asked) in differences.items()) + " (the experiment's file)",
            remedy=f"give the changed run another name under `runs` (this one has {len(steps)} checkpoints"
            + (
                "), or change it back" if steps else f"; remove {run_tree.base} if it is not wanted), or change it back"
            ),
        )
    return present


def is_trained_on(tree: DifixTree, config: TrainConfig) -> bool:
    """Whether the snapshot's data.json says what a run was trained on.

    The version before named it by its bytes, which hold the paths of where the snapshot lay then.
    """
    folders = chain([folder_of_configuration(config.data_json)], former_folders(tree))
    try:
        return content_of_file(tree.data_json).is_named(config.data_json_sha256, folders)
    except InvalidFile:
        return False


def snapshot_of(run_tree: TuningRunTree, data_json: Path) -> DifixTree | None:
    """The snapshot that both the run's folder and its data.json belong to."""
    try:
        tree = run_tree.snapshot
    except InvalidKey:
        return None
    return tree if (tree.data_json, tree.tuning_run(run_tree.base.name)) == (data_json.absolute(), run_tree) else None


def _differences(present: TrainConfig, wanted: TrainConfig, *, same_data: bool) -> dict[str, tuple[object, object]]:
    """What the weights depend on and differs: key to (there, asked for)."""
    pairs: dict[str, tuple[object, object]] = {"backend": (present.backend, wanted.backend)}
    if not same_data:
        pairs["data_json_sha256"] = (present.data_json_sha256, wanted.data_json_sha256)
    for name in shaping({**wanted.flags, **present.flags}):
        asked = wanted.flags.get(name)
        # What was done before a setting came, for configurations that do not know it: as with the trainer's default.
        pairs[name] = (present.flags.get(name, DEFAULTS.get(name, asked)), asked)
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_revision() -> str | None:
    """The source's commit, with `-dirty` where files differ from it; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


@dataclass(frozen=True)
class RunIdentity:
    """What the weights depend on, as digests.

    Attributes:
        is_same_data: whether another digest, of the version before, names the same data.
    """

    data_json_sha256: str
    hyperparameter_digest: str
    is_same_data: Callable[[str], bool] = lambda sha256: False

    def refuse_another(self, tree: TuningRunTree, info: CheckpointInfo) -> None:
        """Refuse, by `SnapshotChanged`, to go on from a checkpoint of other data or hyperparameters."""
        for key in ("data_json_sha256", "hyperparameter_digest"):
            found, wanted = getattr(self, key), getattr(info, key)
            if found != wanted and not (key == "data_json_sha256" and self.is_same_data(wanted)):
                raise SnapshotChanged(
                    "the run's checkpoints were trained on other data or with other hyperparameters",
                    file=tree.checkpoint_info(info.step),
                    key=key,
                    found=found,
                    wanted=wanted,
                    remedy="train under another run name; a finished run is never changed",
                )
