"""What `evaluation_epoch_XXXX.rrd` holds."""

import io

import numpy as np
import pytest
from PIL import Image

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import read_rgb
from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.recordings.tracks import PREDICTION_COLOUR, TRUTH_COLOUR, ExportOptions
from thesis_assets.recordings.tree_tracks import evaluated_epochs
from thesis_assets.recordings.verification import read_recording
from thesis_assets_tests.recordings.read_back import blob, column
from thesis_assets_tests.recordings.small_tree import CAMERAS, FRAMES, add_pose

NVS, POSE = "/evaluation/epoch_0030/nvs", "/evaluation/epoch_0030/pose_smplx"


def test_an_epoch_has_its_own_application_and_property(exported: EvaluationTree) -> None:
    contents = [read_recording(exported.evaluation_recording(epoch)) for epoch in (0, 30)]
    assert [content.application_id for content in contents] == [
        "thesis_assets_evaluation_epoch_0000",
        "thesis_assets_evaluation_epoch_0030",
    ]
    assert contents[0].recording_id != contents[1].recording_id
    assert contents[1].properties["epoch.epoch"] == 30
    assert contents[1].properties["experiment.run_name"] == "tiny_a"


def test_compared_images_and_inputs_stand_a_camera(exported: EvaluationTree) -> None:
    content = read_recording(exported.evaluation_recording(30))
    for cam_id in CAMERAS:
        for side in ("pred", "gt_inputs"):
            assert content.entities[f"{NVS}/{side}/cam_{cam_id}"].row_count == {"EncodedImage:blob": len(FRAMES)}
        for part, component in (("render", "EncodedImage:blob"), ("mask", "SegmentationImage:buffer")):
            assert content.entities[f"{NVS}/inputs/cam_{cam_id}/{part}"].row_count[component] == len(FRAMES)
        assert "Pinhole:resolution" in content.entities[f"{NVS}/inputs/cam_{cam_id}"].static


def test_a_png_becomes_a_jpeg_of_the_same_picture(exported: EvaluationTree) -> None:
    content = blob(exported.evaluation_recording(30), f"{NVS}/pred/cam_4")[1]
    assert content.startswith(b"\xff\xd8\xff")
    difference = np.array(Image.open(io.BytesIO(content)), int) - read_rgb(
        exported.task(30, "nvs").pred_image(4, "000001")
    )
    assert np.abs(difference).mean() < 12


def test_lossless_keeps_the_bytes(tree: EvaluationTree) -> None:
    TreeExports(tree, options=ExportOptions(lossless=True)).export_epoch(30)
    content = blob(tree.evaluation_recording(30), f"{NVS}/pred/cam_4")[1]
    assert content == tree.task(30, "nvs").pred_image(4, "000001").read_bytes()
    media_type = column(tree.evaluation_recording(30), f"{NVS}/pred/cam_4", "EncodedImage:media_type")
    assert media_type[None] == ["image/png"]


def test_metric_rows_stand_on_both_timelines_and_overall_numbers_on_the_epoch(exported: EvaluationTree) -> None:
    path = exported.evaluation_recording(30)
    content = read_recording(path)
    rows = content.entities[f"{NVS}/metrics/psnr/cam_4"].rows["Scalars:scalars"]
    assert rows == {("frame", frame) for frame in FRAMES} | {("epoch", 30)}
    assert column(path, f"{NVS}/metrics/psnr/cam_4", "Scalars:scalars") == {0: [23.0], 1: [24.0], 2: [25.0]}
    assert content.entities[f"{NVS}/metrics/overall/psnr"].rows["Scalars:scalars"] == {("epoch", 30)}
    assert content.entities[f"{POSE}/metrics/rr_mpjpe_mm"].timelines == {"frame", "epoch"}


def test_an_empty_metric_has_no_curve_and_is_named(exported: EvaluationTree) -> None:
    content = read_recording(exported.evaluation_recording(30))
    assert not any("/lpips" in entity for entity in content.entities)
    digest = TreeExports(exported).export_epoch(30)
    assert any(line.endswith("no value of lpips") for line in digest.absent)


def test_predictions_are_orange_and_truth_is_green(exported: EvaluationTree) -> None:
    path = exported.evaluation_recording(30)
    for side, colour in (("pred", PREDICTION_COLOUR), ("gt_inputs", TRUTH_COLOUR)):
        for alignment in ("world_aligned", "root_aligned"):
            entity = f"{POSE}/{side}/{alignment}/person_1"
            red, green, blue = colour
            wanted = red << 24 | green << 16 | blue << 8 | 255
            assert column(path, entity, "Mesh3D:albedo_factor")[None] == [wanted]
            assert list(column(path, entity, "Mesh3D:vertex_positions")) == list(FRAMES)


def test_the_page_has_protocol_and_overall_table_with_text_escaped(exported: EvaluationTree) -> None:
    page = column(exported.evaluation_recording(30), f"{NVS}/metrics/summary", "TextDocument:text")[None][0]
    assert "| psnr | 21.0000 |" in page
    assert "- step: 300" in page
    assert "\\[here\\](x) \\| there" in page


def test_a_task_that_was_not_evaluated_is_named(exported: EvaluationTree) -> None:
    digest = TreeExports(exported).export_epoch(30)
    assert "not there: evaluation/epoch_0030/pose_smpl: the task was not evaluated at this epoch" in digest.absent


def test_only_the_tasks_asked_for_are_recorded(tree: EvaluationTree) -> None:
    add_pose(tree, 30, "pose_smpl")
    digest = TreeExports(tree).export_epoch(30, tasks=("pose_smpl",))
    entities = read_recording(tree.evaluation_recording(30)).entities
    assert digest.absent == []
    assert {entity.split("/")[3] for entity in entities} == {"pose_smpl"}


def test_a_missing_mesh_is_cleared_and_named(tree: EvaluationTree) -> None:
    tree.task(30, "pose_smplx").person_mesh("pred", "world_aligned", 1, "000001").unlink()
    digest = TreeExports(tree).export_epoch(30)
    path, entity = tree.evaluation_recording(30), f"{POSE}/pred/world_aligned/person_1"
    assert list(column(path, entity, "Mesh3D:vertex_positions")) == [0, 2]
    assert list(column(path, entity, "Clear:is_recursive")) == [1]
    assert any("posed_smplx_meshes_per_frame/01: no mesh of 1 frames: 000001" in line for line in digest.absent)


def test_meshes_of_all_people_stand_in_where_there_are_none_a_person(tree: EvaluationTree) -> None:
    folder = tree.task(30, "pose_smplx").meshes_dir("pred", "world_aligned")
    for path in folder.glob("0?/*.obj"):
        path.unlink()
    TreeExports(tree).export_epoch(30)
    entities = read_recording(tree.evaluation_recording(30)).entities
    assert f"{POSE}/pred/world_aligned/person_all" in entities
    assert f"{POSE}/pred/world_aligned/person_0" not in entities


def test_a_mesh_cut_before_its_faces_does_not_spoil_the_others(tree: EvaluationTree) -> None:
    path = tree.task(30, "pose_smplx").person_mesh("pred", "world_aligned", 0, "000000")
    path.write_bytes(path.read_bytes().partition(b"f ")[0])
    digest = TreeExports(tree).export_epoch(30)
    entity = f"{POSE}/pred/world_aligned/person_0"
    assert list(column(tree.evaluation_recording(30), entity, "Mesh3D:vertex_positions")) == [1, 2]
    assert any("00/000000.obj: the faces are not those" in line for line in digest.absent)


def test_the_first_frames_only(tree: EvaluationTree) -> None:
    TreeExports(tree, options=ExportOptions(max_frames_per_camera=2)).export_epoch(30)
    content = read_recording(tree.evaluation_recording(30))
    positions = {place for entity in content.entities.values() for rows in entity.rows.values() for place in rows}
    assert {number for timeline, number in positions if timeline == "frame"} == {0, 1}


def test_an_epoch_that_is_not_there_is_an_error_that_names_those_that_are(exported: EvaluationTree) -> None:
    with pytest.raises(InvalidFile) as caught:
        TreeExports(exported).export_epoch(15)
    assert caught.value.found == "epoch_0000, epoch_0030"


def test_folders_of_other_people_are_no_epochs(tree: EvaluationTree) -> None:
    (tree.evaluation_dir / "epoch_30_old").mkdir()
    (tree.evaluation_dir / ".tmp-epoch_0015.partial").mkdir()
    assert evaluated_epochs(tree) == [0, 30]


def test_a_broken_image_costs_its_own_row_and_the_difference_alone(tree: EvaluationTree) -> None:
    task = tree.task(30, "nvs")
    task.gt_image(4, "000001").write_bytes(task.gt_image(4, "000001").read_bytes()[:40])
    task.pred_image(16, "000002").unlink()
    digest = TreeExports(tree).export_epoch(30)
    path = tree.evaluation_recording(30)
    assert list(blob(path, f"{NVS}/pred/cam_4")) == [0, 1, 2]
    assert list(blob(path, f"{NVS}/gt_inputs/cam_4")) == [0, 2]
    assert list(blob(path, f"{NVS}/metrics/difference/cam_4")) == [0, 2]
    assert list(blob(path, f"{NVS}/metrics/difference/cam_16")) == [0, 1]
    assert list(column(path, f"{NVS}/metrics/difference/cam_4", "Clear:is_recursive")) == [1]
    assert any("gt_inputs/cam_4/000001.png" in line for line in digest.absent)


def test_images_of_two_sizes_are_recorded_without_a_difference(tree: EvaluationTree) -> None:
    from thesis_assets.images.codecs import encode_png

    tree.task(30, "nvs").pred_image(4, "000001").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    digest = TreeExports(tree).export_epoch(30)
    path = tree.evaluation_recording(30)
    assert list(blob(path, f"{NVS}/pred/cam_4")) == [0, 1, 2]
    assert list(blob(path, f"{NVS}/metrics/difference/cam_4")) == [0, 2]
    assert any("no difference: the image is (8, 8), the truth (24, 32)" in line for line in digest.absent)


def test_differences_are_black_where_equal_and_white_from_64_on() -> None:
    from thesis_assets.recordings.image_tracks import coloured

    distances = np.array([[[0, 0, 0], [30, 30, 30], [64, 64, 64], [255, 255, 255], [192, 0, 0]]], np.uint8)
    colours = coloured(distances)
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[0, 2].tolist() == colours[0, 3].tolist() == colours[0, 4].tolist() == [255, 255, 255]
    assert 0 < colours[0, 1].sum() < 765
