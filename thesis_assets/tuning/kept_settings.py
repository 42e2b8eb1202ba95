"""Settings to go on with a run that was begun: what nobody sets now is as it was begun with, whatever the default is today."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.run_flags import hyperparameters
from thesis_assets.tuning.trainer_flags import TrainerFlags

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


def before(name: str, asked: object) -> object:
    """What was done before a setting came, for configurations that do not know it: as with the trainer's default."""
    return next((field.default for field in fields(TrainerFlags) if field.name == name), asked)
