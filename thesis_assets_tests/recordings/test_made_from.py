"""What a recording is made from: by content, whatever its times, its place, the SDK or the drivers here."""

import os
import shutil
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.layout import DifixTree, EvaluationTree
from thesis_assets.provenance import Place, Unit, Wanted, begin, take_over
from thesis_assets.recordings import recording
from thesis_assets.recordings.exports import TreeExports, export_recordings, recording_units
from thesis_assets.recordings.recording import place_of, recording_facts
from thesis_assets.recordings.tracks import ExportOptions
from thesis_assets.recordings.triplets import triplet_recording_unit
from thesis_assets.recordings.verification import read_recording
from thesis_assets_tests.recordings.small_tree import EXP, RUN, SCENE, add_nvs
from thesis_assets_tests.recordings.test_triplets import add_checkpoint, export, make_run

ASSETS = ("input_data_recording", "evaluation_recordings")


def states(tree: EvaluationTree, run_name: str = RUN) -> list[str]:
    """Of all recordings of a tree, as the graph asks: input data, epochs 0 and 30."""
    none = DifixTree(tree.output_dir, EXP)
    units = [unit for asset in ASSETS for unit in recording_units(asset, {SCENE: tree}, none, run_name, (0, 30))]
    return [unit.look().in_words for unit in units]


def test_other_times_another_root_another_sdk_and_no_driver_make_no_recording_stale(
    tree: EvaluationTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "sdk_version", lambda: "99.0.0")
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent.json")
    assert states(tree) == ["made"] * 3
    shutil.copytree(tree.output_dir, tmp_path / "else" / "where", copy_function=shutil.copyfile)
    shutil.rmtree(tree.output_dir)
    moved = EvaluationTree(tmp_path / "else" / "where", EXP)
    assert states(moved) == ["made"] * 3
    for path in moved.base.rglob("*.png"):
        os.utime(path)
    assert states(moved) == ["made"] * 3


def test_a_cut_a_missing_and_an_edited_recording_are_told_apart_and_made_again(tree: EvaluationTree) -> None:
    tree.evaluation_recording(0).write_bytes(b"")
    tree.input_data_recording.unlink()
    content = tree.evaluation_recording(30).read_bytes()
    tree.evaluation_recording(30).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [each.split(":")[0] for each in states(tree)] == ["missing", "damaged", "damaged"]
    assert "(0 bytes, was " in states(tree)[1]
    export_recordings(tree)
    assert states(tree) == ["made"] * 3


def test_a_changed_a_new_and_a_missing_file_of_a_tree_without_records_are_named(tree: EvaluationTree) -> None:
    image = tree.task(30, "nvs").gt_image(4, "000001")
    storage.write_bytes(image, tree.task(30, "nvs").gt_image(4, "000002").read_bytes())
    assert states(tree)[2] == f"stale: `{tree.relative(image)}`: changed"
    image.unlink()
    assert states(tree)[2] == "stale: `list of the files of evaluation/epoch_0030/nvs`: made anew"
    export_recordings(tree)
    add_nvs(tree, 30)
    assert f"`{tree.relative(image)}`: new" in states(tree)[2]


def test_a_tree_that_was_purged_but_for_its_recordings_makes_nothing_stale(tree: EvaluationTree) -> None:
    shutil.rmtree(tree.evaluation_dir)
    shutil.rmtree(tree.input_data_dir)
    assert [each.split(" ")[0] for each in states(tree)] == ["made"] * 3


def record(place: Place, version: str) -> str:
    """A made-from record of an upstream step; gives its data version."""
    unit = Unit("upstream", place, Wanted("upstream", "1", options={"version": version}))
    return begin(unit).finish([]).data_version


def give_records(tree: EvaluationTree) -> None:
    record(Place(tree.base, tree.input_data_made_from), "one")
    for epoch in (0, 30):
        record(Place(tree.base, tree.task(epoch, "nvs").predictions_made_from), "one")
        for task in ("nvs", "pose_smplx"):
            record(Place(tree.base, tree.task(epoch, task).made_from), "one")


def test_what_has_a_record_counts_by_its_data_version(tree: EvaluationTree) -> None:
    for path in tree.rerun_dir.iterdir():
        path.unlink()
    give_records(tree)
    export_recordings(tree)
    assert states(tree) == ["made"] * 3
    inputs = storage.read_json_value(place_of(tree.evaluation_recording(30)).record)["inputs"]
    upstream = [name for name in inputs if not name.startswith("input_data/")]
    assert upstream == [f"evaluation/epoch_0030/{each}" for each in ("nvs", "nvs/inputs", "pose_smplx")]
    record(Place(tree.base, tree.task(30, "nvs").made_from), "two")
    assert states(tree) == ["made", "made", "stale: `evaluation/epoch_0030/nvs`: made anew"]
    record(Place(tree.base, tree.task(30, "pose_smpl").made_from), "one")
    TreeExports(tree, RUN, SCENE).export_epoch(30)
    assert states(tree) == ["made"] * 3


def test_records_that_come_after_a_recording_leave_it_made(tree: EvaluationTree) -> None:
    give_records(tree)
    assert states(tree) == ["made"] * 3


def test_options_that_nobody_sets_stay_those_that_a_recording_was_made_by(tree: EvaluationTree) -> None:
    export_recordings(tree, options=ExportOptions(max_frames_per_camera=1, lossless=True))
    assert states(tree) == ["made"] * 3
    export_recordings(tree, force=True)
    assert options_in(tree.evaluation_recording(30)) == (1, True)
    export_recordings(tree, options=ExportOptions())
    assert options_in(tree.evaluation_recording(30)) == (0, False)


def options_in(recording: Path) -> tuple[object, ...]:
    properties = read_recording(recording).properties
    return properties["export.max_frames_per_camera"], properties["export.lossless"]


def test_a_recording_of_a_version_without_records_works_and_is_taken_over(tree: EvaluationTree) -> None:
    recording = tree.input_data_recording
    facts = {"input_digest": "0" * 64, "rerun_sdk": "0.40.0", "bytes": recording.stat().st_size, "absent": ["x: y: z"]}
    storage.write_json(recording.with_suffix(".inputs.json"), facts)
    place_of(recording).record.unlink()
    before = recording.stat().st_mtime_ns
    assert states(tree)[0] == "made (not verified yet)"
    assert TreeExports(tree).export_input_data().absent == ["x: y: z"]
    (unit,) = recording_units("input_data_recording", {SCENE: tree}, DifixTree(tree.output_dir, EXP), RUN, ())
    assert take_over(unit) is not None
    assert states(tree)[0] == "made"
    assert (recording.stat().st_mtime_ns, recording_facts(recording).rerun_sdk) == (before, "0.40.0")
    recording.write_bytes(b"")
    assert states(tree)[0].startswith("damaged")
    assert TreeExports(tree).export_input_data().absent == []
    assert not recording.with_suffix(".inputs.json").exists()


def test_an_export_that_was_cut_short_in_a_version_without_records_is_missing(tree: EvaluationTree) -> None:
    recording = tree.input_data_recording
    place_of(recording).record.unlink()
    storage.write_json(
        recording.with_suffix(".inputs.json"), {"input_digest": "0", "rerun_sdk": "0", "bytes": 1, "absent": []}
    )
    assert states(tree)[0].startswith("missing")


def test_a_tasks_own_recording_that_was_removed_is_missing(tree: EvaluationTree) -> None:
    export_recordings(tree, epochs="30", split_bytes=1000)
    tree.task_recording(30, "nvs").unlink()
    assert [each.split(":")[0] for each in states(tree)] == ["made", "made", "made", "missing", "made"]


def test_triplets_are_stale_by_a_new_checkpoint_and_not_by_one_that_is_gone(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    export(tree)
    (unit,) = recording_units("triplet_recording", {}, tree, "tiny_a", ())
    assert unit.look().in_words == "made"
    shutil.move(tree.samples_dir, tmp_path / "aside")
    shutil.rmtree(tree.tuning_run("tiny_a").checkpoints_dir)
    tree.data_json.unlink()
    assert triplet_recording_unit(tree, "tiny_a").look().state == "made"
    add_checkpoint(tree, 300)
    assert triplet_recording_unit(tree, "tiny_a").look().in_words == "stale: `tuned_checkpoint/model_300`: made anew"


def test_the_data_of_triplets_counts_by_its_version_where_it_has_a_record(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    record(Place(tree.base, tree.made_from("difix_data")), "one")
    export(tree)
    shutil.rmtree(tree.samples_dir)
    assert triplet_recording_unit(tree, "tiny_a").look().in_words == "made"
    record(Place(tree.base, tree.made_from("difix_data")), "two")
    assert triplet_recording_unit(tree, "tiny_a").look().in_words == "stale: `difix_data`: made anew"
