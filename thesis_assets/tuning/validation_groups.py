"""Whose images may choose a checkpoint: not those of people one reports on; and which group to take instead.

Does not belong here: the choice (`selection`).
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from thesis_assets.errors import Leak
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.schemas.tuning import SelectedCheckpoint


def check_selection_disjoint(
    selected: SelectedCheckpoint, evaluation_groups: Set[str], summary: SplitSummary
) -> CheckOutcome:
    """The check `selection_disjoint_from_evaluation`: no one whose images chose the checkpoint is reported on.

    Args:
        evaluation_groups: `<dataset>/<group_id>` of every evaluated scene.
        summary: of the snapshot, for the group that is proposed in their place.
    """
    both = sorted(set(selected.selection_groups) & evaluation_groups)
    chosen = f"rule {selected.rule} looked at {len(selected.selection_sample_ids)} samples"
    message = (
        f"{chosen}; the checkpoint was chosen on people that are evaluated: {', '.join(both)}. "
        f"For a validation group, {propose_group(summary, evaluation_groups, selected.run_name)}"
        if both
        else f"{chosen} of {', '.join(selected.selection_groups) or 'no group'}; none of them is evaluated"
    )
    counts = {"selection_groups": len(selected.selection_groups), "evaluation_groups": len(evaluation_groups)}
    return CheckOutcome.of(both, message=message, counts=dict(counts))


def every_group_is_evaluated(summary: SplitSummary, present: Sequence[str]) -> Leak:
    """The error of a rule that scores, names no groups, and finds none that is not evaluated."""
    proposal = propose_group(summary, set(present), "<run_name>")
    return Leak(
        "every test group is evaluated, so scoring checkpoints on any of them would choose on the people one reports on",
        key="runs.<run_name>.selection.groups",
        found=", ".join(present),
        wanted="a validation group: held out, and not evaluated",
        remedy=f"{proposal}; or evaluate fewer scenes (evaluation.scenes); or set rule: last",
    )


def propose_group(summary: SplitSummary, evaluation_groups: Set[str], run_name: str) -> str:
    """What to do for a validation group: a held-out one that is not evaluated, else one of the training, else more scenes."""
    free = sorted(set(summary.test_group_ids) - evaluation_groups)
    if free:
        return f"name {free[0]} in runs.{run_name}.selection.groups"
    training = [group for group in summary.train_group_ids if group not in evaluation_groups]
    if len(training) > 1:
        return (
            f"hold out {training[-1]} too (in split.test_groups of a fork: this snapshot is frozen) and name it in "
            f"runs.{run_name}.selection.groups"
        )
    return f"add scenes of one more group, hold it out, and name it in runs.{run_name}.selection.groups"
