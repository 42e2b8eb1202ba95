import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.samples.export import export_shard
from thesis_assets.samples.sample_rows import read_rows, write_rows
from thesis_assets.samples.shards import collect_sample_set, read_dropped, read_shard, write_dropped, write_sample_set
from thesis_assets.samples.snapshot import write_generation_config
from thesis_assets.schemas.samples import DroppedSample, FrozenSnapshot, ShardStats
from thesis_assets_tests.samples.tiny_scenes import roots, work, write_scene

NAMES = ("hi4d_pair01_hug", "hi4d_pair00_dance")


@pytest.fixture
def tree(tmp_path):
    for name in NAMES:
        write_scene(roots(tmp_path), name)
        export_shard(work(tmp_path, name, group=name.split("_")[1]))
    return work(tmp_path).tree


def test_shards_become_one_sorted_manifest_and_one_table_of_drops(tree):
    sample_set = collect_sample_set(tree, NAMES)
    write_sample_set(tree, sample_set)
    rows = read_rows(tree.all_samples)
    assert [row.scene_name for row in rows] == ["hi4d_pair00_dance"] * 2 + ["hi4d_pair01_hug"] * 2
    assert rows == sorted(rows, key=lambda row: row.sample_id)
    assert read_dropped(tree.dropped_samples) == []
    before = tree.all_samples.read_bytes()
    write_sample_set(tree, collect_sample_set(tree, NAMES[::-1]))
    assert tree.all_samples.read_bytes() == before


def test_a_shard_that_is_not_named_is_not_merged(tree):
    assert {row.scene_name for row in collect_sample_set(tree, NAMES[:1]).rows} == {"hi4d_pair01_hug"}


def test_a_missing_or_unfinished_or_changed_shard_is_refused_by_name(tree):
    with pytest.raises(InvalidFile, match="hi4d_pair02_hug` has no finished shard"):
        collect_sample_set(tree, [*NAMES, "hi4d_pair02_hug"])
    shard = tree.scene_run(NAMES[0])
    write_rows(shard.all_samples, read_rows(shard.all_samples)[:1])
    with pytest.raises(InvalidFile) as caught:
        collect_sample_set(tree, NAMES)
    assert caught.value.key == "rows_sha256"
    assert "`thesis-assets run --exp v1 --until scene_samples`" in caught.value.remedy


def test_shards_of_two_generation_sections_are_not_mixed(tmp_path, tree):
    other = work(tmp_path, NAMES[0], group="pair01", frames={"stride": 2})
    write_generation_config(tree, other.generation, replace=True)
    export_shard(other)
    with pytest.raises(SnapshotChanged, match="different generation sections"):
        collect_sample_set(tree, NAMES)


def test_two_shards_that_claim_one_sample_with_other_content_are_refused(tree):
    first, second = (tree.scene_run(name) for name in NAMES)
    rows = read_rows(first.all_samples)
    digest = write_rows(second.all_samples, [rows[0].model_copy(update={"group_id": "pair99"})])
    stats = storage.read_json(second.run_stats, ShardStats)
    storage.write_json(second.run_stats, stats.model_copy(update={"rows_sha256": digest}))
    with pytest.raises(InvalidFile, match="one sample id and other content"):
        collect_sample_set(tree, NAMES)


def test_a_frozen_manifest_is_rewritten_only_with_the_same_bytes(tree):
    sample_set = collect_sample_set(tree, NAMES)
    write_sample_set(tree, sample_set)
    digest = storage.sha256_file(tree.all_samples)
    storage.write_json(
        tree.frozen,
        FrozenSnapshot(
            exp_name="v1", frozen_at="", reason="test", data_json_sha256="",
            manifest_sha256={"all_samples.jsonl": digest}, n_train=0, n_test=0,
        ),
    )  # fmt: skip
    write_sample_set(tree, sample_set)
    with pytest.raises(SnapshotChanged, match=r"all_samples\.jsonl would change"):
        write_sample_set(tree, collect_sample_set(tree, NAMES[:1]))
    assert storage.sha256_file(tree.all_samples) == digest


def test_the_table_of_drops_survives_commas_quotes_and_line_ends(tmp_path):
    rows = [
        DroppedSample(
            sample_id="a",
            scene_name="a_b",
            target_cam_id=1,
            target_fname="000001",
            reason="size_mismatch",
            detail=detail,
        )
        for detail in ('8 x 8, "wanted" 16 x 16', "two\nlines", "")
    ]
    write_dropped(tmp_path / "dropped.csv", rows)
    assert read_dropped(tmp_path / "dropped.csv") == rows


def test_a_table_of_drops_with_another_reason_or_column_is_refused(tmp_path):
    path = tmp_path / "dropped.csv"
    path.write_text("sample_id,scene_name,target_cam_id,target_fname,reason,detail\na,a_b,1,000001,bored,\n")
    with pytest.raises(InvalidFile, match="not a dropped sample") as caught:
        read_dropped(path)
    assert caught.value.key == "line 2"
    path.write_text("sample_id,reason\n")
    with pytest.raises(InvalidFile, match="other columns"):
        read_dropped(path)


def test_a_shard_reads_back_as_it_was_written(tmp_path, tree):
    shard = read_shard(tree, NAMES[0])
    assert [row.group_id for row in shard.rows] == ["pair01", "pair01"]
    assert shard.stats.n_saved == 2
