"""Scenes that an experiment no longer names: finding what they left in a snapshot, and moving it out on request.

Nothing of them is merged into the manifests, and nothing is thrown away: the folders keep their names under `set_aside/`.
"""

import contextlib
import shutil
from collections.abc import Iterable

from thesis_assets import storage
from thesis_assets.errors import InvalidKey
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, SampleId, check_key
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change


def unnamed_scenes(tree: DifixTree, scene_names: Iterable[str]) -> dict[str, list[str]]:
    """Scenes that have a shard or samples in the snapshot and are not in `scene_names`: each with its sample ids, sorted."""
    named = set(scene_names)
    found: dict[str, list[str]] = {}
    if tree.scene_runs_dir.is_dir():
        for folder in tree.scene_runs_dir.iterdir():
            if folder.is_dir() and folder.name not in named:
                found[folder.name] = []
    if tree.samples_dir.is_dir():
        for folder in tree.samples_dir.iterdir():
            if folder.name.startswith(TEMPORARY_PREFIX):
                continue
            with contextlib.suppress(InvalidKey):  # not a sample's name: `manifest_matches_disk` speaks of it
                scene_name = SampleId.parse(folder.name).scene_name
                if scene_name not in named:
                    found.setdefault(scene_name, []).append(folder.name)
    return {scene_name: sorted(found[scene_name]) for scene_name in sorted(found)}


def set_aside(tree: DifixTree, scene_names: Iterable[str]) -> dict[str, int]:
    """Move samples and shards of scenes that are not in `scene_names` out of the way. Returns how many samples, by scene.

    Collect, split and write data.json afterwards.

    Raises:
        SnapshotChanged: the snapshot is frozen.
        CellLocked: one of the scenes is being exported.
    """
    unnamed = unnamed_scenes(tree, scene_names)
    if unnamed and frozen_snapshot(tree) is not None:
        raise refuse_change(
            tree,
            "and samples would be taken out of it",
            key="scenes",
            found=", ".join(list(unnamed)[:20]),
            wanted="the scenes that were frozen",
        )
    for scene_name, sample_ids in unnamed.items():
        with storage.cell_lock(tree.lock(f"scene-{scene_name}"), f"the scene {scene_name} of {tree.exp_name}"):
            _move(tree, scene_name, sample_ids)
    return {scene_name: len(sample_ids) for scene_name, sample_ids in unnamed.items()}


def _move(tree: DifixTree, scene_name: str, sample_ids: list[str]) -> None:
    place = tree.set_aside_dir / check_key(scene_name, "scene_name")
    shard = tree.scene_run(scene_name)
    shard.run_stats.unlink(missing_ok=True)  # from here on the shard is unfinished
    places = {tree.samples_dir / sample_id: place / "samples" / sample_id for sample_id in sample_ids}
    places[shard.base] = place / "scene_run"
    for source, target in places.items():
        if source.exists():
            if target.exists():
                shutil.rmtree(target)  # set aside earlier, and exported again since
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
