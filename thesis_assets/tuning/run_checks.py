"""Checks of a tuning run: its checkpoints load and belong to the data, its losses are finite, its configuration is whole."""

from __future__ import annotations

import math

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree, TuningRunTree, parse_checkpoint_step
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.tuning import CheckpointInfo, SelectedCheckpoint, TrainConfig
from thesis_assets.splits.data_json import content_of_file
from thesis_assets.storage import read_json, sha256_value
from thesis_assets.tuning.checkpoints import list_checkpoints, pruned_steps, verify_checkpoint
from thesis_assets.tuning.progress_file import ProgressReader
from thesis_assets.tuning.run_config import hyperparameters, is_trained_on
from thesis_assets.tuning.trainer_start import setting_names

_WITHOUT_LOSSES = {
    "pretrained": "nothing was trained: there is no loss",
    "external": "the script's progress bar shows no loss",
}
"""Why a finished run of a backend may have told no loss: its weights are looked at in their place."""


def checkpoint_loads(tree: DifixTree, run_name: str) -> CheckOutcome:
    """Every `model_<step>.pkl` has its side file, is the file that was written, loads as tensors and numbers, and is finite."""
    run_tree = tree.tuning_run(run_name)
    offenders, n_bytes = [], 0
    steps = _steps_on_disk(run_tree)
    for step in steps:
        try:
            n_bytes += verify_checkpoint(run_tree, step).bytes
        except InvalidFile as error:
            offenders.append(f"model_{step}.pkl: {' '.join(str(error).split())}")
    if not steps:
        offenders.append(f"no checkpoint in {run_tree.checkpoints_dir}")
    return CheckOutcome.of(
        offenders,
        message=f"{len(steps)} checkpoints read whole",
        counts={"checkpoints": len(steps), "bytes": n_bytes},
    )


def checkpoint_belongs_to_data(tree: DifixTree, run_name: str) -> CheckOutcome:
    """data.json, train_config.json and every checkpoint speak of the same data and hyperparameters."""
    run_tree = tree.tuning_run(run_name)
    try:
        config = read_json(run_tree.train_config, TrainConfig)
    except InvalidFile as error:
        return _no_config(error)
    offenders = []
    if not is_trained_on(tree, config):
        present = content_of_file(tree.data_json).sha256 if tree.data_json.is_file() else "no such file"
        offenders.append(f"{tree.data_json}: {present}, trained on {config.data_json_sha256}")
    steps = list_checkpoints(run_tree)
    for step in steps:
        info = read_json(run_tree.checkpoint_info(step), CheckpointInfo)
        for key in ("data_json_sha256", "hyperparameter_digest"):
            if getattr(info, key) != getattr(config, key):
                offenders.append(f"model_{step}: {key} {getattr(info, key)}, the run's is {getattr(config, key)}")
    return CheckOutcome.of(
        offenders,
        message=f"{len(steps)} checkpoints compared with data.json and train_config.json",
        counts={"checkpoints": len(steps)},
    )


def loss_is_finite(tree: DifixTree, run_name: str) -> CheckOutcome:
    """Every step of the progress file has a finite loss, every evaluation finite scores, and no attempt ended in an error.

    Where nobody told a loss, the weights of the last checkpoint are finite.
    """
    run_tree = tree.tuning_run(run_name)
    try:
        config = read_json(run_tree.train_config, TrainConfig)
    except InvalidFile:
        config = None  # train_config_complete says so
    if config is not None and config.is_adopted:
        return _finite_weights(run_tree, "the run was adopted: its trainer's losses are not here", [])
    losses: dict[int, float] = {}
    steps, bad, last = set(), [], None
    for line in ProgressReader(run_tree.progress).new_lines():
        last = line
        if line.event == "step":
            steps.add(line.step)
            if line.loss is not None:
                losses[line.step] = line.loss
        bad += [f"step {line.step}: {name} {value}" for name, value in line.metrics.items() if not math.isfinite(value)]
    # Of a step that a resumed run did again, the later line counts.
    bad += [f"step {step}: loss {loss}" for step, loss in sorted(losses.items()) if not math.isfinite(loss)]
    if last is None:
        bad.append(f"no line in {run_tree.progress}")
    elif last.event == "failed":
        bad.append(" ".join(last.message.split()))
    message = f"{len(losses)} losses looked at"
    if not losses:
        silent = _WITHOUT_LOSSES.get(config.backend) if config is not None else None
        if silent:
            return _finite_weights(run_tree, silent, bad)
        bad.append(f"no loss in {run_tree.progress}")
    return CheckOutcome.of(
        bad,
        message=message,
        counts={"steps": len(steps), **({"last_loss": losses[max(losses)]} if losses else {})},
    )


def train_config_complete(tree: DifixTree, run_name: str) -> CheckOutcome:
    """train_config.json can be read, its digest is that of its flags, and each is one of the trainer's."""
    run_tree = tree.tuning_run(run_name)
    try:
        config = read_json(run_tree.train_config, TrainConfig)
    except InvalidFile as error:
        return _no_config(error)
    names = setting_names(config.backend)
    is_as_begun = sha256_value(hyperparameters(config.flags)) == config.hyperparameter_digest
    # With the right digest, a flag that is not there came after the run was begun.
    offenders = [f"flags.{name} is missing" for name in names if name not in config.flags and not is_as_begun]
    # Whoever trained an adopted run may have had flags of their own.
    others = [] if config.is_adopted else [name for name in config.flags if name not in names]
    offenders += [f"flags.{name} is no flag of the trainer" for name in others]
    if not offenders and not is_as_begun:
        offenders.append("hyperparameter_digest is not that of the flags: the file was changed by hand")
    needed = ("launch_command", "manifest_sha256", *(() if config.is_adopted else ("versions", "device")))
    offenders += [f"{name} is empty" for name in needed if not getattr(config, name)]
    unknown = sum(value is None for value in config.flags.values()) if config.is_adopted else 0
    of_them = f", {unknown} of them not known" if unknown else ""
    return CheckOutcome.of(
        offenders,
        message=f"{len(config.flags)} flags{of_them}; {len(config.notes)} notes",
        counts={"flags": len(config.flags)},
    )


def _finite_weights(run_tree: TuningRunTree, why: str, bad: list[str]) -> CheckOutcome:
    """For a run without a loss to look at. `why`: there is none."""
    steps = list_checkpoints(run_tree)
    if not steps:
        return CheckOutcome.of([*bad, f"no checkpoint in {run_tree.checkpoints_dir}"], message=why, counts={"steps": 0})
    try:
        verify_checkpoint(run_tree, steps[-1])
    except InvalidFile as error:
        bad = [*bad, error.in_one_line]
    return CheckOutcome.of(bad, message=f"{why}; the weights of step {steps[-1]} looked at", counts={"checkpoints": 1})


def improves_over_input(tree: DifixTree, selected: SelectedCheckpoint) -> CheckOutcome:
    """The chosen checkpoint has a higher mean PSNR than the unrefined renders of the same samples. A warning.

    Where its rule scored nothing, by the run's own evaluation of that step, else of its last evaluated step.
    """
    run_tree = tree.tuning_run(selected.run_name)
    score = next((score for score in selected.scores if score.step == selected.step), None)
    if score is not None:
        psnr, unrefined, where = score.psnr, score.psnr_render, f"over {score.n_samples} samples"
    else:
        steps = [step for step in list_checkpoints(run_tree) if step != selected.step] + [selected.step]
        scored = {step: metrics for step in steps if "psnr_refined" in (metrics := _metrics(run_tree, step))}
        if not scored:
            message = f"rule {selected.rule} scored nothing, and no step was evaluated while it trained"
            return CheckOutcome.of([message], message=message)
        step = list(scored)[-1]
        psnr, unrefined = scored[step]["psnr_refined"], scored[step]["psnr_render"]
        where = f"in the run's own evaluation of step {step}"
    gain = psnr - unrefined
    message = f"PSNR {psnr:.3f} dB, unrefined {unrefined:.3f} dB, {gain:+.3f} dB {where}"
    counts = {"psnr": psnr, "psnr_render": unrefined, "gain": gain}
    return CheckOutcome.of([] if gain > 0 else [message], message=message, counts=dict(counts))


def _metrics(run_tree: TuningRunTree, step: int) -> dict[str, float]:
    path = run_tree.checkpoint_info(step)
    return read_json(path, CheckpointInfo).metrics if path.is_file() else {}


def _steps_on_disk(run_tree: TuningRunTree) -> list[int]:
    """Steps with a `.pkl` or a side file: one without the other is an offender, unless it was removed on request."""
    if not run_tree.checkpoints_dir.is_dir():
        return []
    names = {
        path.with_suffix(".pkl").name
        for path in run_tree.checkpoints_dir.glob("model_*.*")
        if path.suffix != ".partial"
    }
    steps = {step for name in names if (step := parse_checkpoint_step(name)) is not None}
    return sorted(steps - pruned_steps(run_tree).keys())


def _no_config(error: InvalidFile) -> CheckOutcome:
    return CheckOutcome.of([" ".join(str(error).split())], message="the run's configuration cannot be read")
