"""Whether the people that are reported on were trained on: numbers of such a scene say how well it was learned, no more.

Does not belong here: whose images chose the checkpoint (`tuning.selection`).
"""

from __future__ import annotations

from collections.abc import Set

from thesis_assets.schemas.checks import CheckOutcome


def check_evaluated_unseen(evaluation_groups: Set[str], train_groups: Set[str] | None) -> CheckOutcome:
    """The check `evaluated_people_unseen`.

    Args:
        evaluation_groups: `<dataset>/<group_id>` of every evaluated scene.
        train_groups: of the samples that the run was trained on; None where it was not trained here.
    """
    counts = {"evaluation_groups": len(evaluation_groups), "train_groups": len(train_groups or ())}
    if train_groups is None:
        return CheckOutcome(passed=True, message="the run was not trained here, on people unknown", counts=dict(counts))
    trained = {group.casefold() for group in train_groups}
    both = sorted(group for group in evaluation_groups if group.casefold() in trained)
    message = (
        f"people that are evaluated were trained on: {', '.join(both)}; report others, or hold these out "
        "(split.test_groups of a fork)"
        if both
        else "none of the people that are evaluated was trained on"
    )
    return CheckOutcome.of(both, message=message, counts=dict(counts))
