"""The backend `pretrained`: nothing is trained; a checkpoint, a run's or a published model becomes the run's step 0.

So that a baseline is a run like any other: selected, evaluated, recorded, on the leaderboard. This is where its weights come from,
and the program that writes and evaluates the checkpoint:

python take_pretrained.py <run directory>

What it takes stands in the run's `train_config.json`. It tells its progress as a trainer does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import SelectedCheckpoint, TrainConfig
from thesis_assets.storage import full_disk_explained, read_json, sha256_file
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.progress_file import ProgressWriter, TrainerReport, stop_on_signals
from thesis_assets.tuning.scoring import evaluate_saved

STEP = 0


def main(run_directory: str) -> int:
    """Take the weights. Returns the exit status."""
    tree = TuningRunTree(Path(run_directory).absolute())
    report = TrainerReport(ProgressWriter(tree.progress), STEP)
    with stop_on_signals() as stop:
        try:
            with full_disk_explained(tree.base):
                _take(tree, read_json(tree.train_config, TrainConfig), report)
        except ThesisAssetsError as error:
            report.failed(str(error))
            sys.stderr.write(f"take_pretrained: {error}\n")
            return 1
        report.event("stopped" if stop else "done", f"asked by {stop.signal_name}" if stop else "")
    return 0


def _take(tree: TuningRunTree, config: TrainConfig, report: TrainerReport) -> None:
    source = find_source(config.flags["model"])
    report.event("start", f"weights of {source.checkpoint or source.model}; nothing is trained")
    if STEP not in checkpoints.list_checkpoints(tree):
        _save(tree, config, source)
        report.event("checkpoint", tree.checkpoint(STEP).name)
    evaluate_saved(tree, config, STEP, report)


def _save(tree: TuningRunTree, config: TrainConfig, source: Source) -> None:
    if source.checkpoint is not None:
        wanted = config.flags["model_sha256"]
        if (found := sha256_file(source.checkpoint)) != wanted:
            raise InvalidFile(
                "the checkpoint changed since the run was started",
                file=source.checkpoint,
                found=found,
                wanted=wanted,
                remedy="put it back, or take the new one under another run name",
            )
        state = without_training(checkpoints.load_checkpoint(source.checkpoint))
    else:
        from thesis_assets.tuning.difix.checkpoint import state_of_model

        names = ("timestep", "mv_unet", "prompt", "resolution", "revision", "variant", "cache_dir")
        state = state_of_model(source.model, **{name: config.flags[name] for name in names})
    checkpoints.save_checkpoint(
        tree,
        {**state, "step": STEP},
        metrics={},
        data_json_sha256=config.data_json_sha256,
        hyperparameter_digest=config.hyperparameter_digest,
    )


def without_training(state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's weights, without what only a run that goes on needs."""
    # The published code reads `optimizer` from every file of its key set.
    published = set(state) >= set(checkpoints.PUBLISHED_KEYS)
    dropped = {*checkpoints.RESUME_KEYS, "scaler"} - ({"optimizer"} if published else set())
    return {name: value for name, value in state.items() if name not in dropped}


@dataclass(frozen=True)
class Source:
    """Where the weights come from.

    Attributes:
        checkpoint: a `.pkl`; None where `model` is a diffusers directory or a Hub id.
        flags: of the run that the checkpoint lies in, for what it does not say itself.
    """

    model: str
    checkpoint: Path | None
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def base_model(self) -> str | None:
        """Of a checkpoint that does not say: the one its run was started from."""
        return base_model_in(self.flags)


def find_source(model: str) -> Source:
    """What `model` names: a `.pkl`, a tuning run's directory (its selected checkpoint, else its last), or a published model.

    Raises:
        InvalidFile: it is a path, and nothing of these is there.
    """
    path = Path(model).expanduser()
    if path.suffix == ".pkl" and path.is_file():
        return Source(model, path.absolute(), _flags_of(TuningRunTree(path.absolute().parent.parent)))
    run = TuningRunTree(path.absolute())
    if run.checkpoints_dir.is_dir():
        return Source(model, _checkpoint_of(run), _flags_of(run))
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
        step = read_json(run.selected_checkpoint, SelectedCheckpoint).step
        return checkpoints.handed_off(run, step).checkpoint(step)
    steps = checkpoints.list_checkpoints(run)
    if not steps:
        raise InvalidFile(
            "the run has no finished checkpoint to take", file=run.checkpoints_dir, key="runs.<run_name>.model"
        )
    return checkpoints.handed_off(run, steps[-1]).checkpoint(steps[-1])


def _flags_of(run: TuningRunTree) -> Mapping[str, Any]:
    return read_json(run.train_config, TrainConfig).flags if run.train_config.is_file() else {}


def base_model_in(flags: Mapping[str, Any]) -> str | None:
    """The base model that a run's flags name."""
    base = flags.get("pretrained_model_name_or_path") or flags.get("base_model_id")
    return base if isinstance(base, str) else None


def digest_and_flags(model: str, run_tree: TuningRunTree) -> tuple[str | None, Mapping[str, Any]]:
    """The sha256 of the checkpoint that is taken, None for a published model; and the flags of the run that it lies in, if it does.

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
        return flags.get("model_sha256"), flags
    return sha256_file(source.checkpoint) if source.checkpoint is not None else None, source.flags


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
