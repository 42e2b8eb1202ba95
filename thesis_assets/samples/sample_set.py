"""All samples of a snapshot: the shards of its scenes, collected into `all_samples.jsonl` and `dropped_samples.csv`."""

from collections.abc import Sequence
from dataclasses import dataclass

from thesis_assets.errors import SnapshotChanged
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Older, Place, Unit, Wanted, begin, versions_of
from thesis_assets.samples.generation_config import other_sections
from thesis_assets.samples.sample_rows import read_rows, rows_sha256, unique_rows, write_rows
from thesis_assets.samples.shard_files import read_shard, sorted_dropped, write_dropped
from thesis_assets.samples.snapshot import frozen_snapshot, require_same_manifest
from thesis_assets.schemas.samples import DroppedSample, SampleRow, ShardStats

__all__ = ["SampleSet", "collect_sample_set", "read_rows", "sample_set_unit", "write_sample_set"]

SAMPLE_SET_VERSION = "1"


@dataclass(frozen=True)
class SampleSet:
    """Rows sorted by sample id, drops by scene and sample id, one `ShardStats` a scene, by name."""

    rows: list[SampleRow]
    dropped: list[DroppedSample]
    shards: list[ShardStats]


def collect_sample_set(tree: DifixTree, scene_names: Sequence[str]) -> SampleSet:
    """Read the shards of the named scenes, and no other: one that the experiment no longer names is left out.

    Raises:
        InvalidFile: a shard is missing, unfinished or damaged; or two rows have one sample id and other content.
        SnapshotChanged: the shards were made by different generation sections.
    """
    shards = [read_shard(tree, scene_name) for scene_name in sorted(set(scene_names))]
    others = other_sections(tree, sorted(set(scene_names)))
    if others:
        raise SnapshotChanged(
            "the shards were made by different generation sections",
            file=tree.scene_runs_dir,
            key="generation",
            found="; ".join(others[:20]),
            wanted="one generation section for all scenes of a snapshot",
            remedy="export the scenes again: materialize scene_samples of the experiment",
        )
    return SampleSet(
        rows=unique_rows([row for shard in shards for row in shard.rows], tree.scene_runs_dir),
        dropped=sorted_dropped([row for shard in shards for row in shard.dropped]),
        shards=[shard.stats for shard in shards],
    )


def sample_set_unit(tree: DifixTree, scene_names: Sequence[str]) -> Unit:
    """The sample set of these scenes, made from their shards as they are now."""
    scenes = sorted(set(scene_names))
    shards = {f"scene_runs/{name}": Place(tree.base, tree.scene_run(name).made_from) for name in scenes}
    wanted = Wanted(
        step="sample_set",
        code_version=SAMPLE_SET_VERSION,
        options={"scenes": scenes},
        made=versions_of(shards),
    )
    return Unit("sample_set", Place(tree.base, tree.made_from("sample_set")), wanted, lambda: _older(tree))


def _older(tree: DifixTree) -> Older | None:
    """A set that a version without records left. One that nothing was made of was perhaps not finished."""
    files = [tree.all_samples, tree.dropped_samples]
    return Older(files) if all(path.is_file() for path in [*files, tree.generation_stats]) else None


def write_sample_set(tree: DifixTree, sample_set: SampleSet) -> None:
    """Write `manifests/all_samples.jsonl` and `meta/dropped_samples.csv`.

    Raises:
        SnapshotChanged: the snapshot is frozen and its rows would change.
    """
    if frozen_snapshot(tree) is not None:
        require_same_manifest(tree, tree.all_samples.name, rows_sha256(sample_set.rows))
    making = begin(sample_set_unit(tree, [stats.scene_name for stats in sample_set.shards]))
    write_rows(tree.all_samples, sample_set.rows)
    write_dropped(tree.dropped_samples, sample_set.dropped)
    making.finish([tree.all_samples, tree.dropped_samples])
