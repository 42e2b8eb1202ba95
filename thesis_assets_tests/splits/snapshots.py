"""A whole snapshot on disk, with sample files that hold their names: what the split's files need, and no pixel."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from thesis_assets import storage
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Unit, Wanted, begin
from thesis_assets.samples.sample_rows import read_rows, rows_sha256, write_rows
from thesis_assets.schemas.samples import SAMPLE_FILES, DroppedSample, SampleRow, ShardStats, SplitSummary
from thesis_assets.splits.data_json import content_of_file, write_data_json
from thesis_assets.splits.manifests import split_rows, write_split_manifests
from thesis_assets.splits.snapshot_guard import shard_place
from thesis_assets_tests.splits.rows import group_of, pair_rows

SPLIT = SplitSpec(test_groups={"hi4d": ("pair01",)}, reserved_scenes=("hi4d_pair02_fight",))
PROMPT = "remove degradation"


def shard_stats(scene_name: str, rows: Sequence[SampleRow]) -> ShardStats:
    of_scene = [row for row in rows if row.scene_name == scene_name]
    return ShardStats(
        scene_name=scene_name,
        dataset=of_scene[0].dataset,
        group_id=of_scene[0].group_id,
        target_cam_ids=[16],
        n_total_candidates=len(of_scene),
        n_saved=len(of_scene),
        n_dropped=0,
        rows_sha256=rows_sha256(of_scene),
        image_height=16,
        image_width=16,
        renderer="precomputed",
        png_encoder="isal",
        seconds=1.0,
        bytes_written=1,
    )


def write_splits(
    tree: DifixTree, rows: Sequence[SampleRow], split: SplitSpec = SPLIT, dropped: Sequence[DroppedSample] = ()
) -> SplitSummary:
    result = split_rows(rows, split, group_of)
    shards = [shard_stats(name, rows) for name in sorted({row.scene_name for row in rows})]
    return write_split_manifests(tree, rows, result, split, dropped, shards)


def write_snapshot(root: Path, *pairs: str, exp: str = "v1") -> DifixTree:
    tree = DifixTree(root, exp)
    rows = pair_rows(*(pairs or ("pair00", "pair01", "pair02")))
    write_rows(tree.all_samples, rows)
    for row in rows:
        for name in SAMPLE_FILES:
            storage.write_bytes(tree.samples_dir / row.sample_id / name, f"{row.sample_id} {name}".encode())
    write_splits(tree, rows)
    result = split_rows(rows, SPLIT, group_of)
    write_data_json(tree, result.train, result.test, PROMPT)
    return tree


def record_shards(tree: DifixTree) -> None:
    """Records of the shards, as the export writes them."""
    rows = read_rows(tree.all_samples)
    for scene in sorted({row.scene_name for row in rows}):
        unit = Unit(scene, shard_place(tree, scene), Wanted("scene_samples", "1"))
        tree.scene_run(scene).base.mkdir(parents=True, exist_ok=True)
        names = [(row.sample_id, name) for row in rows if row.scene_name == scene for name in SAMPLE_FILES]
        begin(unit).finish([tree.samples_dir / sample_id / name for sample_id, name in names])


def as_older(tree: DifixTree) -> None:
    """As the version before left it: no records, and data.json named by its bytes."""
    for path in [*tree.base.rglob("*made_from.json"), *tree.base.rglob("*made_from.stats.json")]:
        path.unlink()
    named = content_of_file(tree.data_json).sha256.encode()
    of_bytes = storage.sha256_file(tree.data_json).encode()
    for path in [tree.frozen, *tree.tuning_runs_dir.rglob("*.json")]:
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(named, of_bytes))


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the caches beside records."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".stats.json")
    }


def copied_without_times(tree: DifixTree, root: Path) -> DifixTree:
    """As `cp -r` does."""
    shutil.copytree(tree.root, root, copy_function=shutil.copyfile)
    return DifixTree(root, tree.exp_name)


def moved(tree: DifixTree, root: Path) -> DifixTree:
    """As `mv` does."""
    shutil.move(tree.root, root)
    return DifixTree(root, tree.exp_name)
