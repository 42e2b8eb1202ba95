"""What a shard was made from: the digests by which it is current or stale, and by which a finished sample is used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.command_template import placeholders
from thesis_assets.experiments.generation import GenerationSpec
from thesis_assets.layout import DifixTree
from thesis_assets.samples.generation_config import generation_digest
from thesis_assets.samples.integrity import absent_sample_files, sample_faults
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.samples import SampleMeta, SampleProvenance, SampleRow, ShardStats

if TYPE_CHECKING:
    from thesis_assets.scenes.scene import Scene


@dataclass(frozen=True)
class ShardIdentity:
    """The digests of a shard, and its group, which stands in every row. Not the experiment's name: a fork has equal shards."""

    generation_digest: str
    scene_digest: str
    group_id: str

    def matches(self, stats: ShardStats) -> bool:
        return self == ShardIdentity(stats.generation_digest, stats.scene_digest, stats.group_id)


def shard_identity(scene: Scene, generation: GenerationSpec, group_id: str, *, exp_name: str) -> ShardIdentity:
    """The identity that a shard of this scene must have now: one stat a file that generation reads.

    Args:
        exp_name: counts only where the command that renders is told it: it may render for every experiment something else.
    """
    renders = generation.renders
    stamp = scene.scene_stamp(renders.source)
    if renders.command is not None and "exp_name" in placeholders(renders.command):
        stamp = storage.sha256_value([stamp, exp_name])
    return ShardIdentity(generation_digest(generation), stamp, group_id)


def finished_stats(tree: DifixTree, scene_name: str, identity: ShardIdentity) -> ShardStats | None:
    """The statistics of a shard that has this identity, whether or not its samples are all there still; else None."""
    path = tree.scene_run(scene_name).run_stats
    if not path.exists():
        return None
    try:
        stats = storage.read_json(path, ShardStats)
    except InvalidFile:
        return None  # written by another version, or damaged: the shard is exported again
    return stats if identity.matches(stats) else None


def is_whole(tree: DifixTree, stats: ShardStats) -> bool:
    """Whether a shard's own files are those of its statistics, and every sample file of it is there with content."""
    shard_tree = tree.scene_run(stats.scene_name)
    if not (shard_tree.all_samples.exists() and shard_tree.dropped_samples.exists()):
        return False
    if storage.sha256_file(shard_tree.all_samples) != stats.rows_sha256:
        return False
    return next(absent_sample_files(tree, read_rows(shard_tree.all_samples)), None) is None


def is_finished_sample(tree: DifixTree, row: SampleRow, expected: SampleProvenance) -> bool:
    """Whether a sample on disk is whole and made from the same things: then an interrupted export need not make it again."""
    folder = tree.samples_dir / row.sample_id
    try:
        meta = SampleMeta.model_validate_json((folder / "meta.json").read_bytes())
    except (OSError, ValueError):
        return False  # missing or damaged: it is made anew
    found = meta.provenance
    same = ("generation_digest", "scene_digest", "renderer", "png_encoder")
    return (
        meta.row() == row
        and all(getattr(found, name) == getattr(expected, name) for name in same)
        and not sample_faults(folder, row.sample_id)
    )
