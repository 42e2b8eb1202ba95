"""The split's files: `split_train.jsonl`, `split_test.jsonl`, `split_summary.json`, `generation_stats.json`."""

from collections import Counter
from collections.abc import Iterable, Sequence

from thesis_assets import storage
from thesis_assets.experiments.split import SplitSpec
from thesis_assets.layout import DifixTree
from thesis_assets.samples.sample_rows import group_key, rows_sha256, write_rows
from thesis_assets.samples.snapshot import frozen_snapshot, require_same_manifest
from thesis_assets.schemas.samples import DroppedSample, GenerationStats, SampleRow, ShardStats, SplitSummary
from thesis_assets.splits.hold_out import SplitResult


def write_split_manifests(
    tree: DifixTree,
    rows: Sequence[SampleRow],
    result: SplitResult,
    split: SplitSpec,
    dropped: Sequence[DroppedSample],
    shards: Sequence[ShardStats],
    generation_digest: str,
) -> SplitSummary:
    """Write the two halves and what is counted about them; the summary, which has their digests, last.

    Args:
        rows: all samples, as they stand in `all_samples.jsonl`.

    Raises:
        SnapshotChanged: the snapshot is frozen and a manifest would change. Nothing is written then.
    """
    _refuse_to_change_frozen_manifests(tree, rows, result)
    digests = {
        tree.all_samples.name: rows_sha256(rows),
        tree.split_train.name: write_rows(tree.split_train, result.train),
        tree.split_test.name: write_rows(tree.split_test, result.test),
    }
    storage.write_json(tree.generation_stats, _statistics(tree, rows, result, dropped, shards, generation_digest))
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
    generation_digest: str,
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
        generation_digest=generation_digest,
        shard_digests={stats.scene_name: stats.rows_sha256 for stats in sorted(shards, key=lambda s: s.scene_name)},
    )


def _sorted_counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
