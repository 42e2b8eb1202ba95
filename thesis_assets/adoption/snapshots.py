"""Bringing a snapshot that others wrote under our names: images by links, records written anew in today's form, then frozen.

Nothing is written into the tree it comes from. Does not belong here: the experiment file (`experiment_files`), the Dagster history.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from thesis_assets import storage
from thesis_assets.adoption.findings import Findings, FoundSnapshot
from thesis_assets.adoption.older_rows import FoundRows
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import take_over
from thesis_assets.samples.generation_config import generation_digest, write_generation_config
from thesis_assets.samples.sample_rows import rows_sha256, sample_of
from thesis_assets.samples.sample_set import SampleSet, write_sample_set
from thesis_assets.samples.shard_files import Shard, write_shard
from thesis_assets.samples.shard_identity import ADOPTED_FROM, shard_unit
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.samples import SampleMeta, SampleProvenance, SampleRow, ShardStats
from thesis_assets.splits.data_json import write_data_json
from thesis_assets.splits.freeze import freeze
from thesis_assets.splits.hold_out import SplitResult, group_finder
from thesis_assets.splits.manifests import write_split_manifests

IMAGES = ("image.png", "target_image.jpg", "ref_image.jpg")
NOT_RECORDED = "not recorded"
SAMPLES_A_LINE = 5000


def adopt_snapshot(
    found: FoundSnapshot,
    rows: FoundRows,
    spec: ExperimentSpec,
    tree: DifixTree,
    roots: SceneRoots,
    findings: Findings,
    on_progress: Callable[[str], None],
) -> None:
    """Make `tree` from a found snapshot and freeze it: what it was made from is not here to make it again.

    Args:
        spec: the experiment file that was written for it.
    """
    origin = f"{ADOPTED_FROM} {found.folder}"
    with storage.cell_lock(tree.lock("adopt"), f"the snapshot {tree.exp_name}"):
        write_generation_config(tree, spec.generation)
        _link_samples(rows, tree, origin, findings, on_progress)
        shards = [_write_shard(tree, scene, rows, spec, origin, roots) for scene in rows.scenes]
        write_sample_set(tree, SampleSet(rows.rows, [], shards))
        result = SplitResult(rows.half("train"), rows.half("test"), rows.groups("train"), rows.groups("test"))
        write_split_manifests(tree, rows.rows, result, spec.split, [], shards, generation_digest(spec.generation))
        write_data_json(tree, result.train, result.test, spec.generation.export.prompt)
        freeze(tree, reason=origin)


def _link_samples(
    rows: FoundRows,
    tree: DifixTree,
    origin: str,
    findings: Findings,
    on_progress: Callable[[str], None],
) -> None:
    """`samples/` by one rename: a folder a row, its images by links and its meta.json in today's form."""
    missing: list[Path] = []
    with storage.atomic_directory(tree.samples_dir) as staging:
        for number, row in enumerate(rows.rows, start=1):
            folder = staging / row.sample_id
            folder.mkdir()
            mode = "hard_link"
            for name in IMAGES:
                source = rows.folders[row.sample_id] / name
                if not source.is_file():
                    missing.append(source)
                    continue
                mode = storage.link_or_copy(source, folder / name)
            meta = SampleMeta(**row.__dict__, provenance=_provenance(origin, mode))
            (folder / "meta.json").write_bytes(storage.to_json_bytes(meta))
            if number % SAMPLES_A_LINE == 0:
                on_progress(f"{tree.exp_name}: {number}/{len(rows.rows)} samples linked")
    if missing:
        findings.complain(
            missing[0],
            f"{len(missing)} images of samples are missing, this one first",
            "every_sample_complete names them",
        )


def _provenance(origin: str, mode: str) -> SampleProvenance:
    return SampleProvenance(
        renderer=origin,
        mask_coverage=None,
        png_encoder=NOT_RECORDED,
        target_mode=mode,
        reference_mode=mode,
    )


def _write_shard(
    tree: DifixTree, scene: str, found: FoundRows, spec: ExperimentSpec, origin: str, roots: SceneRoots
) -> ShardStats:
    rows = [row for row in found.rows if row.scene_name == scene]
    height, width = _size(tree, rows)
    stats = ShardStats(
        scene_name=scene,
        dataset=rows[0].dataset,
        group_id=rows[0].group_id,
        target_cam_ids=sorted({row.target_cam_id for row in rows}),
        n_total_candidates=len(rows),
        n_saved=len(rows),
        n_dropped=0,
        rows_sha256=rows_sha256(rows),
        image_height=height,
        image_width=width,
        renderer=origin,
        png_encoder=NOT_RECORDED,
        seconds=0.0,
        bytes_written=0,
    )
    write_shard(tree.scene_run(scene), Shard(stats, rows, []))
    # By the rule, as one will ask for it; the rows keep the group that they came with.
    group = group_finder(spec.split.group_rules)(scene)[1]
    take_over(shard_unit(tree, roots, scene, spec.generation, group))
    return stats


def _size(tree: DifixTree, rows: list[SampleRow]) -> tuple[int, int]:
    from thesis_assets.images.codecs import image_size

    for row in rows:
        try:
            return image_size(tree.image(sample_of(row)))
        except InvalidFile:  # every_sample_complete names it
            continue
    return 0, 0
