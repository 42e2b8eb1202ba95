import shutil

import pytest

from thesis_assets.errors import SnapshotChanged
from thesis_assets.samples.export import export_shard
from thesis_assets.samples.integrity import check_manifest_matches_disk
from thesis_assets.samples.shards import collect_sample_set
from thesis_assets.samples.snapshot import set_aside, unnamed_samples
from thesis_assets_tests.samples.test_export import freeze_by_hand
from thesis_assets_tests.samples.tiny_scenes import roots, work, write_scene

KEPT, LEFT_OUT = "hi4d_pair00_dance", "hi4d_pair00_dance_slow"


@pytest.fixture
def tree(tmp_path):
    for name in (KEPT, LEFT_OUT):
        write_scene(roots(tmp_path), name)
        export_shard(work(tmp_path, name))
    return work(tmp_path).tree


def test_only_what_belongs_to_unnamed_samples_is_found(tree):
    assert unnamed_samples(tree, [KEPT, LEFT_OUT]) == {}
    assert list(unnamed_samples(tree, [KEPT])) == [LEFT_OUT]
    assert len(unnamed_samples(tree, [KEPT])[LEFT_OUT]) == 2


def test_moved_out_samples_leave_a_snapshot_that_agrees_with_its_manifest(tree):
    rows = collect_sample_set(tree, [KEPT]).rows
    outcome = check_manifest_matches_disk(tree, rows)
    assert [LEFT_OUT in offender for offender in outcome.offenders] == [True, True]
    assert set_aside(tree, [KEPT]) == {LEFT_OUT: 2}
    assert check_manifest_matches_disk(tree, rows).passed
    moved = tree.set_aside_dir / LEFT_OUT
    assert len(list((moved / "samples").iterdir())) == 2
    assert (moved / "scene_run" / "all_samples.jsonl").exists()
    assert set_aside(tree, [KEPT]) == {}


def test_a_sample_that_no_shard_names_is_moved_out_of_a_frozen_snapshot_too_and_its_shard_stays(tree):
    rows = collect_sample_set(tree, [KEPT, LEFT_OUT]).rows
    freeze_by_hand(tree)
    stray = tree.samples_dir / f"{KEPT}__tcam4__rccam16__tf000099__rf000099"
    shutil.copytree(tree.samples_dir / rows[0].sample_id, stray)
    assert not check_manifest_matches_disk(tree, rows).passed
    assert set_aside(tree, [KEPT, LEFT_OUT]) == {KEPT: 1}
    assert check_manifest_matches_disk(tree, rows).passed
    assert (tree.set_aside_dir / KEPT / "samples" / stray.name / "image.png").is_file()
    assert collect_sample_set(tree, [KEPT, LEFT_OUT]).rows == rows


def test_samples_of_a_shard_that_is_not_finished_stay(tree):
    tree.scene_run(KEPT).run_stats.unlink()
    assert set_aside(tree, [KEPT, LEFT_OUT]) == {}


def test_a_scene_that_comes_back_is_exported_again_and_may_leave_again(tmp_path, tree):
    set_aside(tree, [KEPT])
    assert export_shard(work(tmp_path, LEFT_OUT)).exported
    assert set_aside(tree, [KEPT]) == {LEFT_OUT: 2}


def test_nothing_leaves_a_frozen_snapshot(tree):
    freeze_by_hand(tree)
    with pytest.raises(SnapshotChanged, match="frozen"):
        set_aside(tree, [KEPT])
    assert collect_sample_set(tree, [LEFT_OUT]).rows
