"""Checks of a split by its rows: no group on both sides, no reserved people in training, train and test make up all.

Each looks at rows as they are on disk, not at how they were made. They return outcomes; `snapshot_guard` raises them. Does not belong
here: what only the photographs tell (`photographs`, `near_duplicates`).
"""

from collections.abc import Collection, Sequence

from thesis_assets.errors import InvalidExperiment, near_names
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import dataset_of
from thesis_assets.samples.sample_rows import group_key
from thesis_assets.scenes.matching import built_in_group, group_id
from thesis_assets.schemas.checks import MAX_OFFENDERS, CheckOutcome
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits.manifests import GroupOf


def check_group_non_leakage(
    train: Sequence[SampleRow], test: Sequence[SampleRow], group_of: GroupOf | None = None
) -> CheckOutcome:
    """No (dataset, group) stands in both halves.

    Args:
        group_of: finds a scene's group anew by the rules; a row that names another group is an offender, too.
    """
    if not train and not test:
        return CheckOutcome.of_nothing("the split")
    # `Pair02` and `pair02` are two names on some disks, and one on others: never two people.
    train_groups, test_groups = ({group_key(row).casefold(): row for row in reversed(half)} for half in (train, test))
    offenders = []
    for key in sorted(train_groups.keys() & test_groups.keys()):
        first = train_groups[key], test_groups[key]
        names = " and ".join(dict.fromkeys(map(group_key, first)))
        offenders.append(f"{names} stands in both splits: {first[0].sample_id} (train), {first[1].sample_id} (test)")
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
        reserved: groups, `<dataset>/<group_id>`, as `manifests.reserved_groups` gives them.
    """
    if not train:
        return CheckOutcome.of_nothing("split_train.jsonl")
    names = {group.casefold() for group in reserved}
    offenders = [
        f"{row.sample_id} is of the reserved group {group_key(row)}"
        for row in train
        if group_key(row).casefold() in names
    ]
    return CheckOutcome.of(
        offenders,
        message="no reserved group is in training" if not offenders else "reserved people are in training",
        counts={"reserved_groups": len(reserved), "train_samples": len(train)},
    )


def check_reserved_exist(split: SplitSpec, scene_names: Collection[str]) -> CheckOutcome:
    """Every reserved scene is on a disk or in the registry.

    One that is not reserves its group all the same, by its name: a warning, as it may not be downloaded yet. Where its dataset is here
    and the group rule cannot read the name, nobody is reserved by it.

    Args:
        scene_names: on disk or in the registry.
    """
    missing = sorted(set(split.reserved_scenes) - set(scene_names))
    datasets = {dataset_of(name).casefold() for name in scene_names}
    unread = []
    for name in missing:
        try:
            group_id(name, split.group_rules)
        except InvalidExperiment:
            if dataset_of(name).casefold() in datasets:
                unread.append(name)
    offenders = [
        f"{name} is not here: {near_names(sorted(scene_names), [name])}"
        + ("; no group can be read from the name, so nobody is reserved by it" if name in unread else "")
        for name in sorted(missing, key=lambda name: name not in unread)
    ]
    return CheckOutcome.of(
        offenders,
        message="reserved scenes are on no disk and in no registry" if missing else "every reserved scene is here",
        counts={"reserved_scenes": len(split.reserved_scenes), "unread": len(unread)},
        warns=not unread,
    )


def check_group_rules(rows: Sequence[SampleRow], split: SplitSpec) -> CheckOutcome:
    """No group rule of the experiment parts people whom the built-in rule of their dataset keeps together, unless that is meant."""
    if not rows:
        return CheckOutcome.of_nothing("all_samples.jsonl")
    together: dict[str, dict[str, str]] = {}
    for scene_name in sorted({row.scene_name for row in rows} | set(split.reserved_scenes)):
        built_in = built_in_group(scene_name)
        if dataset_of(scene_name) in split.group_rules and built_in is not None:
            whole = f"{dataset_of(scene_name).casefold()}/{built_in}"
            together.setdefault(whole, {}).setdefault(group_id(scene_name, split.group_rules), scene_name)
    parted = {whole: parts for whole, parts in together.items() if len(parts) > 1}
    offenders = [
        f"{whole} is parted: " + ", ".join(f"{scene_name} is of {part}" for part, scene_name in list(parts.items())[:3])
        for whole, parts in parted.items()
    ]
    counts = {"groups by built-in rules": len(together), "parted": len(parted)}
    if split.override_builtin_rule:
        message = f"split.override_builtin_rule: {len(parted)} groups are parted, as it is meant"
        return CheckOutcome(passed=True, message=message, counts=dict(counts), offenders=offenders[:MAX_OFFENDERS])
    return CheckOutcome.of(
        offenders,
        message="a rule of split.group_rules parts people whom the built-in rule keeps together"
        if offenders
        else "no group rule parts people whom the built-in rule keeps together",
        counts=dict(counts),
    )


def check_partition(
    every: Sequence[SampleRow], train: Sequence[SampleRow], test: Sequence[SampleRow], excluded: Collection[str] = ()
) -> CheckOutcome:
    """Train, test and what was left out are disjoint, together all, equal row by row, and sorted by sample id.

    Args:
        excluded: sample ids that a person left out; one that no sample has any more says nothing.
    """
    if not every:
        return CheckOutcome.of_nothing("all_samples.jsonl")
    of_train = {row.sample_id: row for row in train}
    of_test = {row.sample_id: row for row in test}
    of_all = {row.sample_id: row for row in every}
    both = of_train.keys() & of_test.keys()
    offenders = [f"{sample_id} stands in train and test" for sample_id in sorted(both)]
    left_out = of_all.keys() & set(excluded)
    offenders += [
        f"{key} was left out, and is in a split" for key in sorted(left_out & (of_train.keys() | of_test.keys()))
    ]
    in_neither = of_all.keys() - of_train.keys() - of_test.keys() - left_out
    offenders += [f"{key} is in neither split" for key in sorted(in_neither)]
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
