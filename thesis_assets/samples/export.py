"""Exporting one scene's shard: render, write the triplets, publish the shard's files last.

Whatever is whole and made from the same inputs is kept, so that an interrupted export goes on where it stopped and a repeated
one does nothing. Does not belong here: which triplets there are (plan.py), how files are encoded (the images room).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidKey
from thesis_assets.experiments.generation import GenerationSpec
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, SampleId, check_key
from thesis_assets.samples.export_progress import ExportProgress
from thesis_assets.samples.generation_config import write_generation_config
from thesis_assets.samples.plan import ScenePlan, plan_scene
from thesis_assets.samples.preview import triplet_sheet
from thesis_assets.samples.sample_rows import rows_sha256
from thesis_assets.samples.shard_files import Shard, sorted_dropped, write_shard
from thesis_assets.samples.shard_identity import ShardIdentity, finished_stats, is_whole, shard_identity
from thesis_assets.samples.shared_shards import link_equal_shard
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change
from thesis_assets.samples.triplet_export import ExportedTriplets, export_triplets
from thesis_assets.schemas.samples import SampleRow, ShardStats

if TYPE_CHECKING:
    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.scenes.scene import Scene

__all__ = ["ShardRecord", "ShardWork", "export_shard", "shard_is_current", "write_generation_config"]


@dataclass(frozen=True)
class ShardWork:
    """One scene of one experiment. Picklable: it goes to another process or host.

    Attributes:
        device: where renders are made: `cpu`, or a CUDA device.
        threads: that encode and write.
    """

    tree: DifixTree
    roots: SceneRoots
    scene_name: str
    generation: GenerationSpec
    group_id: str
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        check_key(self.scene_name, "scene_name")
        check_key(self.group_id, "group_id")


@dataclass(frozen=True)
class ShardRecord:
    """What became of a shard.

    Attributes:
        exported: False where it was current.
        preview: a small JPEG; None where nothing was made.
        linked: taken over from another experiment that has an equal shard; nothing was rendered.
    """

    stats: ShardStats
    exported: bool
    preview: bytes | None
    linked: bool = False


def shard_is_current(work: ShardWork) -> bool:
    """Whether the shard is finished, made from what is there now, and all its files are there. Opens no image.

    Raises:
        InvalidScene: the scene cannot be opened.
    """
    from thesis_assets.scenes.scene import open_scene

    scene = open_scene(work.roots, work.scene_name)
    stats = finished_stats(work.tree, scene.name, _identity(work, scene))
    return stats is not None and is_whole(work.tree, stats)


def export_told_shard(work: ShardWork) -> ShardRecord:
    """As `export_shard`, as an item of a map: its progress is told to who started it."""
    return export_shard(work, tell)


def export_shard(work: ShardWork, on_progress: Callable[[str], None] | None = None) -> ShardRecord:
    """Bring one scene's shard up to date.

    One bad frame drops one sample. Same scene, same generation section: same pixels, same rows and drops, byte for byte,
    whatever the number of threads.

    Args:
        on_progress: called with a short line every few seconds.

    Raises:
        CellLocked: another process exports the scene.
        DiskFull: no space is left; what is published stays, and the next export goes on from there.
        SnapshotChanged: the snapshot has samples of another generation section, or is frozen and the shard would change.
        InvalidScene: the scene cannot be read as one.
        InvalidExperiment: the generation section does not fit the scene.
        NotBuiltYet: a declared option does not exist in this version.
    """
    from thesis_assets.scenes.scene import open_scene

    tree = work.tree
    with storage.full_disk_explained(tree.base):
        write_generation_config(tree, work.generation)
    with (
        storage.full_disk_explained(tree.base),
        storage.cell_lock(tree.lock(f"scene-{work.scene_name}"), f"the scene {work.scene_name} of {tree.exp_name}"),
    ):
        scene = open_scene(work.roots, work.scene_name)
        identity = _identity(work, scene)
        stats = finished_stats(tree, scene.name, identity)
        if stats is not None and is_whole(tree, stats):
            return ShardRecord(stats, exported=False, preview=None)
        if stats is None:
            _refuse_to_change_a_frozen_shard(work, identity)
            # Without it the shard is unfinished, until it is finished anew.
            tree.scene_run(scene.name).run_stats.unlink(missing_ok=True)
            linked = link_equal_shard(tree, scene.name, identity, work.generation.export.link_mode)
            if linked is not None:
                _remove_orphans(tree, scene.name, linked.rows)
                return ShardRecord(linked.stats, exported=True, preview=triplet_sheet(tree, linked.rows), linked=True)
        return _export(work, scene, identity, stats, on_progress)


def _identity(work: ShardWork, scene: Scene) -> ShardIdentity:
    return shard_identity(scene, work.generation, work.group_id, exp_name=work.tree.exp_name)


def _refuse_to_change_a_frozen_shard(work: ShardWork, identity: ShardIdentity) -> None:
    if frozen_snapshot(work.tree) is not None:
        raise refuse_change(
            work.tree,
            f"and the shard of `{work.scene_name}` would be new, or made from other inputs",
            key=f"scene_runs.{work.scene_name}",
            found=f"generation {identity.generation_digest[:12]}, scene {identity.scene_digest[:12]}",
            wanted="the digests in the shard's run_stats.json",
        )


def _export(
    work: ShardWork,
    scene: Scene,
    identity: ShardIdentity,
    repaired: ShardStats | None,
    on_progress: Callable[[str], None] | None,
) -> ShardRecord:
    """Make what is missing and publish. `repaired`: the statistics of a finished shard that only lost some files."""
    started = time.monotonic()
    plan = plan_scene(scene, work.generation, work.group_id)
    progress = ExportProgress(scene.name, len(plan.candidates), on_progress)
    made = export_triplets(work.tree, scene, plan, work.generation, identity, work.device, work.threads, progress)
    digest = rows_sha256(made.rows)
    if repaired is not None and digest != repaired.rows_sha256:
        _refuse_a_different_repair(work, digest, repaired)
    _remove_orphans(work.tree, scene.name, made.rows)
    stats = _statistics(scene, plan, made, identity, digest, time.monotonic() - started)
    shard = Shard(stats, made.rows, sorted_dropped([*plan.dropped, *made.dropped]))
    write_shard(work.tree.scene_run(scene.name), shard)
    return ShardRecord(stats, exported=True, preview=triplet_sheet(work.tree, made.rows, made.thumbnails))


def _refuse_a_different_repair(work: ShardWork, digest: str, repaired: ShardStats) -> None:
    """The inputs have the digests they had, yet give other samples: of a frozen snapshot that cannot be accepted."""
    if frozen_snapshot(work.tree) is not None:
        raise refuse_change(
            work.tree,
            f"and the repaired shard of `{work.scene_name}` holds other samples",
            key="rows_sha256",
            found=digest,
            wanted=repaired.rows_sha256,
        )


def _remove_orphans(tree: DifixTree, scene_name: str, rows: list[SampleRow]) -> None:
    """Take away this scene's sample folders that no row names: of an earlier generation section, or of a killed export."""
    kept = {row.sample_id for row in rows}
    if not tree.samples_dir.is_dir():
        return
    for folder in tree.samples_dir.iterdir():
        if scene_name in folder.name and folder.name not in kept and _sample_of_folder(folder.name, scene_name):
            shutil.rmtree(folder)


def _sample_of_folder(name: str, scene_name: str) -> bool:
    """Whether a folder is a sample of the scene, finished or (`.tmp-<sample_id>.<word>.partial`) on its way."""
    if name.startswith(TEMPORARY_PREFIX):
        name = name.removeprefix(TEMPORARY_PREFIX).rsplit(".", 2)[0]
    try:
        return SampleId.parse(name).scene_name == scene_name
    except InvalidKey:
        return False


def _statistics(
    scene: Scene, plan: ScenePlan, made: ExportedTriplets, identity: ShardIdentity, digest: str, seconds: float
) -> ShardStats:
    height, width = scene.image_size(plan.target_cam_ids[0])
    return ShardStats(
        scene_name=scene.name,
        dataset=scene.dataset,
        group_id=identity.group_id,
        target_cam_ids=plan.target_cam_ids,
        n_total_candidates=plan.n_total_candidates,
        n_saved=len(made.rows),
        n_dropped=plan.n_total_candidates - len(made.rows),
        generation_digest=identity.generation_digest,
        scene_digest=identity.scene_digest,
        rows_sha256=digest,
        image_height=height,
        image_width=width,
        renderer=made.renderer,
        png_encoder=made.png_encoder,
        seconds=round(seconds, 3),
        bytes_written=made.bytes_written,
    )
