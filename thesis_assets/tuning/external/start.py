"""What a run of the backend `external` starts, and its settings, by the published trainer's names.

Does not belong here: how the script is started and followed (`run_external`, which the job runs).
"""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.spec import External, RunSpec
from thesis_assets.layout import DifixTree
from thesis_assets.storage import to_json_bytes
from thesis_assets.tuning.kept_settings import kept_settings, settings_in_file
from thesis_assets.tuning.run_flags import PlainFlags
from thesis_assets.tuning.trainer_start import TrainerStart

RUN_EXTERNAL = Path(__file__).with_name("run_external.py")
PUBLISHED_LONG_SIDE = 1024
"""The published script trains at 576x1024, whatever `--resolution` says."""

SCRIPT_FLAGS = (
    *("dataset_path", "output_dir", "tracker_project_name", "tracker_run_name", "tracker_entity", "report_to"),
    *("max_train_steps", "num_training_epochs", "checkpointing_steps", "eval_freq", "viz_freq", "resolution"),
    *("learning_rate", "train_batch_size", "gradient_accumulation_steps", "dataloader_num_workers", "max_grad_norm"),
    *("mixed_precision", "lambda_lpips", "lambda_l2", "lambda_gram", "gram_loss_warmup_steps", "timestep", "mv_unet"),
    *("seed", "base_model_id", "pretrained_model_name_or_path"),
)
"""Passed to the script, each where its `--help` lists it; what is not among them is left to its own defaults."""
SETTINGS = (*SCRIPT_FLAGS, "num_processes", "num_samples_eval", "extra_args", "tracker")


def external_start(tree: DifixTree, run_name: str, run: RunSpec, device: str, n_train: int) -> TrainerStart:
    """See `trainer_start`.

    Args:
        n_train: training samples.
    """
    assert run.external is not None  # the experiment file's rules say so
    external = run.external.model_copy(update={"script": str(_script(run.external))})
    run_directory = str(tree.tuning_run(run_name).base.absolute())
    settings, notes = external_settings(tree, run_name, run, device, n_train)
    # The environment in the command, not in the locked configuration: a corrected interpreter is no other training.
    words = to_json_bytes(external.model_dump(mode="json"), indent=False).decode().strip()
    command = [sys.executable, str(RUN_EXTERNAL), run_directory, words]
    check = partial(_check_script, Path(external.script))
    return TrainerStart(PlainFlags(settings, run.seed), notes, command, evaluates=False, check=check)


def external_settings(
    tree: DifixTree, run_name: str, run: RunSpec, device: str, n_train: int
) -> tuple[dict[str, Any], list[str]]:
    """The settings of `SETTINGS`, and notes on what the published script makes of them."""
    precision = "no" if device == "cpu" else run.mixed_precision
    asked = "resolution" in run.model_fields_set
    settings: dict[str, Any] = {
        **{name: getattr(run, name) for name in SETTINGS if name in RunSpec.model_fields},
        "dataset_path": str(tree.data_json.absolute()),
        "output_dir": str(tree.tuning_run(run_name).base.absolute()),
        "tracker_project_name": run.tracker.project or "difix",
        "tracker_run_name": run_name,
        "tracker_entity": run.tracker.entity,
        # It imports wandb and logs to it, whatever is asked; WANDB_MODE says whether anything leaves the machine.
        "report_to": "wandb",
        "num_training_epochs": epochs_at_most(run, n_train),
        "resolution": run.resolution if asked else PUBLISHED_LONG_SIDE,
        "mixed_precision": precision,
        "base_model_id": run.model,
        "pretrained_model_name_or_path": run.model,
        "num_samples_eval": 48,
        "tracker": run.tracker.kind,
        "extra_args": list(run.extra_args),
    }
    last = run.saved_steps()[-1]
    notes = [
        f"max_train_steps = {run.max_train_steps}: the script saves after each {run.checkpointing_steps}, at step {last} for "
        "the last time, and is ended then",
        f"resolution = {settings['resolution']}: the published script trains at 576x1024 all the same; its checkpoints are "
        "refined at this long side",
        "eval_freq, viz_freq: the published script evaluates nothing into eval/; the last checkpoint is evaluated after it",
    ]
    if precision != run.mixed_precision:
        notes.append(f"mixed_precision = {run.mixed_precision}: a CPU trains in full precision, no")
    if run.tracker.kind != "wandb":
        notes.append(
            f"tracker = {run.tracker.kind}: the script logs to wandb, which is disabled; see logs/progress.jsonl"
        )
    settings = {name: settings[name] for name in SETTINGS}
    return kept_settings(tree.tuning_run(run_name), settings, settings_in_file(run)), notes


def epochs_at_most(run: RunSpec, n_train: int) -> int:
    """Epochs that reach `max_train_steps`: the published script counts these, and goes on past the steps."""
    batches = math.ceil(n_train / (run.train_batch_size * run.num_processes))
    return math.ceil(run.max_train_steps * run.gradient_accumulation_steps / max(1, batches))


def _script(external: External) -> Path:
    """The script, absolute: a relative path counts from `cwd`, else from where the platform runs."""
    return (Path(external.cwd or ".").expanduser() / Path(external.script).expanduser()).absolute()


def _check_script(script: Path) -> list[str]:
    if not script.is_file():
        raise InvalidFile(
            "the trainer script is not there",
            file=script,
            key="runs.<run_name>.external.script",
            remedy="correct the path; a relative one counts from external.cwd, else from where the platform runs",
        )
    return []
