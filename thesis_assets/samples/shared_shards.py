"""Equal shards of other experiments: linked in place of being rendered again, so that a fork costs only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import DifixTree
from thesis_assets.samples.shard_files import Shard, read_shard, write_shard
from thesis_assets.samples.shard_identity import ShardIdentity, finished_stats, is_whole
from thesis_assets.schemas.samples import SAMPLE_FILES


def link_equal_shard(
    tree: DifixTree, scene_name: str, identity: ShardIdentity, link_mode: Literal["auto", "copy"]
) -> Shard | None:
    """Take over a whole shard of this identity from another experiment under the same root.

    Each sample's folder appears by one rename, the shard's files last. Returns None where no experiment has such a shard.
    """
    for source in _siblings(tree, scene_name):
        stats = finished_stats(source, scene_name, identity)
        if stats is None or not is_whole(source, stats):
            continue
        started = time.monotonic()
        try:
            shard = read_shard(source, scene_name)
            for row in shard.rows:
                _link_sample(source, tree, row.sample_id, link_mode)
        except (FileNotFoundError, InvalidFile):
            continue  # it was exported anew while we looked
        if finished_stats(source, scene_name, identity) != stats:
            continue  # An export anew takes the statistics away first: what was linked may be of two makings.
        taken = stats.model_copy(update={"seconds": round(time.monotonic() - started, 3), "bytes_written": 0})
        linked = Shard(taken, shard.rows, shard.dropped)
        write_shard(tree.scene_run(scene_name), linked)
        return linked
    return None


def has_equal_shard(tree: DifixTree, scene_name: str, identity: ShardIdentity) -> bool:
    """Whether the experiment itself or another one under the same root has a whole shard of this identity."""
    candidates = [tree, *_siblings(tree, scene_name)]
    return any(
        (stats := finished_stats(candidate, scene_name, identity)) is not None and is_whole(candidate, stats)
        for candidate in candidates
    )


def _siblings(tree: DifixTree, scene_name: str) -> Iterator[DifixTree]:
    """Experiments under the same root that have a finished shard of the scene, by name."""
    for stats in sorted(tree.root.glob(f"*/scene_runs/{scene_name}/run_stats.json")):
        try:
            sibling = DifixTree(tree.root, stats.parents[2].name)
        except InvalidKey:
            continue  # no experiment of ours
        if sibling.exp_name != tree.exp_name:
            yield sibling


def _link_sample(source: DifixTree, tree: DifixTree, sample_id: str, link_mode: Literal["auto", "copy"]) -> None:
    with storage.atomic_directory(tree.samples_dir / sample_id) as folder:
        for name in SAMPLE_FILES:
            storage.link_or_copy(source.samples_dir / sample_id / name, folder / name, link_mode=link_mode)
