"""Holding out groups, and the split's files: `split_train.jsonl`, `split_test.jsonl`, `split_summary.json`, `generation_stats.json`.

Every row goes to train or test, and the rows of one (dataset, group) go together. The hold-out is pure: rows in, rows out. Does not
belong here: the group rules (the scenes room).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidFile, first_names
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import DifixTree, dataset_of
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Older,
    Place,
    Unit,
    Wanted,
    begin,
    options_of,
    read_record,
    versions_of,
)
from thesis_assets.samples.sample_rows import group_key, rows_sha256, write_rows
from thesis_assets.samples.snapshot import require_same_manifest
from thesis_assets.scenes.matching import group_id
from thesis_assets.schemas.samples import (
    DroppedSample,
    Exclusion,
    GenerationStats,
    RecipeCounts,
    SampleRow,
    ShardStats,
    SplitSummary,
)
from thesis_assets.splits.exclusions import as_option, write_exclusions

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


def split_rows(
    rows: Sequence[SampleRow], split: SplitSpec, group_of_reserved: GroupOf, excluded: Collection[str] = ()
) -> SplitResult:
    """Split the rows of a snapshot, of unique sample ids, by groups.

    The groups of reserved scenes, which need not have a row, are test groups, whatever else the split says; then come the named test
    groups, or a seeded choice of groups, or nothing more (`train_only`).

    Args:
        excluded: sample ids that stand in neither half. Who is held out does not depend on them.

    Raises:
        InvalidExperiment: a named test group has no sample, or a half is empty (test may be, with `train_only`).
    """
    sizes = Counter(group_key(row) for row in rows)
    reserved = reserved_groups(split, group_of_reserved, {row.dataset for row in rows})
    held_out = reserved & sizes.keys()
    if split.test_fraction is not None:
        held_out |= _drawn_groups(sizes, held_out, split.test_fraction, split.seed)
    else:
        held_out |= _named_groups(sizes, split)
    _refuse_an_empty_half(sizes, split, held_out, reserved)
    kept = [row for row in rows if row.sample_id not in excluded] if excluded else rows
    train = [row for row in kept if group_key(row) not in held_out]
    test = [row for row in kept if group_key(row) in held_out]
    for half, name in ((train, "training"), (test, "test")):
        if not half and len(kept) < len(rows) and not (name == "test" and not held_out):
            raise InvalidExperiment(
                f"the {name} split is empty",
                key="the experiment's exclude.csv",
                found=f"{len(rows) - len(kept)} of {len(rows)} samples are left out",
                wanted="a sample of it at least",
                remedy="take lines out of the file",
            )
    trained = {group_key(row) for row in train}
    return SplitResult(train, test, sorted(trained), sorted(held_out))


def reserved_groups(split: SplitSpec, group_of_reserved: GroupOf, datasets: Collection[str]) -> set[str]:
    """The groups of the reserved scenes, `<dataset>/<group_id>`: none of their samples may be trained on.

    Args:
        datasets: that have samples. Of another one a name that no rule reads reserves nobody, as there is nobody.

    Raises:
        InvalidExperiment: no group can be read from a name.
    """
    groups = set()
    for scene_name in split.reserved_scenes:
        try:
            groups.add("/".join(group_of_reserved(scene_name)))
        except InvalidExperiment:
            if dataset_of(scene_name) in datasets:
                raise
    return groups


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
                    wanted=f"one of {first_names(of_dataset, 20)}"
                    if of_dataset
                    else f"a dataset of {first_names(datasets, 20)}",
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
    groups = f"{sizes.total()} samples of {first_names(sorted(sizes), 20)}" if sizes else "no sample at all"
    if not sizes.keys() - held_out:
        because = f"; reserved: {first_names(sorted(reserved & sizes.keys()), 20)}" if reserved & sizes.keys() else ""
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


def split_unit(tree: DifixTree, split: SplitSpec, exclusions: Sequence[Exclusion] = ()) -> Unit:
    """The two halves and what is counted about them, as one thing that is made."""
    options, given = (_shaping(each["split"]) for each in options_of({"split": split}))
    left_out = as_option(exclusions)
    options |= {} if left_out is None else {"exclude": left_out}
    given |= {"exclude": left_out}  # one that is gone is another option, too
    wanted = Wanted(
        step="split_manifests",
        code_version=CODE_VERSIONS["split_manifests"],
        options=options,
        given=given,
        made=versions_of({"sample_set": Place(tree.base, tree.made_from("sample_set"))}),
    )
    return Unit(f"split_manifests of {tree.exp_name}", split_place(tree), wanted, lambda: _older(tree))


def split_place(tree: DifixTree) -> Place:
    """Where the split's files and their record lie."""
    return Place(tree.base, tree.made_from("split_manifests"))


def kept_split(tree: DifixTree, split: SplitSpec) -> SplitSpec:
    """The split to write the halves anew by: with the seed that they were drawn by, where the experiment's file names none."""
    try:
        record = read_record(split_place(tree))
    except InvalidFile:  # looked at, it is damaged, and is written anew
        return split
    if record is None or "seed" in split.model_fields_set:
        return split
    return split.model_copy(update={"seed": record.options["split"]["seed"]})


def _shaping(split: Mapping[str, Any]) -> dict[str, Any]:
    """The options that shape the halves: not what a check may let pass.

    Mappings of names as lists: one name less is another option, not one that the experiment's file leaves open.
    """
    listed = {
        key: sorted(f"{name}: {each}" for name, each in value.items()) if isinstance(value, Mapping) else value
        for key, value in split.items()
        if key != "override_builtin_rule"
    }
    return {"split": listed}


def _older(tree: DifixTree) -> Older | None:
    files = _files(tree)
    try:
        spec = storage.read_json(tree.split_summary, SplitSummary).split_spec
    except InvalidFile:
        return None
    halves = [tree.split_train, tree.split_test]
    return Older(files, options=_shaping(spec), empty=halves) if all(path.is_file() for path in files) else None


def _files(tree: DifixTree) -> list[Path]:
    return [tree.split_train, tree.split_test, tree.split_summary, tree.generation_stats]


def write_split_manifests(
    tree: DifixTree,
    rows: Sequence[SampleRow],
    result: SplitResult,
    split: SplitSpec,
    dropped: Sequence[DroppedSample],
    shards: Sequence[ShardStats],
    exclusions: Sequence[Exclusion] = (),
) -> SplitSummary:
    """Write the two halves and what is counted about them; the summary, which has their digests, last.

    Args:
        rows: all samples, as they stand in `all_samples.jsonl`.
        exclusions: the halves were split without them.

    Raises:
        SnapshotChanged: the snapshot is frozen and a manifest would change. Nothing is written then.
    """
    for path, of_file in ((tree.all_samples, rows), (tree.split_train, result.train), (tree.split_test, result.test)):
        require_same_manifest(tree, path, of_file)
    making = begin(split_unit(tree, split, exclusions))
    if exclusions:
        write_exclusions(tree.exclusions, exclusions)
    else:
        tree.exclusions.unlink(missing_ok=True)
    digests = {
        tree.all_samples.name: rows_sha256(rows),
        tree.split_train.name: write_rows(tree.split_train, result.train),
        tree.split_test.name: write_rows(tree.split_test, result.test),
    }
    scene_names = sorted(stats.scene_name for stats in shards)
    by_scene = Counter(row.scene_name for row in rows)
    statistics = GenerationStats(
        exp_name=tree.exp_name,
        output_exp_dir=str(tree.base),
        n_scene_runs=len(scene_names),
        scene_runs=scene_names,
        n_all_samples=len(rows),
        n_train_samples=len(result.train),
        n_test_samples=len(result.test),
        n_dropped_samples=len(dropped),
        scene_sample_counts={scene_name: by_scene[scene_name] for scene_name in scene_names},
        dataset_sample_counts=_sorted_counts(row.dataset for row in rows),
        group_sample_counts=_sorted_counts(group_key(row) for row in rows),
        dropped_by_reason=_sorted_counts(row.reason for row in dropped),
        shard_digests={stats.scene_name: stats.rows_sha256 for stats in sorted(shards, key=lambda s: s.scene_name)},
    )
    storage.write_json(tree.generation_stats, statistics)
    summary = SplitSummary(
        n_all=len(rows),
        n_train=len(result.train),
        n_test=len(result.test),
        datasets=sorted({row.dataset for row in rows}),
        group_ids=sorted([*result.train_groups, *result.test_groups]),
        scene_runs=scene_names,
        train_group_ids=result.train_groups,
        test_group_ids=result.test_groups,
        reserved_scenes=sorted(split.reserved_scenes),
        split_spec=split.model_dump(mode="json"),
        manifest_sha256=digests,
        recipes=_counts_by_recipe(shards, {row.scene_name for row in result.test}),
        n_excluded=len(rows) - len(result.train) - len(result.test) if exclusions else None,
    )
    storage.write_json(tree.split_summary, summary)
    making.finish([*_files(tree), *([tree.exclusions] if exclusions else [])])
    return summary


def _counts_by_recipe(shards: Sequence[ShardStats], test_scenes: Collection[str]) -> dict[str, RecipeCounts]:
    """By the shards' own counts: a scene stands on one side."""
    names = list(dict.fromkeys(name for stats in shards for name in stats.recipes))
    found = {}
    for name in names:
        n_all = sum(stats.recipes.get(name, 0) for stats in shards)
        n_test = sum(stats.recipes.get(name, 0) for stats in shards if stats.scene_name in test_scenes)
        found[name] = RecipeCounts(n_all=n_all, n_train=n_all - n_test, n_test=n_test)
    return found


def _sorted_counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
