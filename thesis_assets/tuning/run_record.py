"""The made-from record of a finished tuning run: its configuration, checkpoints and evaluation files, and what shaped them.

All checkpoints are kept by default. Those that nothing points to are removed on request: what is planned, and carrying it out. A
removed one leaves its side file (digest, metrics) and a line in `pruned.json`, so that nothing takes the gap for a loss.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Contents,
    MadeFrom,
    Older,
    Place,
    Unit,
    Wanted,
    begin,
    read_record,
    strike,
    versions_of,
)
from thesis_assets.schemas.tuning import CheckpointInfo, SelectedCheckpoint, TrainConfig
from thesis_assets.storage import cell_lock, read_json
from thesis_assets.tuning.checkpoints import (
    kept_steps,
    list_checkpoints,
    note_removed,
    pruned_steps,
    reached_step,
    remove_checkpoints,
)
from thesis_assets.tuning.progress_file import last_progress
from thesis_assets.tuning.run_config import DEFAULTS, LATER, read_config

_SHAPES_NO_WEIGHT = frozenset(
    {"dataloader_num_workers", "viz_freq", "preset", "stable_v100", "tracker", "selection", "external"}
    | {"keep_last", "save_optimizer"}
)
"""Keys of a run. What `stable_v100` puts in place stands under its own names; a corrected interpreter is no other training."""
BEFORE = (*LATER, "gradient_checkpointing", "allow_tf32")
"""Keys that a record of a version before does not have."""
_RESOLVED_OTHERWISE = ("model", "mixed_precision", "extra_args")
"""Keys whose value in `train_config.json` is not the one of the experiment's file: a full path, what a CPU can do."""


def checkpoint_unit(tree: DifixTree, run_name: str, run: RunSpec) -> Unit:
    """A run's training as a thing that is made. Its data version covers the weights: a second training gives others."""
    wanted = Wanted(
        step="tuned_checkpoint",
        code_version=CODE_VERSIONS["tuned_checkpoint"],
        options=run_options(run_name, _shaping(run.model_dump(mode="json"))),
        given=run_options(run_name, _shaping(run.model_dump(mode="json", exclude_unset=True))),
        before={f"runs.{run_name.replace('.', '_')}.{name}": DEFAULTS[name] for name in BEFORE},
        made=versions_of({"difix_data": Place(tree.base, tree.made_from("difix_data"))}),
        of_outputs=True,
    )
    place = checkpoint_place(tree, run_name)
    try:
        record = read_record(place)
    except InvalidFile:  # looked at, it is damaged
        record = None
    if record is not None and wanted.made.keys() - record.inputs.keys():
        # Trained on data of a version without records: that it was is said by its content (`run_config.is_trained_on`).
        wanted = replace(wanted, made={})
    return Unit(f"tuned_checkpoint of {tree.exp_name}, {run_name}", place, wanted, lambda: _older(tree, run_name, run))


def checkpoint_place(tree: DifixTree, run_name: str) -> Place:
    """Where a run's files and their record lie."""
    run_tree = tree.tuning_run(run_name)
    return Place(run_tree.base, run_tree.made_from("tuned_checkpoint"))


def run_options(run_name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run as they stand in the experiment's file. A dot in its name would be read as the next key's."""
    return {"runs": {run_name.replace(".", "_"): dict(options)}}


def _shaping(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _SHAPES_NO_WEIGHT}


def _older(tree: DifixTree, run_name: str, run: RunSpec) -> Older | None:
    run_tree = tree.tuning_run(run_name)
    try:
        config = read_config(run_tree)
        if not _is_whole(run_tree, run, config):
            return None
    except InvalidFile:
        return None
    steps = list_checkpoints(run_tree)
    named = {
        where.checkpoint(step): _sha256_of_side_file(where, step)
        for where in (run_tree, run_tree.averaged)
        for step in steps
    }
    return Older(
        _files(run_tree),
        options=_options_of_then(run_name, run, config),
        named={path: sha256 for path, sha256 in named.items() if sha256 is not None},
    )


def _sha256_of_side_file(run_tree: TuningRunTree, step: int) -> str | None:
    try:
        return read_json(run_tree.checkpoint_info(step), CheckpointInfo).sha256
    except InvalidFile:
        return None


def _is_whole(run_tree: TuningRunTree, run: RunSpec, config: TrainConfig) -> bool:
    """Whether a training came to its end: all its saves are there that were not removed, and the last one's evaluation."""
    steps = kept_steps(run_tree, run.saved_steps())
    if not set(steps) <= {step for step in list_checkpoints(run_tree) if run_tree.checkpoint(step).is_file()}:
        return False
    evaluates = config.n_test_samples > 0 and config.backend != "external" and not config.is_adopted
    return not evaluates or run_tree.eval_metrics(steps[-1]).is_file()


def _options_of_then(run_name: str, run: RunSpec, config: TrainConfig) -> dict[str, Any]:
    """The run's options with the values that it was begun with, where its configuration has them under the same name.

    Of an adopted run only those that are declared: today's defaults say nothing of how others trained.
    """
    if config.is_adopted:
        return run_options(run_name, _shaping(run.model_dump(mode="json", exclude_unset=True)))
    options = _shaping(run.model_dump(mode="json"))
    known = {**config.flags, "backend": config.backend}
    options |= {name: known[name] for name in options if name in known and name not in _RESOLVED_OTHERWISE}
    return run_options(run_name, options)


def record_run(
    tree: DifixTree, run_name: str, run: RunSpec, *, unit: Unit | None = None, contents: Contents | None = None
) -> MadeFrom:
    """Write the record of a finished run.

    Args:
        unit: as it was when the training began; None: as it is now.
        contents: of checkpoints that were read already.

    Raises:
        InvalidFile: `train_config.json` cannot be read.
    """
    run_tree = tree.tuning_run(run_name)
    config = read_config(run_tree)
    unit = unit or checkpoint_unit(tree, run_name, run)
    # Weights that were taken, not trained.
    taken = config.flags.get("model_sha256")
    made = {**unit.wanted.made, **({"model": taken} if isinstance(taken, str) else {})}
    wanted = replace(unit.wanted, options=_options_of_then(run_name, run, config), made=made)
    noted = {"device": config.device, "versions": config.versions, "git_revision": config.git_revision}
    return begin(replace(unit, wanted=wanted), contents).finish(_files(run_tree), noted=noted)


def _files(run_tree: TuningRunTree) -> list[Path]:
    """Every file of a finished run that is nothing's note about it: not its logs, its job, or what is made from it."""
    steps = {*list_checkpoints(run_tree), *pruned_steps(run_tree)}
    saved = [
        path
        for where in (run_tree, run_tree.averaged)
        for step in sorted(steps)
        for path in (where.checkpoint_info(step), where.checkpoint(step))
    ]
    evaluations = sorted(path for path in run_tree.eval_dir.rglob("*") if path.is_file())
    return [path for path in (run_tree.train_config, run_tree.early_stop, *saved, *evaluations) if path.is_file()]


def lost_checkpoints(run_tree: TuningRunTree, run: RunSpec) -> list[str]:
    """Names of the checkpoints that are gone of a training that came to its end and has no record that would tell it.

    That it did say its record, which cannot be read then, its trainer's last word, or the side file of its last checkpoint.

    Raises:
        InvalidFile: `pruned.json` cannot be read.
    """
    steps = kept_steps(run_tree, run.saved_steps())
    lost = [run_tree.checkpoint(step).name for step in steps if not run_tree.checkpoint(step).is_file()]
    if not lost:
        return []
    last = last_progress(run_tree.progress)
    ended = (
        run_tree.made_from("tuned_checkpoint").exists()
        or run_tree.checkpoint_info(steps[-1]).is_file()
        or (last is not None and last.event == "done")
    )
    return lost if ended else []


def lost_side_files(run_tree: TuningRunTree) -> list[str]:
    """What of a finished training is gone that no record holds, each with what is not known any more."""
    try:
        if read_config(run_tree).is_adopted:
            return []  # it never had them
    except InvalidFile:  # a look says so
        return []
    told = {run_tree.job: "where it was trained", run_tree.progress: "the curves of its training"}
    return [
        f"`{path.relative_to(run_tree.base)}` is gone: it told {what}"
        for path, what in told.items()
        if not path.is_file()
    ]


@dataclass(frozen=True)
class PlannedCheckpoint:
    """One finished checkpoint. `kept_for`: why it stays; empty where it would be removed."""

    step: int
    bytes: int
    kept_for: tuple[str, ...]


def plan_pruning(
    tree: DifixTree, run_name: str, run: RunSpec, *, epoch_steps: Mapping[int, int | None], keep: Collection[int] = ()
) -> list[PlannedCheckpoint]:
    """What pruning would keep, and why, and what it would remove; ascending.

    Kept are the last checkpoint, every step that an evaluation epoch maps to, the selected one, and `keep`.

    Args:
        epoch_steps: checkpoint step by evaluation epoch; None is the unrefined render.

    Raises:
        InvalidExperiment: `keep` names a step that has no checkpoint.
        InvalidFile: the run has no checkpoint, or its rule scores checkpoints and has not chosen yet.
    """
    run_tree = tree.tuning_run(run_name)
    steps = list_checkpoints(run_tree)
    if not steps:
        raise InvalidFile("the run has no finished checkpoint", file=run_tree.checkpoints_dir, remedy="train it first")
    reasons = _reasons(run_tree, run, steps, epoch_steps, keep)
    sizes = {
        step: sum(
            where.checkpoint(step).stat().st_size
            for where in (run_tree, run_tree.averaged)
            if where.checkpoint(step).is_file()
        )
        for step in steps
    }
    return [PlannedCheckpoint(step, sizes[step], tuple(reasons[step])) for step in steps]


def prune(
    tree: DifixTree, run_name: str, run: RunSpec, *, epoch_steps: Mapping[int, int | None], keep: Collection[int] = ()
) -> list[PlannedCheckpoint]:
    """Remove what `plan_pruning` would; returns the plan that was carried out.

    Raises:
        CellLocked: the run is in training.
    """
    run_tree = tree.tuning_run(run_name)
    with cell_lock(tree.lock(f"run-{run_name}"), f"the tuning run {run_name} of {tree.exp_name}"):
        plan = plan_pruning(tree, run_name, run, epoch_steps=epoch_steps, keep=keep)
        removed = [planned.step for planned in plan if not planned.kept_for]
        if removed:
            note_removed(run_tree, removed, datetime.now(UTC).isoformat(timespec="seconds"))
            place = checkpoint_place(tree, run_name)
            strike(
                place,
                [place.name(where.checkpoint(step)) for where in (run_tree, run_tree.averaged) for step in removed],
            )
        remove_checkpoints(run_tree, removed)
        last = reached_step(run_tree, run.saved_steps()[-1])
        if run_tree.resume.checkpoints_dir.is_dir() and run_tree.eval_metrics(last).is_file():
            shutil.rmtree(run_tree.resume.checkpoints_dir)  # a finished run goes nowhere
    return plan


def _reasons(
    run_tree: TuningRunTree,
    run: RunSpec,
    steps: list[int],
    epoch_steps: Mapping[int, int | None],
    keep: Collection[int],
) -> dict[int, list[str]]:
    unknown = sorted(set(keep) - set(steps))
    if unknown:
        raise InvalidExperiment(
            "there is no checkpoint of a step that is to be kept", key="--keep", found=unknown[0], wanted=steps
        )
    reasons: dict[int, list[str]] = {step: [] for step in steps}
    for epoch, step in epoch_steps.items():
        step = None if step is None else reached_step(run_tree, step)
        if step in reasons:
            reasons[step].append(f"epoch {epoch}")
    chosen = _chosen_step(run_tree, run)
    if chosen in reasons:
        reasons[chosen].append("selected")
    for step in keep:
        reasons[step].append("asked for")
    reasons[steps[-1]].append("last")
    return reasons


def _chosen_step(run_tree: TuningRunTree, run: RunSpec) -> int | None:
    """The selected step, or the one that a rule without scores will select."""
    if run_tree.selected_checkpoint.is_file():
        return read_json(run_tree.selected_checkpoint, SelectedCheckpoint).step
    if run.selection.rule.startswith("best_"):
        raise InvalidFile(
            "the run's rule has not chosen yet: every checkpoint is a candidate",
            file=run_tree.selected_checkpoint,
            key="runs.<run_name>.selection.rule",
            found=run.selection.rule,
            remedy="have it choose first (`thesis-assets run`, up to `--until selected_checkpoint`), then prune",
        )
    return run.selection.step
