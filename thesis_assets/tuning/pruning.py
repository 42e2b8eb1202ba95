"""Removing checkpoints of a run that nothing points to, on request: the plan, and carrying it out.

All checkpoints are kept by default. A removed one leaves its side file (digest, metrics) and a line in `pruned.json`, so that
nothing takes the gap for a loss, and lineage still knows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.provenance import strike
from thesis_assets.schemas.tuning import CheckpointInfo, PrunedCheckpoints, SelectedCheckpoint
from thesis_assets.storage import cell_lock, read_json, write_json
from thesis_assets.tuning.checkpoints import list_checkpoints, pruned_steps
from thesis_assets.tuning.run_record import checkpoint_place


@dataclass(frozen=True)
class PlannedCheckpoint:
    """One finished checkpoint. `kept_for`: why it stays; empty where it would be removed."""

    step: int
    bytes: int
    kept_for: tuple[str, ...]


def plan_pruning(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    *,
    epoch_steps: Mapping[int, int | None],
    keep: Collection[int] = (),
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
    return [
        PlannedCheckpoint(step, read_json(run_tree.checkpoint_info(step), CheckpointInfo).bytes, tuple(reasons[step]))
        for step in steps
    ]


def prune(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    *,
    epoch_steps: Mapping[int, int | None],
    keep: Collection[int] = (),
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
            now = datetime.now(UTC).isoformat(timespec="seconds")
            # Before the files go: one that is noted and still there is simply not pruned yet.
            write_json(run_tree.pruned, PrunedCheckpoints(steps=pruned_steps(run_tree) | dict.fromkeys(removed, now)))
            place = checkpoint_place(tree, run_name)
            strike(place, [place.name(run_tree.checkpoint(step)) for step in removed])
        for step in removed:
            run_tree.checkpoint(step).unlink()
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
            remedy="materialize selected_checkpoint first (thesis-assets run), then prune",
        )
    return run.selection.step
