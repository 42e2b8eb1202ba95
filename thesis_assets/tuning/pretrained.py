"""The backend `pretrained`: nothing is trained; a checkpoint, a run's or a published model becomes the run's step 0.

So that a baseline is a run like any other: selected, evaluated, recorded, on the leaderboard.
Does not belong here: the program that writes the checkpoint (`take_pretrained`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import SelectedCheckpoint, TrainConfig
from thesis_assets.storage import read_json, sha256_file
from thesis_assets.tuning.checkpoints import list_checkpoints
from thesis_assets.tuning.kept_settings import kept_settings, settings_in_file
from thesis_assets.tuning.launch_command import launch_environment
from thesis_assets.tuning.run_flags import PlainFlags
from thesis_assets.tuning.trainer_flags import parse_flags
from thesis_assets.tuning.trainer_start import TrainerStart

SETTINGS = (
    *(
        "model",
        "model_sha256",
        "pretrained_model_name_or_path",
        "resolution",
        "timestep",
        "mv_unet",
        "num_samples_eval",
    ),
    *("revision", "variant", "prompt", "cache_dir"),
)
N_EVALUATED = 48
TAKE_PRETRAINED = Path(__file__).with_name("take_pretrained.py")


@dataclass(frozen=True)
class Source:
    """Where the weights come from.

    Attributes:
        checkpoint: a `.pkl`; None where `model` is a diffusers directory or a Hub id.
        base_model: of a checkpoint that does not say: the one its run was started from.
    """

    model: str
    checkpoint: Path | None
    base_model: str | None = None


def pretrained_start(tree: DifixTree, run_name: str, run: RunSpec, device: str) -> TrainerStart:
    """See `trainer_start`.

    Raises:
        InvalidFile: the model is a path, and no checkpoint, run or directory is there.
    """
    assert run.model is not None  # the experiment file's rules say so
    run_tree = tree.tuning_run(run_name)
    further = parse_flags(["--dataset_path", "", "--output_dir", "", "--tracker_run_name", "", *run.extra_args])
    sha256, base = _digest_and_base(run.model, run_tree)
    settings = {
        "model": run.model,
        "model_sha256": sha256,
        # Of a checkpoint that does not say itself what it was tuned from.
        "pretrained_model_name_or_path": further.pretrained_model_name_or_path or base,
        **{name: _asked(run, name, is_checkpoint=sha256 is not None) for name in ("resolution", "timestep", "mv_unet")},
        "num_samples_eval": N_EVALUATED,
        **{name: getattr(further, name) for name in ("revision", "variant", "prompt", "cache_dir")},
    }
    assert tuple(settings) == SETTINGS
    notes = ["nothing is trained: the settings of a training have no effect"]
    command = [sys.executable, str(TAKE_PRETRAINED), str(run_tree.base.absolute())]
    settings = kept_settings(run_tree, settings, settings_in_file(run))
    return TrainerStart(PlainFlags(settings, run.seed), notes, command, launch_environment(device))


def _asked(run: RunSpec, name: str, *, is_checkpoint: bool) -> Any:
    """A setting; None where the run does not name it and a directory may say itself how it is to be used."""
    return getattr(run, name) if is_checkpoint or name in run.model_fields_set else None


def find_source(model: str) -> Source:
    """What `model` names: a `.pkl`, a tuning run's directory (its selected checkpoint, else its last), or a published model.

    Raises:
        InvalidFile: it is a path, and nothing of these is there.
    """
    path = Path(model).expanduser()
    if path.suffix == ".pkl" and path.is_file():
        return Source(model, path.absolute(), _base_of(TuningRunTree(path.absolute().parent.parent)))
    run = TuningRunTree(path.absolute())
    if run.checkpoints_dir.is_dir():
        return Source(model, _checkpoint_of(run), _base_of(run))
    looks_like_a_path = model.startswith((".", "/", "~")) or path.suffix == ".pkl"
    if not path.is_dir() and looks_like_a_path:
        raise InvalidFile(
            "there is nothing to take the weights from",
            file=path.absolute(),
            key="runs.<run_name>.model",
            wanted="a checkpoint (.pkl), the directory of a tuning run, a diffusers directory, or a Hub id",
        )
    return Source(model, None)


def _checkpoint_of(run: TuningRunTree) -> Path:
    if run.selected_checkpoint.is_file():
        return run.checkpoint(read_json(run.selected_checkpoint, SelectedCheckpoint).step)
    steps = list_checkpoints(run)
    if not steps:
        raise InvalidFile(
            "the run has no finished checkpoint to take", file=run.checkpoints_dir, key="runs.<run_name>.model"
        )
    return run.checkpoint(steps[-1])


def _base_of(run: TuningRunTree) -> str | None:
    if not run.train_config.is_file():
        return None
    base = read_json(run.train_config, TrainConfig).flags.get("pretrained_model_name_or_path")
    return base if isinstance(base, str) else None


def _digest_and_base(model: str, run_tree: TuningRunTree) -> tuple[str | None, str | None]:
    """The sha256 of the checkpoint that is taken, None for a published model; and its base model, where its run says one.

    What a finished run was made from may be gone since: then both are as its configuration has them.
    """
    try:
        source = find_source(model)
    except InvalidFile:
        if not run_tree.train_config.is_file():
            raise
        flags = read_json(run_tree.train_config, TrainConfig).flags
        if flags.get("model") != model:
            raise
        return flags.get("model_sha256"), flags.get("pretrained_model_name_or_path")
    return sha256_file(source.checkpoint) if source.checkpoint is not None else None, source.base_model
