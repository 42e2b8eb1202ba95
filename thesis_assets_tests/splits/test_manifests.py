import pytest

from thesis_assets import storage
from thesis_assets.errors import SnapshotChanged
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.samples import DroppedSample, GenerationStats, SplitSummary
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets_tests.splits.rows import pair_rows
from thesis_assets_tests.splits.snapshots import SPLIT, write_snapshot, write_splits


def test_the_summary_counts_what_the_manifests_hold_and_has_their_digests(tmp_path):
    tree = write_snapshot(tmp_path)
    summary = storage.read_json(tree.split_summary, SplitSummary)
    assert (summary.n_all, summary.n_train, summary.n_test) == (6, 2, 4)
    assert summary.datasets == ["hi4d"]
    assert summary.train_group_ids == ["hi4d/pair00"]
    assert summary.test_group_ids == ["hi4d/pair01", "hi4d/pair02"]
    assert summary.group_ids == ["hi4d/pair00", "hi4d/pair01", "hi4d/pair02"]
    assert summary.scene_runs == ["hi4d_pair00_dance", "hi4d_pair01_dance", "hi4d_pair02_dance"]
    assert summary.reserved_scenes == ["hi4d_pair02_fight"]
    assert summary.split_spec == SPLIT.model_dump(mode="json")
    paths = (tree.all_samples, tree.split_train, tree.split_test)
    assert summary.manifest_sha256 == {path.name: storage.sha256_file(path) for path in paths}
    assert len(read_rows(tree.split_train)) == 2


def test_the_statistics_count_scenes_groups_and_drops(tmp_path):
    tree = write_snapshot(tmp_path)
    rows = read_rows(tree.all_samples)
    dropped = [
        DroppedSample(
            sample_id=f"x{i}", scene_name="hi4d_pair00_dance", target_cam_id=1, target_fname="000000", reason=reason
        )
        for i, reason in enumerate(["size_mismatch", "missing_render", "missing_render"])
    ]
    write_splits(tree, rows, dropped=dropped)
    stats = storage.read_json(tree.generation_stats, GenerationStats)
    assert stats.output_exp_dir == str(tree.base)
    assert stats.n_scene_runs == 3
    assert (stats.n_all_samples, stats.n_train_samples, stats.n_test_samples, stats.n_dropped_samples) == (6, 2, 4, 3)
    assert stats.scene_sample_counts["hi4d_pair01_dance"] == 2
    assert stats.dataset_sample_counts == {"hi4d": 6}
    assert stats.group_sample_counts == {"hi4d/pair00": 2, "hi4d/pair01": 2, "hi4d/pair02": 2}
    assert stats.dropped_by_reason == {"missing_render": 2, "size_mismatch": 1}
    assert list(stats.shard_digests) == stats.scene_runs


def test_the_same_rows_and_split_give_the_same_bytes(tmp_path):
    names = ("split_train.jsonl", "split_test.jsonl", "split_summary.json")
    first, second = write_snapshot(tmp_path / "a"), write_snapshot(tmp_path / "b")
    for name in names:
        assert (first.manifests_dir / name).read_bytes() == (second.manifests_dir / name).read_bytes()


def test_another_hold_out_of_a_frozen_snapshot_is_refused_and_writes_nothing(tmp_path):
    tree = write_snapshot(tmp_path)
    rows = read_rows(tree.all_samples)
    freeze(tree, "a run")
    before = tree.split_train.read_bytes(), tree.split_summary.read_bytes()
    write_splits(tree, rows)
    with pytest.raises(SnapshotChanged, match=r"split_train\.jsonl would change") as caught:
        write_splits(tree, rows, SPLIT.model_copy(update={"test_groups": {"hi4d": ("pair00",)}}))
    assert "fork" in caught.value.remedy
    with pytest.raises(SnapshotChanged, match=r"all_samples\.jsonl would change"):
        write_splits(tree, pair_rows("pair00", "pair01", "pair02", "pair03"))
    assert (tree.split_train.read_bytes(), tree.split_summary.read_bytes()) == before
