"""Lineage of a snapshot: each link is ticked only where it was compared with something recorded, and breaks where it differs."""

import os
from pathlib import Path

import pytest

from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Place, Unit, Wanted, begin
from thesis_assets.samples.sample_rows import read_rows, sample_of, write_rows
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.lineage import LineageLink
from thesis_assets.splits.lineage import data_lineage, sample_lineage
from thesis_assets.splits.snapshot_guard import shard_place
from thesis_assets.storage import write_json
from thesis_assets_tests.provenance.test_provenance import LONG_AGO
from thesis_assets_tests.splits.snapshots import as_older, shard_stats, write_snapshot

SCENE = "hi4d_pair00_dance"


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    return SceneRoots(*(tmp_path / name for name in ("gt", "estimated", "registry", "renders")))


@pytest.fixture
def tree(tmp_path: Path, roots: SceneRoots) -> DifixTree:
    """With shards that were made from one photograph a scene."""
    tree = write_snapshot(tmp_path / "data")
    rows = read_rows(tree.all_samples)
    for scene in sorted({row.scene_name for row in rows}):
        photograph = roots.canonical_gt / scene / "images" / "4" / "000000.jpg"
        photograph.parent.mkdir(parents=True)
        photograph.write_text(scene)
        files = {f"canonical_gt/{scene}/images/4/000000.jpg": photograph}
        making = begin(Unit(scene, shard_place(tree, scene), Wanted("scene_samples", "1", files=files)))
        shard, of_scene = tree.scene_run(scene), [row for row in rows if row.scene_name == scene]
        write_rows(shard.all_samples, of_scene)
        write_json(shard.run_stats, shard_stats(scene, rows))
        images = [path for row in of_scene for path in (tree.samples_dir / row.sample_id).iterdir()]
        making.finish([shard.all_samples, shard.run_stats, *images])
    return tree


def states(link: LineageLink) -> dict[str, str]:
    found = {f"{link.kind} {link.name}": link.state}
    for below in link.made_from:
        found |= states(below)
    return found


def test_what_was_compared_is_ticked_down_to_the_scenes(tree: DifixTree, roots: SceneRoots) -> None:
    link = data_lineage(tree, roots)
    assert set(states(link).values()) == {"verified"}, link
    assert f"scene {SCENE}" in states(link)
    row = read_rows(tree.split_train)[0]
    assert set(states(sample_lineage(tree, sample_of(row), roots)).values()) == {"verified"}


def test_a_changed_photograph_and_a_changed_sample_break_the_chain_where_they_stand(
    tree: DifixTree, roots: SceneRoots
) -> None:
    (roots.canonical_gt / SCENE / "images" / "4" / "000000.jpg").write_text("another")
    image = tree.base / read_rows(tree.split_train)[0].image_path
    image.write_bytes(b"y")
    broken = {link.kind: link.note for link in data_lineage(tree, roots).breaks()}
    assert set(broken) == {"scene", "shard"}
    assert "images/4/000000.jpg changed" in broken["scene"]
    assert tree.relative(image) in broken["shard"]
    row = read_rows(tree.split_train)[0]
    assert next(sample_lineage(tree, sample_of(row), roots).breaks()).kind == "sample"


def test_a_scene_that_is_gone_is_known_by_the_record_alone(tree: DifixTree, roots: SceneRoots) -> None:
    (roots.canonical_gt / SCENE / "images" / "4" / "000000.jpg").unlink()
    link = data_lineage(tree, roots)
    assert list(link.breaks()) == []
    assert states(link)[f"scene {SCENE}"] == "recorded"


def test_of_a_version_without_records_shards_and_scenes_are_not_ticked(tree: DifixTree, roots: SceneRoots) -> None:
    as_older(tree)
    link = data_lineage(tree, roots)
    assert list(link.breaks()) == []
    assert states(link)[f"shard {SCENE}"] == states(link)[f"scene {SCENE}"] == "recorded"
    assert states(link)["data difix/data.json"] == "verified"


def test_an_edit_that_kept_size_and_time_is_known_to_later_looks_once_the_chain_broke_on_it(
    tree: DifixTree, roots: SceneRoots
) -> None:
    unit = Unit("", Place(tree.base, tree.made_from("difix_data")), Wanted("difix_data", "", given={}))
    content = tree.data_json.read_bytes()
    os.utime(tree.data_json, (LONG_AGO, LONG_AGO))
    assert unit.look().is_made
    tree.data_json.write_bytes(content.replace(b"image.png", b"other.png", 1))
    os.utime(tree.data_json, (LONG_AGO, LONG_AGO))
    assert unit.look().is_made
    assert data_lineage(tree, roots).state == "broken"
    assert unit.look().state == "damaged"
