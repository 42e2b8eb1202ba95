"""What `input_data.rrd` holds."""

import io

import numpy as np
import pytest
from PIL import Image

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.recordings.verification import read_recording
from thesis_assets.scenes.bodies import write_bodies
from thesis_assets_tests.recordings.read_back import blob, column, matrix
from thesis_assets_tests.recordings.small_tree import CAMERAS, FRAMES, HEIGHT, WIDTH, bodies, camera

TEST_CAMERA = "/input_data/test/cameras/cam_4"


def test_cameras_pictures_masks_depth_and_people_have_the_entities_of_the_contract(exported: EvaluationTree) -> None:
    content = read_recording(exported.input_data_recording)
    people = {f"/input_data/{split}/people/person_{k}" for split in ("train", "test") for k in (0, 1)}
    cameras = {f"/input_data/test/cameras/cam_{cam_id}" for cam_id in CAMERAS} | {"/input_data/train/cameras/cam_16"}
    children = {f"{entity}/{part}" for entity in cameras for part in ("image", "mask")}
    others = {
        "/input_data/train",
        "/input_data/test",
        "/input_data/train/cameras/cam_16/depth",
        "/input_data/train/misc/nv_generation/est_images_debug/cam_4",
        "/input_data/test/people/person_0/smpl",
        "/input_data/test/people/person_1/smpl",
    }
    assert set(content.entities) == people | cameras | children | others
    assert {name for entity in content.entities.values() for name in entity.timelines} == {"frame"}
    assert content.application_id == "thesis_assets_input_data"


def test_a_jpeg_goes_in_byte_by_byte(exported: EvaluationTree) -> None:
    blobs = blob(exported.input_data_recording, f"{TEST_CAMERA}/image")
    assert list(blobs) == list(FRAMES)
    for frame, content in blobs.items():
        assert content == exported.input_data("test").image(4, f"{frame:06d}").read_bytes()


def test_the_pose_is_the_inverse_of_the_world_to_camera_extrinsics(exported: EvaluationTree) -> None:
    path, entity = exported.input_data_recording, "/input_data/test/cameras/cam_16"
    rotations = column(path, entity, "Transform3D:mat3x3")
    centres = column(path, entity, "Transform3D:translation")
    for frame in FRAMES:
        extrinsics = camera(16, frame).extrinsics
        to_world = np.eye(4)
        to_world[:3, :3], to_world[:3, 3] = matrix(rotations[frame]), centres[frame][0]
        to_camera = np.concatenate([extrinsics, [[0, 0, 0, 1]]])
        assert np.allclose(to_world @ to_camera, np.eye(4), atol=1e-6)


def test_a_camera_that_stands_still_is_logged_once(exported: EvaluationTree) -> None:
    content = read_recording(exported.input_data_recording)
    still, moving = content.entities[TEST_CAMERA], content.entities["/input_data/test/cameras/cam_16"]
    assert "Transform3D:translation" in still.static
    assert not still.rows
    assert moving.row_count["Transform3D:translation"] == len(FRAMES)
    assert "Pinhole:image_from_camera" in moving.static


def test_the_pinhole_has_the_size_of_the_picture(exported: EvaluationTree) -> None:
    path = exported.input_data_recording
    assert column(path, TEST_CAMERA, "Pinhole:resolution")[None] == [[float(WIDTH), float(HEIGHT)]]
    assert np.allclose(matrix(column(path, TEST_CAMERA, "Pinhole:image_from_camera")[None]), camera(4).intrinsics)


def test_masks_become_classes_and_nobody_is_transparent(exported: EvaluationTree) -> None:
    path = exported.input_data_recording
    values = column(path, f"{TEST_CAMERA}/mask", "SegmentationImage:buffer")[1][0]
    classes = np.array(values, np.uint8).reshape(HEIGHT, WIDTH)
    assert (classes[10, 6], classes[10, 18], classes[0, 0]) == (1, 2, 0)
    legend = column(path, "/input_data/test", "AnnotationContext:context")[None][0]
    colours = {entry["class_id"]: entry["class_description"]["info"]["color"] for entry in legend}
    assert colours[0] & 0xFF == 0
    assert colours[1] & 0xFF == 0xFF


def test_depth_is_in_millimetres(exported: EvaluationTree) -> None:
    path, entity = exported.input_data_recording, "/input_data/train/cameras/cam_16/depth"
    png = blob(path, entity, "EncodedDepthImage:blob")[1]
    assert np.array(Image.open(io.BytesIO(png)))[0, 0] == 3500
    assert column(path, entity, "EncodedDepthImage:meter")[None] == [1000.0]


def test_people_are_meshes_with_faces_once_and_joints_where_there_are_no_faces(exported: EvaluationTree) -> None:
    path = exported.input_data_recording
    vertices = column(path, "/input_data/test/people/person_1", "Mesh3D:vertex_positions")
    assert np.allclose(vertices[2], bodies("smplx", 2).vertices[1])
    assert len(column(path, "/input_data/test/people/person_1", "Mesh3D:triangle_indices")[None]) == 4
    joints = column(path, "/input_data/test/people/person_0/smpl", "Points3D:positions")
    assert np.allclose(joints[1], bodies("smpl", 1).joints[0])


def test_a_person_who_leaves_is_cleared(tree: EvaluationTree) -> None:
    write_bodies(tree.input_data("test").body("smplx", "000001"), bodies("smplx", 1, n_people=1))
    TreeExports(tree).export_input_data()
    path, entity = tree.input_data_recording, "/input_data/test/people/person_1"
    assert list(column(path, entity, "Mesh3D:vertex_positions")) == [0, 2]
    assert list(column(path, entity, "Clear:is_recursive")) == [1]


def test_the_world_stands_upright(exported: EvaluationTree) -> None:
    # x right, y down, z forward: the third and second axis of a world whose y points down.
    value = column(exported.input_data_recording, "/input_data/test", "ViewCoordinates:xyz")[None]
    assert value[0][1] == 2


def test_parts_that_are_not_there_are_named(tree: EvaluationTree) -> None:
    folders = tree.input_data("train")
    for path in sorted(folders.base.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    digest = TreeExports(tree).export_input_data()
    assert digest.absent == ["not there: input_data/train: nothing to record"]
    assert not any("/train" in entity for entity in read_recording(tree.input_data_recording).entities)


def test_broken_files_are_left_out_and_named(tree: EvaluationTree) -> None:
    folders = tree.input_data("test")
    image = folders.image(4, "000001")
    image.write_bytes(image.read_bytes()[:-40])
    folders.camera(16, "000000").write_bytes(b"no archive")
    folders.body("smplx", "000002").write_bytes(b"")
    folders.mask(4, "000000", 0).write_bytes(b"no picture")
    tree.input_data("train").depth(16, "000000").write_bytes(b"no array")
    digest = TreeExports(tree).export_input_data()
    named = {line.split(": ")[1] for line in digest.absent}
    assert named == {
        "input_data/test/images/4/000001.jpg",
        "input_data/test/all_cameras/16/000000.npz",
        "input_data/test/smplx/000002.npz",
        "input_data/test/seg/img_seg_mask/4/0/000000.png",
        "input_data/train/depths/16/000000.npy",
    }
    assert list(blob(tree.input_data_recording, f"{TEST_CAMERA}/image")) == [0, 2]
    assert list(column(tree.input_data_recording, f"{TEST_CAMERA}/image", "Clear:is_recursive")) == [1]


def test_parameters_alone_cannot_be_drawn_and_are_named(tree: EvaluationTree) -> None:
    for frame in FRAMES:
        bare = bodies("smplx", frame)
        path = tree.input_data("test").body("smplx", f"{frame:06d}")
        write_bodies(path, type(bare)(model="smplx", parameters=bare.parameters))
    digest = TreeExports(tree).export_input_data()
    assert "left out: input_data/test/smplx/000000.npz: only parameters" in digest.absent[0]
    assert "/input_data/test/people/person_0" not in read_recording(tree.input_data_recording).entities


def test_a_tree_without_input_data_is_an_error(tmp_path: object) -> None:
    with pytest.raises(InvalidFile, match="no input data"):
        TreeExports(EvaluationTree(tmp_path, "demo")).export_input_data()  # type: ignore[arg-type]
