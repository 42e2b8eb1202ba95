import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, Leak, SnapshotChanged
from thesis_assets.samples.sample_rows import read_rows, write_rows
from thesis_assets.schemas.samples import SplitSummary
from thesis_assets.splits.data_json import content_of_file, write_data_json
from thesis_assets.splits.freeze import freeze
from thesis_assets.splits.snapshot_guard import guard_snapshot
from thesis_assets_tests.splits.snapshots import PROMPT, SPLIT, write_snapshot


def rewrite(tree, train, test):
    """Manifests, summary and data.json that agree with each other, whatever they say."""
    write_rows(tree.split_train, train)
    write_rows(tree.split_test, test)
    summary = storage.read_json(tree.split_summary, SplitSummary)
    digests = {path.name: storage.sha256_file(path) for path in (tree.all_samples, tree.split_train, tree.split_test)}
    storage.write_json(tree.split_summary, summary.model_copy(update={"manifest_sha256": digests}))
    write_data_json(tree, train, test, PROMPT)


def test_a_sound_snapshot_passes_and_its_state_is_handed_on(tmp_path):
    tree = write_snapshot(tmp_path)
    state = guard_snapshot(tree, SPLIT, SPLIT.group_rules)
    assert (len(state.train), len(state.test)) == (2, 4)
    assert state.data_json_sha256 == content_of_file(tree.data_json).sha256


def test_a_pair_in_both_splits_is_a_leak(tmp_path):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    rewrite(tree, [*train, test[0]], test[1:])
    with pytest.raises(Leak) as caught:
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)
    assert caught.value.key == "group_non_leakage"
    assert "hi4d/pair01" in caught.value.found


def test_a_reserved_pair_in_training_is_a_leak(tmp_path):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    rewrite(tree, [*train, *test[2:]], test[:2])
    with pytest.raises(Leak) as caught:
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)
    assert caught.value.key == "reserved_scenes_not_in_train"


def test_a_group_by_other_rules_than_the_experiments_is_a_leak(tmp_path):
    tree = write_snapshot(tmp_path)
    with pytest.raises(Leak, match="share people"):
        guard_snapshot(tree, SPLIT, {"hi4d": "scene_name"})


def test_a_manifest_or_data_json_that_was_changed_alone_is_refused(tmp_path):
    tree = write_snapshot(tmp_path)
    content = tree.data_json.read_bytes()
    tree.data_json.write_bytes(content.replace(b"image.png", b"other.png", 1))
    with pytest.raises(SnapshotChanged, match=r"data\.json was not made of these manifests"):
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)
    tree.data_json.write_bytes(content)
    write_rows(tree.split_train, read_rows(tree.split_train)[:1])
    with pytest.raises(SnapshotChanged, match=r"split_train\.jsonl is not the file"):
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)


def test_a_split_that_leaves_samples_out_is_refused(tmp_path):
    tree = write_snapshot(tmp_path)
    rewrite(tree, read_rows(tree.split_train)[:1], read_rows(tree.split_test))
    with pytest.raises(SnapshotChanged, match="do not make up all samples"):
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)


@pytest.mark.parametrize("name", ["image.png", "target_image.jpg", "ref_image.jpg", "meta.json"])
def test_a_missing_sample_file_is_named(tmp_path, name):
    tree = write_snapshot(tmp_path)
    path = tree.samples_dir / read_rows(tree.split_test)[1].sample_id / name
    path.unlink()
    with pytest.raises(InvalidFile) as caught:
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)
    assert caught.value.file == str(path)


def test_a_missing_manifest_is_named_with_what_to_materialize(tmp_path):
    tree = write_snapshot(tmp_path)
    tree.data_json.unlink()
    with pytest.raises(InvalidFile) as caught:
        guard_snapshot(tree, SPLIT, SPLIT.group_rules)
    assert caught.value.file == str(tree.data_json)
    assert "difix_data" in caught.value.remedy


def test_freezing_keeps_the_digests_and_the_first_reason(tmp_path):
    tree = write_snapshot(tmp_path)
    frozen = freeze(tree, "tuning run a")
    assert frozen.data_json_sha256 == content_of_file(tree.data_json).sha256
    assert (frozen.n_train, frozen.n_test, frozen.generation_digest) == (2, 4, "g")
    assert freeze(tree, "tuning run b") == frozen
    guard_snapshot(tree, SPLIT, SPLIT.group_rules)


def test_a_frozen_snapshot_whose_files_were_exchanged_is_refused(tmp_path):
    tree = write_snapshot(tmp_path)
    freeze(tree, "a run")
    frozen = tree.frozen.read_bytes()
    tree.frozen.unlink()
    rewrite(tree, read_rows(tree.split_train), read_rows(tree.split_test)[::-1])
    tree.frozen.write_bytes(frozen)
    for look in (lambda: guard_snapshot(tree, SPLIT, SPLIT.group_rules), lambda: freeze(tree, "another")):
        with pytest.raises(SnapshotChanged, match="differ from what was frozen"):
            look()


def test_an_unfinished_snapshot_cannot_be_frozen(tmp_path):
    tree = write_snapshot(tmp_path)
    tree.split_summary.unlink()
    with pytest.raises(InvalidFile):
        freeze(tree, "a run")
    assert not tree.frozen.exists()
