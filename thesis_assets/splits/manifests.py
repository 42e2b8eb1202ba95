"""The split's files: `split_train.jsonl`, `split_test.jsonl`, `split_summary.json`, `generation_stats.json`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Older, Place, Unit, Wanted, begin, options_of, read_record, versions_of
from thesis_assets.samples.sample_rows import group_key, rows_sha256, write_rows
from thesis_assets.samples.snapshot import frozen_snapshot, require_same_manifest
from thesis_assets.schemas.samples import DroppedSample, GenerationStats, SampleRow, ShardStats, SplitSummary
from thesis_assets.splits.hold_out import SplitResult

SPLIT_VERSION = "1"


def split_unit(tree: DifixTree, split: SplitSpec) -> Unit:
    """The two halves and what is counted about them, as one thing that is made."""
    options, given = (_listed(each["split"]) for each in options_of({"split": split}))
    wanted = Wanted(
        step="split_manifests",
        code_version=SPLIT_VERSION,
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
    record = read_record(split_place(tree))
    if record is None or "seed" in split.model_fields_set:
        return split
    return split.model_copy(update={"seed": record.options["split"]["seed"]})


def _listed(split: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings of names as lists: one name less is another option, not one that the experiment's file leaves open."""
    listed = {
        key: sorted(f"{name}: {each}" for name, each in value.items()) if isinstance(value, Mapping) else value
        for key, value in split.items()
    }
    return {"split": listed}


def _older(tree: DifixTree) -> Older | None:
    files = _files(tree)
    try:
        spec = storage.read_json(tree.split_summary, SplitSummary).split_spec
    except InvalidFile:
        return None
    halves = [tree.split_train, tree.split_test]
    return Older(files, options=_listed(spec), empty=halves) if all(path.is_file() for path in files) else None


def _files(tree: DifixTree) -> list[Path]:
    return [tree.split_train, tree.split_test, tree.split_summary, tree.generation_stats]


def write_split_manifests(
    tree: DifixTree,
    rows: Sequence[SampleRow],
    result: SplitResult,
    split: SplitSpec,
    dropped: Sequence[DroppedSample],
    shards: Sequence[ShardStats],
) -> SplitSummary:
    """Write the two halves and what is counted about them; the summary, which has their digests, last.

    Args:
        rows: all samples, as they stand in `all_samples.jsonl`.

    Raises:
        SnapshotChanged: the snapshot is frozen and a manifest would change. Nothing is written then.
    """
    _refuse_to_change_frozen_manifests(tree, rows, result)
    making = begin(split_unit(tree, split))
    digests = {
        tree.all_samples.name: rows_sha256(rows),
        tree.split_train.name: write_rows(tree.split_train, result.train),
        tree.split_test.name: write_rows(tree.split_test, result.test),
    }
    storage.write_json(tree.generation_stats, _statistics(tree, rows, result, dropped, shards))
    summary = SplitSummary(
        n_all=len(rows),
        n_train=len(result.train),
        n_test=len(result.test),
        datasets=sorted({row.dataset for row in rows}),
        group_ids=sorted([*result.train_groups, *result.test_groups]),
        scene_runs=sorted(stats.scene_name for stats in shards),
        train_group_ids=result.train_groups,
        test_group_ids=result.test_groups,
        reserved_scenes=sorted(split.reserved_scenes),
        split_spec=split.model_dump(mode="json"),
        manifest_sha256=digests,
    )
    storage.write_json(tree.split_summary, summary)
    making.finish(_files(tree))
    return summary


def _refuse_to_change_frozen_manifests(tree: DifixTree, rows: Sequence[SampleRow], result: SplitResult) -> None:
    if frozen_snapshot(tree) is None:
        return
    for path, of_file in ((tree.all_samples, rows), (tree.split_train, result.train), (tree.split_test, result.test)):
        require_same_manifest(tree, path.name, rows_sha256(of_file))


def _statistics(
    tree: DifixTree,
    rows: Sequence[SampleRow],
    result: SplitResult,
    dropped: Sequence[DroppedSample],
    shards: Sequence[ShardStats],
) -> GenerationStats:
    scene_names = sorted(stats.scene_name for stats in shards)
    by_scene = Counter(row.scene_name for row in rows)
    return GenerationStats(
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


def _sorted_counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
