"""Holding out groups: every row goes to train or test, and the rows of one (dataset, group) go together.

Pure: rows in, rows out. Does not belong here: the group rules (the scenes room), writing manifests.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import dataset_of
from thesis_assets.samples.sample_rows import group_key
from thesis_assets.scenes.matching import group_id
from thesis_assets.schemas.samples import SampleRow

GroupOf = Callable[[str], tuple[str, str]]
"""From a scene's name to its (dataset, group id)."""


def group_finder(rules: Mapping[str, str]) -> GroupOf:
    """Finds (dataset, group id) of a scene by the group rules, with those of the experiment (`split.group_rules`)."""
    return lambda scene_name: (dataset_of(scene_name), group_id(scene_name, rules))


@dataclass(frozen=True)
class SplitResult:
    """The two halves, each in the order of the rows that came in; groups are written `<dataset>/<group_id>`, sorted."""

    train: list[SampleRow]
    test: list[SampleRow]
    train_groups: list[str]
    test_groups: list[str]


def split_rows(rows: Sequence[SampleRow], split: SplitSpec, group_of_reserved: GroupOf) -> SplitResult:
    """Split the rows of a snapshot by groups.

    The groups of reserved scenes are test groups, whatever else the split says; then come the named test groups, or a seeded
    choice of groups, or nothing more (`train_only`).

    Args:
        rows: of unique sample ids.
        group_of_reserved: gives (dataset, group id) of a reserved scene, which need not have a row.

    Raises:
        InvalidExperiment: a named test group has no sample, or a half is empty (test may be, with `train_only`).
    """
    sizes = Counter(group_key(row) for row in rows)
    reserved = reserved_groups(split, group_of_reserved)
    held_out = reserved & sizes.keys()
    if split.test_fraction is not None:
        held_out |= _drawn_groups(sizes, held_out, split.test_fraction, split.seed)
    else:
        held_out |= _named_groups(sizes, split)
    train = [row for row in rows if group_key(row) not in held_out]
    test = [row for row in rows if group_key(row) in held_out]
    _refuse_an_empty_half(sizes, split, held_out, reserved)
    return SplitResult(train, test, sorted(sizes.keys() - held_out), sorted(held_out))


def reserved_groups(split: SplitSpec, group_of_reserved: GroupOf) -> set[str]:
    """The groups of the reserved scenes, `<dataset>/<group_id>`: none of their samples may be trained on."""
    return {"/".join(group_of_reserved(scene_name)) for scene_name in split.reserved_scenes}


def _named_groups(sizes: Counter[str], split: SplitSpec) -> set[str]:
    """`test_groups`, each of which must have a sample: a misspelt one would leave its people in training."""
    named = set()
    for dataset, groups in split.test_groups.items():
        for group in groups:
            key = f"{dataset}/{group}"
            if key not in sizes:
                of_dataset = sorted(name.partition("/")[2] for name in sizes if name.startswith(f"{dataset}/"))
                datasets = sorted({name.partition("/")[0] for name in sizes})
                raise InvalidExperiment(
                    "a test group has no sample",
                    key=f"split.test_groups.{dataset}",
                    found=group,
                    wanted=f"one of {_some(of_dataset)}" if of_dataset else f"a dataset of {_some(datasets)}",
                    remedy="correct the name, take it out, or add the group's scenes to generation.scenes and export them",
                )
            named.add(key)
    return named


def _drawn_groups(sizes: Counter[str], held_out: set[str], fraction: float, seed: int) -> set[str]:
    """Groups that bring the test half closest to `fraction` of all samples, counting those held out already.

    Groups come in an order drawn from the seed and their own name, so that one more scene does not reshuffle the others; a
    group is taken when that brings the number of test samples closer to the wanted one. At least one group is tested on and one
    stays in training, where there are two.
    """
    wanted = fraction * sizes.total()
    n_test = sum(sizes[key] for key in held_out)
    candidates = sorted(sizes.keys() - held_out, key=lambda key: hashlib.sha256(f"{seed}|{key}".encode()).digest())
    drawn: set[str] = set()
    for key in candidates:
        if len(drawn) + 1 < len(candidates) and abs(n_test + sizes[key] - wanted) < abs(n_test - wanted):
            drawn.add(key)
            n_test += sizes[key]
    if not drawn and not held_out and len(candidates) > 1:
        drawn.add(min(candidates, key=lambda key: abs(sizes[key] - wanted)))
    return drawn


def _refuse_an_empty_half(sizes: Counter[str], split: SplitSpec, held_out: set[str], reserved: set[str]) -> None:
    groups = f"{sizes.total()} samples of {_some(sorted(sizes))}" if sizes else "no sample at all"
    if not sizes.keys() - held_out:
        because = f"; reserved: {_some(sorted(reserved & sizes.keys()))}" if reserved & sizes.keys() else ""
        raise InvalidExperiment(
            "the training split is empty",
            key="split",
            found=groups + because,
            wanted="at least one group that is neither held out nor reserved",
            remedy="add scenes of other groups to generation.scenes, or take a group out of split.test_groups "
            "(one group alone: `split: {train_only: true}`)"
            if sizes
            else "export a scene that has samples; meta/dropped_samples.csv says why those there were are missing",
        )
    if not held_out and not split.train_only:
        raise InvalidExperiment(
            "the test split is empty",
            key="split",
            found=groups,
            wanted="at least one test group",
            remedy="write split.test_groups: {<dataset>: [<group>]}, add scenes of other groups, "
            "or say that nothing is held out: `split: {train_only: true}`",
        )


def _some(names: list[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
