"""The program of the `pretrained` backend: weights that are there already become the checkpoint of step 0, and are evaluated.

python take_pretrained.py <run directory>

What it takes stands in the run's `train_config.json`. It tells its progress as a trainer does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import full_disk_explained, read_json, sha256_file
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.pretrained import Source, find_source
from thesis_assets.tuning.progress_file import ProgressWriter
from thesis_assets.tuning.saved_evaluation import evaluate_saved
from thesis_assets.tuning.stop_signals import stop_on_signals
from thesis_assets.tuning.trainer_report import TrainerReport

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
        state = _published_model(config, source.model)
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


def _published_model(config: TrainConfig, model: str) -> dict[str, Any]:
    from thesis_assets.tuning.difix.published_state import state_of_model

    names = ("timestep", "mv_unet", "prompt", "resolution", "revision", "variant", "cache_dir")
    return state_of_model(model, **{name: config.flags[name] for name in names})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
