"""Checks of a split: no group on both sides, no reserved people in training, train and test make up all.

Each looks at rows as they are on disk, not at how they were made. They return outcomes; `snapshot_guard` raises them.
"""

from collections.abc import Sequence

from thesis_assets.samples.sample_rows import group_key
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.hold_out import GroupOf


def check_group_non_leakage(
    train: Sequence[SampleRow], test: Sequence[SampleRow], group_of: GroupOf | None = None
) -> CheckOutcome:
    """No (dataset, group) stands in both halves.

    Args:
        group_of: finds a scene's group anew by the rules; a row that names another group is an offender, too.
    """
    if not train and not test:
        return CheckOutcome.of_nothing("the split")
    train_groups, test_groups = {group_key(row) for row in train}, {group_key(row) for row in test}
    offenders = []
    for group in sorted(train_groups & test_groups):
        first = [next(row.sample_id for row in half if group_key(row) == group) for half in (train, test)]
        offenders.append(f"{group} stands in both splits: {first[0]} (train), {first[1]} (test)")
    if group_of is not None:
        offenders += _misnamed_groups(
            {row.scene_name: group_key(row) for half in (train, test) for row in half}, group_of
        )
    return CheckOutcome.of(
        offenders,
        message="no group stands in both splits" if not offenders else "the splits share people",
        counts={"train_groups": len(train_groups), "test_groups": len(test_groups)},
    )


def _misnamed_groups(groups: dict[str, str], group_of: GroupOf) -> list[str]:
    offenders = []
    for scene_name, written in sorted(groups.items()):
        by_rule = "/".join(group_of(scene_name))
        if by_rule != written:
            offenders.append(f"{scene_name} is written as group {written}, by the group rules it is {by_rule}")
    return offenders


def check_reserved_scenes(train: Sequence[SampleRow], reserved: set[str]) -> CheckOutcome:
    """No sample of a reserved scene's group is trained on.

    Args:
        reserved: groups, `<dataset>/<group_id>`, as `hold_out.reserved_groups` gives them.
    """
    if not train:
        return CheckOutcome.of_nothing("split_train.jsonl")
    offenders = [
        f"{row.sample_id} is of the reserved group {group_key(row)}" for row in train if group_key(row) in reserved
    ]
    return CheckOutcome.of(
        offenders,
        message="no reserved group is in training" if not offenders else "reserved people are in training",
        counts={"reserved_groups": len(reserved), "train_samples": len(train)},
    )


def check_partition(every: Sequence[SampleRow], train: Sequence[SampleRow], test: Sequence[SampleRow]) -> CheckOutcome:
    """Train and test are disjoint, together all, equal row by row, and sorted by sample id."""
    if not every:
        return CheckOutcome.of_nothing("all_samples.jsonl")
    of_train = {row.sample_id: row for row in train}
    of_test = {row.sample_id: row for row in test}
    of_all = {row.sample_id: row for row in every}
    both = of_train.keys() & of_test.keys()
    offenders = [f"{sample_id} stands in train and test" for sample_id in sorted(both)]
    offenders += [f"{key} is in neither split" for key in sorted(of_all.keys() - of_train.keys() - of_test.keys())]
    for name, rows, by_id in (
        ("all_samples", every, of_all),
        ("split_train", train, of_train),
        ("split_test", test, of_test),
    ):
        ids = [row.sample_id for row in rows]
        if len(by_id) != len(ids):
            offenders.append(f"{name}.jsonl holds {len(ids) - len(by_id)} sample ids twice")
        if any(ids[index] > ids[index + 1] for index in range(len(ids) - 1)):
            offenders.append(f"{name}.jsonl is not sorted by sample_id")
        for sample_id, row in by_id.items():
            if sample_id not in of_all:
                offenders.append(f"{sample_id} of {name}.jsonl is not in all_samples.jsonl")
            elif row.__dict__ != of_all[sample_id].__dict__:  # a fifth of the time of comparing the models
                offenders.append(f"{sample_id} of {name}.jsonl differs from its row in all_samples.jsonl")
    return CheckOutcome.of(
        offenders,
        message="train and test make up all samples" if not offenders else "train and test do not make up all samples",
        counts={"all": len(every), "train": len(train), "test": len(test)},
    )


def check_not_empty(train: Sequence[SampleRow], test: Sequence[SampleRow], *, train_only: bool) -> CheckOutcome:
    """There is something to train on and, unless the experiment is `train_only`, something to test on."""
    offenders = [] if train else ["split_train.jsonl is empty"]
    if not test and not train_only:
        offenders.append("split_test.jsonl is empty, and the experiment does not say split.train_only")
    return CheckOutcome.of(
        offenders,
        message="the splits have samples" if not offenders else "a split is empty",
        counts={"train": len(train), "test": len(test)},
    )
