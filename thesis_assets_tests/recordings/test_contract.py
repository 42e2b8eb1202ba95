"""The checks of recordings: whatever differs between tree and recording is said, in both directions."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thesis_assets import storage
from thesis_assets.layout import TASKS, EvaluationTree
from thesis_assets.recordings import tree_tracks, world_tracks
from thesis_assets.recordings.checks import check_recording_sizes, check_recordings_current, check_recordings_verify
from thesis_assets.recordings.contract import check_recording_contract
from thesis_assets.recordings.exports import TreeExports, export_recordings
from thesis_assets.recordings.recording import Recording, RecordingIdentity, open_recording
from thesis_assets.recordings.tracks import ExportOptions
from thesis_assets.recordings.verification import read_recording
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets_tests.recordings.small_tree import EXP, FRAMES, add_nvs, add_pose, camera, make_tree


def test_a_fresh_export_follows_the_contract(exported: EvaluationTree) -> None:
    outcome = check_recording_contract(exported)
    assert outcome.passed, outcome.offenders
    assert outcome.counts["recordings"] == 3
    assert outcome.counts["rows"] > 200


def test_every_task_follows_the_contract(tree: EvaluationTree) -> None:
    add_pose(tree, 30, "pose_smpl")
    export_recordings(tree, epochs="30")
    outcome = check_recording_contract(tree, epochs=[30])
    assert outcome.passed, outcome.offenders


@pytest.mark.parametrize("options", [ExportOptions(max_frames_per_camera=1), ExportOptions(lossless=True)])
def test_options_are_part_of_what_is_expected(tree: EvaluationTree, options: ExportOptions) -> None:
    export_recordings(tree, options=options)
    outcome = check_recording_contract(tree)
    assert outcome.passed, outcome.offenders


def test_only_some_tasks_follow_the_contract_too(tree: EvaluationTree) -> None:
    export_recordings(tree, tasks=("pose_smplx",))
    assert check_recording_contract(tree).passed
    whole = check_recording_contract(tree, tasks=TASKS)
    assert all("/nvs/" in line for line in whole.offenders)
    assert whole.counts["offenders"] > len(whole.offenders) > 0


@pytest.mark.parametrize(
    ("place", "like", "entity"),
    [
        ("input_data/test/images/4/000003.jpg", "input_data/test/images/4/000002.jpg", "cam_4/image"),
        ("input_data/test/smplx/000003.npz", "input_data/test/smplx/000002.npz", "people/person_1"),
        ("input_data/train/depths/16/000003.npy", "input_data/train/depths/16/000002.npy", "cam_16/depth"),
        (
            "evaluation/epoch_0030/nvs/pred/cam_28/000000.png",
            "evaluation/epoch_0030/nvs/pred/cam_4/000000.png",
            "pred/cam_28",
        ),
        (
            "evaluation/epoch_0030/pose_smplx/pred/root_aligned/posed_smplx_meshes_per_frame/00/000009.obj",
            "evaluation/epoch_0030/pose_smplx/pred/root_aligned/posed_smplx_meshes_per_frame/00/000002.obj",
            "pred/root_aligned/person_0",
        ),
    ],
)
def test_a_file_without_its_row_is_found(tree: EvaluationTree, place: str, like: str, entity: str) -> None:
    (tree.base / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tree.base / like, tree.base / place)
    outcome = check_recording_contract(tree)
    assert not outcome.passed
    assert any(entity in line and "no row" in line and place in line for line in outcome.offenders)


def send_frames_with(change: Callable[[dict[str, Any]], Any]) -> Callable[..., None]:
    real = Recording.send_frames

    def send(recording: Recording, *values: Any, **options: Any) -> None:
        change(options)
        for _ in range(options.pop("times", 1)):
            real(recording, *values, **options)

    return send


@pytest.mark.parametrize(
    ("where", "name", "broken", "said"),
    [
        (tree_tracks, "_mask_tracks", lambda *_: [], "cam_4/mask SegmentationImage:buffer: no row at frame 0"),
        (tree_tracks, "_NVS_METRICS", ("ssim",), "nvs/metrics/psnr/cam_4 Scalars:scalars: no row at frame 0"),
        (tree_tracks, "_overall_metrics", lambda *_: {}, "overall/psnr Scalars:scalars: no row at epoch 0"),
        (ExportOptions, "first", lambda _, files: dict(list(files.items())[1:]), "cam_4/image EncodedImage:blob: no row"),
        (Recording, "send_frames", send_frames_with(lambda of: of.pop("epoch", 0)), "psnr/cam_4 Scalars:scalars: no row at epoch"),
        (Recording, "send_frames", send_frames_with(lambda of: of.update(times=2)), "cam_4/image EncodedImage:blob: 6 rows at 3 places"),
        (world_tracks, "_constant", lambda _: True, "cam_16 Transform3D:translation: static, though it changes"),
    ],
)  # fmt: skip
def test_whatever_an_exporter_forgets_or_writes_too_often_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, broken: Any, said: str
) -> None:
    tree = make_tree(tmp_path, epochs=(0,))
    monkeypatch.setattr(where, name, broken)
    export_recordings(tree)
    found = check_recording_contract(tree)
    assert any(said in line for line in found.offenders), found.offenders


def test_a_row_without_its_file_is_found(tree: EvaluationTree) -> None:
    tree.task(30, "nvs").pred_image(4, "000001").unlink()
    outcome = check_recording_contract(tree)
    assert outcome.offenders == [
        f"evaluation_epoch_0030.rrd: /evaluation/epoch_0030/nvs/{place} EncodedImage:blob: row 1 has no file"
        for place in ("pred/cam_4", "metrics/difference/cam_4")
    ]


def test_a_whole_entity_without_files_is_found(tree: EvaluationTree) -> None:
    shutil.rmtree(tree.input_data("test").images_dir / "16")
    outcome = check_recording_contract(tree)
    assert any("cam_16/image EncodedImage:blob: nothing in the tree" in line for line in outcome.offenders)


def test_a_camera_that_began_to_move_is_found(tree: EvaluationTree) -> None:
    from thesis_assets.scenes.camera import write_camera

    write_camera(tree.input_data("test").camera(4, "000001"), camera(16))
    outcome = check_recording_contract(tree)
    assert any("Transform3D:translation: static, though it changes" in line for line in outcome.offenders)


def test_a_file_at_no_known_place_is_found(tree: EvaluationTree) -> None:
    storage.write_text(tree.input_data("test").base / "notes" / "a.txt", "x")
    outcome = check_recording_contract(tree)
    assert outcome.offenders == ["input_data.rrd: input_data/test/notes/a.txt: no entity is known for this file"]


def test_a_changed_metric_table_is_found(tree: EvaluationTree) -> None:
    path = tree.task(0, "nvs").nvs_per_frame
    storage.write_text(path, path.read_text() + "4,7,30.0,0.9,0.1,25.0\n")
    outcome = check_recording_contract(tree)
    assert any("metrics/psnr/cam_4" in line and "frame 7" in line for line in outcome.offenders)
    assert any("metrics/lpips/cam_4" in line for line in outcome.offenders)


def test_a_missing_and_a_truncated_recording_are_found(tree: EvaluationTree) -> None:
    tree.evaluation_recording(0).unlink()
    content = tree.input_data_recording.read_bytes()
    tree.input_data_recording.write_bytes(content[: len(content) // 2])
    for outcome in (check_recording_contract(tree), check_recordings_current(tree)):
        assert not outcome.passed
        assert {line.split(":")[0] for line in outcome.offenders} == {"input_data.rrd", "evaluation_epoch_0000.rrd"}
    verified = check_recordings_verify(tree)
    assert [line.split(":")[0] for line in verified.offenders] == ["input_data.rrd"] * len(verified.offenders)
    assert not verified.passed


def test_a_recording_of_another_kind_is_found(tree: EvaluationTree) -> None:
    shutil.copy(tree.evaluation_recording(0), tree.evaluation_recording(30))
    outcome = check_recording_contract(tree, epochs=[30])
    assert "application id thesis_assets_evaluation_epoch_0000" in outcome.offenders[0]


def test_an_empty_recording_is_found(tree: EvaluationTree) -> None:
    import rerun.blueprint as rrb

    identity = RecordingIdentity("evaluation", EXP, "tiny_a", "studio_pair03_dance", 30)
    with open_recording(tree.evaluation_recording(30), identity, rrb.Blueprint(rrb.Spatial2DView())):
        pass
    outcome = check_recording_contract(tree, epochs=[30])
    assert "not one of our exports" in outcome.offenders[0]


def test_the_size_budget(exported: EvaluationTree) -> None:
    assert check_recording_sizes(exported, 1).passed
    outcome = check_recording_sizes(exported, 0)
    assert outcome.counts["offenders"] == 3


def test_verification_counts_what_it_looked_at(exported: EvaluationTree) -> None:
    outcome = check_recordings_verify(exported)
    assert outcome.passed, outcome.offenders
    assert outcome.counts["recordings"] == 3


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_missing_or_broken_the_rest_is_recorded_and_follows_the_contract(
    exported: EvaluationTree, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(exported.output_dir, Path(folder) / "t")
        tree = EvaluationTree(Path(folder) / "t", EXP)
        files = sorted(
            path
            for part in (tree.input_data_dir, tree.epoch_dir(30))
            for path in part.rglob("*")
            if path.is_file() and path.name != "predictions.json"
        )
        for path in data.draw(st.lists(st.sampled_from(files), max_size=25, unique=True)):
            harm = data.draw(st.sampled_from(["remove", "cut", "empty", "half"]))
            content = path.read_bytes()
            path.unlink()
            if harm != "remove":
                path.write_bytes(content[: {"cut": 30, "empty": 0, "half": len(content) // 2}[harm]])
        export_recordings(tree, epochs="30")
        outcome = check_recording_contract(tree, epochs=[30])
        assert outcome.passed, outcome.offenders


def current(tree: EvaluationTree, **options: object) -> CheckOutcome:
    return check_recordings_current(tree, **options)  # type: ignore[arg-type]


def test_an_export_of_unchanged_files_is_left_alone(tree: EvaluationTree) -> None:
    assert current(tree).passed
    before = {path: path.stat().st_mtime_ns for path in tree.rerun_dir.iterdir()}
    export_recordings(tree)
    assert before == {path: path.stat().st_mtime_ns for path in tree.rerun_dir.iterdir()}
    TreeExports(tree).export_input_data(force=True)
    assert tree.input_data_recording.stat().st_mtime_ns > before[tree.input_data_recording]


def test_one_changed_pixel_makes_a_recording_stale(tree: EvaluationTree) -> None:
    from thesis_assets.images.codecs import encode_png, read_rgb

    path = tree.task(30, "nvs").pred_image(16, "000002")
    pixels = read_rgb(path).copy()
    pixels[3, 4, 1] ^= 1
    path.write_bytes(encode_png(pixels))
    outcome = current(tree)
    assert [line.split(":")[0] for line in outcome.offenders] == ["evaluation_epoch_0030.rrd"]
    export_recordings(tree)
    assert current(tree).passed


def test_files_made_again_with_the_same_bytes_are_not_new(tree: EvaluationTree) -> None:
    add_nvs(tree, 30)
    assert current(tree).passed


def test_other_options_are_another_recording(tree: EvaluationTree) -> None:
    assert not current(tree, options=ExportOptions(lossless=True)).passed
    assert not current(tree, tasks=("nvs",)).passed
    assert not current(tree, run_name="tiny_b").passed


def test_frames_are_those_of_the_tree(exported: EvaluationTree) -> None:
    # The fixture's own promise, on which the counts above rest.
    assert len(list((exported.input_data("test").images_dir / "4").iterdir())) == len(FRAMES)


def test_above_a_size_each_task_has_a_file_of_its_own_that_follows_the_contract_too(tree: EvaluationTree) -> None:
    written = export_recordings(tree, epochs="30", split_bytes=1000)
    tasks = [tree.task_recording(30, task) for task in ("nvs", "pose_smplx")]
    assert list(written)[1:] == [tree.evaluation_recording(30), *tasks]
    outcome = check_recording_contract(tree)
    assert outcome.passed, outcome.offenders
    assert outcome.counts["recordings"] == 5
    assert check_recordings_current(tree).passed
    assert not check_recording_sizes(tree, 0).passed
    assert "evaluation_epoch_0030.rrd" not in " ".join(check_recording_sizes(tree, 0).offenders)

    tree.task(30, "nvs").pred_image(4, "000001").unlink()
    offenders = check_recording_contract(tree).offenders
    assert {line.split(":")[0] for line in offenders} == {"evaluation_epoch_0030.rrd", "nvs_epoch_0030.rrd"}
    assert len(check_recordings_current(tree).offenders) == 2


def test_a_recording_of_an_epoch_that_the_tree_does_not_have_is_named_and_what_is_not_ours_is_not(
    tree: EvaluationTree,
) -> None:
    export_recordings(tree)
    for name in ("evaluation_epoch_0099.rrd", "nvs_epoch_0098.rrd", "mine.rrd"):
        shutil.copyfile(tree.evaluation_recording(30), tree.rerun_dir / name)
    outcome = check_recordings_current(tree)
    assert [offender.split(":")[0] for offender in outcome.offenders] == [
        "evaluation_epoch_0099.rrd",
        "nvs_epoch_0098.rrd",
    ]


def test_files_of_tasks_go_when_the_epoch_is_small_enough_again(tree: EvaluationTree) -> None:
    export_recordings(tree, epochs="30", split_bytes=1000)
    export_recordings(tree, epochs="30", split_bytes=10**9)
    assert sorted(path.name for path in tree.rerun_dir.iterdir() if "nvs" in path.name) == []


def test_files_of_tasks_have_their_own_identity(tree: EvaluationTree) -> None:
    export_recordings(tree, epochs="30", split_bytes=1000)
    contents = [read_recording(path) for path in (tree.evaluation_recording(30), tree.task_recording(30, "nvs"))]
    assert [content.application_id for content in contents] == [
        "thesis_assets_evaluation_epoch_0030",
        "thesis_assets_nvs_epoch_0030",
    ]
    assert contents[0].recording_id != contents[1].recording_id
    assert all(entity.startswith("/evaluation/epoch_0030/nvs") for entity in contents[1].entities)
