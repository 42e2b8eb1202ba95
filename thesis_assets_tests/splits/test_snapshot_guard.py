import os

import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, Leak, SnapshotChanged
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Place, Unit, Wanted
from thesis_assets.samples.sample_rows import read_rows, write_rows
from thesis_assets.samples.snapshot import freeze_fault, mend_freeze
from thesis_assets.schemas.samples import FrozenSnapshot, SplitSummary
from thesis_assets.splits.data_json import content_of_file, renew_paths, write_data_json
from thesis_assets.splits.snapshot_guard import freeze, guard_snapshot
from thesis_assets_tests.provenance.test_provenance import LONG_AGO
from thesis_assets_tests.splits.snapshots import PROMPT, SPLIT, write_snapshot
from thesis_assets_tests.tuning.snapshots import make_config_file


def rewrite(tree, train, test):
    """Manifests, summary and data.json that agree with each other, whatever they say; as a version without records left them."""
    write_rows(tree.split_train, train)
    write_rows(tree.split_test, test)
    summary = storage.read_json(tree.split_summary, SplitSummary)
    digests = {path.name: storage.sha256_file(path) for path in (tree.all_samples, tree.split_train, tree.split_test)}
    storage.write_json(tree.split_summary, summary.model_copy(update={"manifest_sha256": digests}))
    write_data_json(tree, train, test, PROMPT)
    for asset in ("sample_set", "split_manifests", "difix_data"):
        tree.made_from(asset).unlink(missing_ok=True)


def test_a_sound_snapshot_passes_and_its_state_is_handed_on(tmp_path):
    tree = write_snapshot(tmp_path)
    state = guard_snapshot(tree, SPLIT)
    assert (len(state.train), len(state.test)) == (2, 4)
    assert state.data_json_sha256 == content_of_file(tree.data_json).sha256


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{}"])
def test_a_lost_freeze_is_told_holds_all_the_same_and_is_written_again(tmp_path, content):
    tree = write_snapshot(tmp_path)
    state = guard_snapshot(tree, SPLIT)
    frozen = freeze(tree, "tuning run r1")
    config = make_config_file({}).model_copy(
        update={"run_name": "r1", "n_train_samples": frozen.n_train, "n_test_samples": frozen.n_test}
    )
    held = {"data_json_sha256": state.data_json_sha256, "manifest_sha256": state.manifest_sha256}
    storage.write_json(tree.tuning_run("r1").train_config, config.model_copy(update=held))
    assert freeze_fault(tree) is None
    tree.frozen.unlink()
    if content is not None:
        tree.frozen.write_bytes(content)
    assert "meta/frozen.json" in freeze_fault(tree)
    assert "r1" in freeze_fault(tree)
    with pytest.raises(SnapshotChanged, match=r"and data\.json would change"):
        write_data_json(tree, state.train, state.test, "another prompt")
    mend_freeze(tree)
    assert freeze_fault(tree) is None
    again = storage.read_json(tree.frozen, FrozenSnapshot)
    assert again.manifest_sha256 == frozen.manifest_sha256
    assert (again.data_json_sha256, again.n_train) == (frozen.data_json_sha256, frozen.n_train)


def test_a_garbled_freeze_that_no_training_tells_is_refused_with_what_to_do(tmp_path):
    tree = write_snapshot(tmp_path)
    assert freeze_fault(tree) is None
    tree.frozen.write_bytes(b"\xff")
    with pytest.raises(InvalidFile, match="no training depends on the snapshot: remove the file"):
        mend_freeze(tree)
    config = tree.tuning_run("r1").train_config
    config.parent.mkdir(parents=True)
    config.write_bytes(b"\xff")
    with pytest.raises(InvalidFile, match="restore it from a copy"):
        mend_freeze(tree)


def test_a_pair_in_both_splits_is_a_leak(tmp_path):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    rewrite(tree, [*train, test[0]], test[1:])
    with pytest.raises(Leak) as caught:
        guard_snapshot(tree, SPLIT)
    assert caught.value.key == "group_non_leakage"
    assert "hi4d/pair01" in caught.value.found


def test_a_reserved_pair_in_training_is_a_leak(tmp_path):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    rewrite(tree, [*train, *test[2:]], test[:2])
    with pytest.raises(Leak) as caught:
        guard_snapshot(tree, SPLIT)
    assert caught.value.key == "reserved_scenes_not_in_train"


def test_a_group_by_other_rules_than_the_experiments_is_a_leak(tmp_path):
    tree = write_snapshot(tmp_path)
    with pytest.raises(Leak, match="share people"):
        guard_snapshot(tree, SPLIT.model_copy(update={"group_rules": {"hi4d": "scene_name"}}))


def test_a_manifest_or_data_json_that_was_changed_alone_is_refused(tmp_path):
    tree = write_snapshot(tmp_path)
    content = tree.data_json.read_bytes()
    tree.data_json.write_bytes(content.replace(b"image.png", b"other.png", 1))
    with pytest.raises(SnapshotChanged, match=r"files of difix_data are not the ones"):
        guard_snapshot(tree, SPLIT)
    tree.data_json.write_bytes(content)
    write_rows(tree.split_train, read_rows(tree.split_train)[:1])
    with pytest.raises(SnapshotChanged, match=r"files of split_manifests are not the ones"):
        guard_snapshot(tree, SPLIT)


def test_a_split_that_leaves_samples_out_is_refused(tmp_path):
    tree = write_snapshot(tmp_path)
    rewrite(tree, read_rows(tree.split_train)[:1], read_rows(tree.split_test))
    with pytest.raises(SnapshotChanged, match="do not make up all samples"):
        guard_snapshot(tree, SPLIT)


@pytest.mark.parametrize("name", ["image.png", "target_image.jpg", "ref_image.jpg", "meta.json"])
def test_a_missing_sample_file_is_named(tmp_path, name):
    tree = write_snapshot(tmp_path)
    path = tree.samples_dir / read_rows(tree.split_test)[1].sample_id / name
    path.unlink()
    with pytest.raises(InvalidFile) as caught:
        guard_snapshot(tree, SPLIT)
    assert caught.value.file == str(path)


def test_a_missing_manifest_is_named_with_what_to_materialize(tmp_path):
    tree = write_snapshot(tmp_path)
    tree.data_json.unlink()
    with pytest.raises(InvalidFile) as caught:
        guard_snapshot(tree, SPLIT)
    assert caught.value.file == str(tree.data_json)
    assert "difix_data" in caught.value.remedy


def test_freezing_keeps_the_digests_and_the_first_reason(tmp_path):
    tree = write_snapshot(tmp_path)
    frozen = freeze(tree, "tuning run a")
    assert frozen.data_json_sha256 == content_of_file(tree.data_json).sha256
    assert (frozen.n_train, frozen.n_test) == (2, 4)
    assert freeze(tree, "tuning run b") == frozen
    guard_snapshot(tree, SPLIT)


def test_a_frozen_snapshot_whose_files_were_exchanged_is_refused(tmp_path):
    tree = write_snapshot(tmp_path)
    freeze(tree, "a run")
    frozen = tree.frozen.read_bytes()
    tree.frozen.unlink()
    rewrite(tree, read_rows(tree.split_train), read_rows(tree.split_test)[::-1])
    tree.frozen.write_bytes(frozen)
    for look in (lambda: guard_snapshot(tree, SPLIT), lambda: freeze(tree, "another")):
        with pytest.raises(SnapshotChanged, match="differ from what was frozen"):
            look()


def test_an_unfinished_snapshot_cannot_be_frozen(tmp_path):
    tree = write_snapshot(tmp_path)
    tree.split_summary.unlink()
    with pytest.raises(InvalidFile):
        freeze(tree, "a run")
    assert not tree.frozen.exists()


@pytest.mark.parametrize(("asset", "name"), [("split_manifests", "split_test"), ("difix_data", "data_json")])
def test_an_edit_that_kept_size_and_time_is_refused_and_every_later_look_knows_of_it(tmp_path, asset, name):
    tree = write_snapshot(tmp_path)
    path = getattr(tree, name)
    content = path.read_bytes()
    unit = Unit(asset, Place(tree.base, tree.made_from(asset)), Wanted(asset, "", given={}))
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert unit.look().is_made
    path.write_bytes(content.replace(b"0", b"1", 1))
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert unit.look().is_made
    with pytest.raises(SnapshotChanged, match=f"files of {asset} are not the ones") as caught:
        guard_snapshot(tree, SPLIT)
    assert caught.value.file == str(path)
    assert "thesis-assets run --exp v1" in caught.value.remedy
    assert unit.look().state == "damaged"


def test_an_edit_before_a_move_is_not_taken_for_what_was_written(tmp_path):
    tree = write_snapshot(tmp_path / "a")
    tree.data_json.write_bytes(tree.data_json.read_bytes().replace(PROMPT.encode(), b"invent degradation"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = DifixTree(tmp_path / "b", tree.exp_name)
    assert not renew_paths(moved)
    unit = Unit("", Place(moved.base, moved.made_from("difix_data")), Wanted("difix_data", "", given={}))
    assert unit.look().state == "damaged"


def test_a_move_without_an_edit_renews_also_after_a_kill_before_the_file(tmp_path):
    tree = write_snapshot(tmp_path / "a")
    old = tree.data_json.read_bytes()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = DifixTree(tmp_path / "b", tree.exp_name)
    assert renew_paths(moved)
    new = moved.data_json.read_bytes()
    moved.data_json.write_bytes(old)
    assert renew_paths(moved)
    assert moved.data_json.read_bytes() == new
    moved.data_json.write_bytes(old)
    moved.made_from("difix_data").write_text("{")
    assert not renew_paths(moved), "whoever makes difix_data mends it"
