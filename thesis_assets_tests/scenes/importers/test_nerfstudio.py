"""transforms.json as nerfstudio, instant-ngp and Blender write it, and as nobody should."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.camera import Camera
from thesis_assets.scenes.importers.capture import Photograph
from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
from thesis_assets_tests.scenes.importers.small_captures import (
    CAMERA_TO_WORLD,
    CX,
    FX,
    FY,
    HEIGHT,
    PIXEL,
    POINT,
    WIDTH,
    nerfstudio,
    photograph,
)


def camera_of(photo: Photograph) -> Camera:
    return Camera(0, photo.intrinsics, photo.extrinsics, photo.height, photo.width)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photograph(tmp_path / "images" / "a.png")
    return tmp_path


def one(folder: Path, frame: dict[str, Any] | None = None, **shared: Any) -> Photograph:
    listing = nerfstudio(folder, [{"file_path": "images/a.png", **(frame or {})}], **shared)
    (found,) = read_nerfstudio(listing).photographs
    return found


def test_a_point_falls_on_the_pixel_worked_out_by_hand(folder: Path) -> None:
    pixel, depth = camera_of(one(folder)).project(POINT)
    np.testing.assert_allclose(pixel, PIXEL)
    np.testing.assert_allclose(depth, [4.0])


def test_the_camera_stands_where_its_matrix_says(folder: Path) -> None:
    np.testing.assert_allclose(camera_of(one(folder)).center, [1, 2, 5])


def test_values_of_an_image_override_those_of_the_file(folder: Path) -> None:
    found = one(folder, {"fl_x": 50.0, "cy": 9.0})
    np.testing.assert_allclose(found.intrinsics, [[50, 0, CX], [0, FY, 9], [0, 0, 1]])


def test_a_field_of_view_is_enough_and_the_size_comes_from_the_image(folder: Path) -> None:
    listing = nerfstudio(folder, [{"file_path": "images/a.png"}])
    value = {"camera_angle_x": math.pi / 2, "frames": json.loads(listing.read_text())["frames"]}
    listing.write_text(json.dumps(value))
    (found,) = read_nerfstudio(listing).photographs
    np.testing.assert_allclose(found.intrinsics, [[16, 0, 16], [0, 16, 12], [0, 0, 1]])


def test_an_images_own_field_of_view_goes_before_the_files_focal_length(folder: Path) -> None:
    assert one(folder, {"camera_angle_x": math.pi / 2}).intrinsics[0, 0] == pytest.approx(WIDTH / 2)


def test_blenders_names_without_a_suffix_are_found(folder: Path) -> None:
    (found,) = read_nerfstudio(nerfstudio(folder, [{"file_path": "./images/a"}])).photographs
    assert found.name == "images/a.png"


def test_a_folder_stands_for_its_transforms_json(folder: Path) -> None:
    nerfstudio(folder, [{"file_path": "images/a.png"}])
    assert len(read_nerfstudio(folder).photographs) == 1


def test_intrinsics_follow_a_resized_image_and_the_capture_says_so(folder: Path) -> None:
    photograph(folder / "images" / "a.png", (HEIGHT // 2, WIDTH // 2))
    capture = read_nerfstudio(nerfstudio(folder, [{"file_path": "images/a.png"}]))
    pixel, _ = camera_of(capture.photographs[0]).project(POINT)
    np.testing.assert_allclose(pixel, PIXEL / 2)
    assert "32 x 24" in capture.notes[0]


def test_an_image_of_other_proportions_is_refused(folder: Path) -> None:
    photograph(folder / "images" / "a.png", (WIDTH, HEIGHT))
    with pytest.raises(InvalidFile, match="proportions"):
        one(folder)


@pytest.mark.parametrize("name", ["ünï côdé (1).png", "a b.jpg.png", "-x.png", "日本/写真.png", "[x]*?.png"])
def test_odd_names_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    photograph(tmp_path / name)
    (found,) = read_nerfstudio(nerfstudio(tmp_path, [{"file_path": name}])).photographs
    assert (found.name, found.path) == (name, tmp_path / name)


@pytest.mark.parametrize("name", ["../a.png", "images/../../a.png", "/etc/passwd", "images/out.png", "", ".", 7, None])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: object) -> None:
    home = tmp_path / "home"
    photograph(tmp_path / "a.png")
    photograph(home / "images" / "b.png")
    (home / "images" / "out.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(InvalidFile) as caught:
        read_nerfstudio(nerfstudio(home, [{"file_path": "images/b.png"}, {"file_path": name}]))
    assert caught.value.key == "frames[1].file_path"


@pytest.mark.parametrize("name", ["a\u001b[31m.png", "a\u0000.png", "a\ud800.png", "x" * 5000, "x" * 300])
def test_a_name_that_could_harm_a_terminal_or_a_path_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        one(folder, {"file_path": name})
    assert "\u001b" not in str(caught.value)


def test_masks_are_held_to_the_same_root(folder: Path) -> None:
    assert one(folder).mask is None
    assert one(folder, {"mask_path": "images/a.png"}).mask_name == "images/a.png"
    with pytest.raises(InvalidFile, match="leaves"):
        one(folder, {"mask_path": "../mask.png"})


def test_a_missing_image_is_named_with_its_place(folder: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        one(folder, {"file_path": "images/not there.png"})
    assert "images/not there.png" in str(caught.value.found)
    assert caught.value.key == "frames[0].file_path"
    assert "--images" in str(caught.value.remedy)


def test_paths_may_start_from_another_folder(folder: Path, tmp_path: Path) -> None:
    listing = nerfstudio(tmp_path / "elsewhere", [{"file_path": "images/a.png"}])
    assert read_nerfstudio(listing, images=folder).photographs[0].path == folder / "images" / "a.png"


SCALED = (np.array(CAMERA_TO_WORLD) * [[2, 2, 2, 1]]).tolist()
MIRRORED = (np.array(CAMERA_TO_WORLD) * [[-1, 1, 1, 1]]).tolist()
NOT_A_NUMBER = [[math.nan, *row[1:]] for row in CAMERA_TO_WORLD]


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (NOT_A_NUMBER, "finite"),
        ([[1e400, 0, 0, 0]] * 4, "finite"),
        (SCALED, "scales"),
        (MIRRORED, "mirrors"),
        ([[0.0] * 4] * 4, "row"),
        ([[1, 0], [0, 1]], "shape"),
        ([["1", "0", "0", "0"]] * 4, "shape"),
        ([[1, 0, 0, 0], [0]], "inhomogeneous"),
        ([[10**400, 0, 0, 0]] * 4, "shape"),
        ("identity", "no matrix"),
        (None, "no matrix"),
    ],
)
def test_a_matrix_that_is_no_pose_is_refused_with_its_image(folder: Path, matrix: object, word: str) -> None:
    with pytest.raises(InvalidFile, match=word) as caught:
        one(folder, {"transform_matrix": matrix})
    assert caught.value.key == "frames[0].transform_matrix"
    assert "images/a.png" in str(caught.value.found)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"k1": -0.02}, "k1"),
        ({"p2": 0.001}, "p2"),
        ({"distortion_params": [0, 0, 0.1]}, "distortion_params[2]"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model"),
        ({"camera_model": ["x"]}, "camera_model"),
        ({"is_fisheye": True}, "is_fisheye"),
        ({"from_na": True}, "from_na"),
    ],
)
@pytest.mark.parametrize("of_image", [True, False])
def test_a_lens_that_is_no_pinhole_is_refused_with_a_remedy(
    folder: Path, values: dict[str, Any], word: str, of_image: bool
) -> None:
    with pytest.raises(InvalidFile) as caught:
        one(folder, values) if of_image else one(folder, **values)
    assert word in str(caught.value.key)
    assert "image_undistorter" in str(caught.value.remedy)


def test_a_negligible_distortion_is_none(folder: Path) -> None:
    assert one(folder, {"k1": 1e-7, "camera_model": "OPENCV", "k2": 0}).intrinsics[0, 0] == FX


@pytest.mark.parametrize("values", [{"fl_x": 0}, {"fl_x": -3}, {"fl_y": math.nan}, {"w": 2.5}, {"h": 0}, {"cx": "12"}])
def test_a_number_out_of_range_is_refused(folder: Path, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidFile):
        one(folder, values)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"frames": []}', '{"frames": {}}', '{"frames": [3]}', "[" * 100_000]
)
def test_a_file_that_lists_no_images_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(InvalidFile):
        read_nerfstudio(tmp_path)


def test_a_missing_focal_length_and_a_repeated_image_are_refused(folder: Path) -> None:
    listing = nerfstudio(folder, [{"file_path": "images/a.png"}, {"file_path": "./images/a.png"}])
    with pytest.raises(InvalidFile, match="twice"):
        read_nerfstudio(listing)
    listing.write_text(json.dumps({"frames": [{"file_path": "images/a.png", "transform_matrix": CAMERA_TO_WORLD}]}))
    with pytest.raises(InvalidFile, match="focal"):
        read_nerfstudio(listing)


def test_the_files_world_is_the_scenes_and_what_is_not_taken_is_said(folder: Path) -> None:
    applied = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]
    frame = {"file_path": "images/a.png", "depth_file_path": "depth/a.png"}
    capture = read_nerfstudio(nerfstudio(folder, [frame], applied_transform=applied, applied_scale="x"))
    np.testing.assert_allclose(camera_of(capture.photographs[0]).center, [1, 2, 5])
    assert capture.world == {"applied_transform": applied}
    assert any("depth_file_path" in note for note in capture.notes)


def test_another_kind_of_image_is_refused_with_a_remedy(folder: Path) -> None:
    (folder / "images" / "a.webp").write_bytes(b"RIFF....WEBP")
    with pytest.raises(InvalidFile, match="neither PNG nor JPEG") as caught:
        one(folder, {"file_path": "images/a.webp"})
    assert "convert" in str(caught.value.remedy)


def test_every_key_that_is_not_taken_over_is_named(folder: Path) -> None:
    frame = {"file_path": "images/a.png", "time": 0.5, "is_bad": True, "depth_file_path": "d.npy", "my own key": 1}
    listing = nerfstudio(folder, [frame], test_frames=[frame, frame], ply_file_path="sparse.ply", aabb_scale=4)
    notes = read_nerfstudio(listing).notes
    found = {note.removeprefix("not taken over: ").split(":")[0] for note in notes}
    assert found == {
        "time of 1 images",
        "is_bad of 1 images",
        "depth_file_path of 1 images",
        "'my own key' of 1 images",
        "test_frames (2 entries)",
        "ply_file_path",
        "aabb_scale",
    }
    assert any("one moment" in note for note in notes)


def test_keys_that_are_read_are_not_named(folder: Path) -> None:
    listing = nerfstudio(
        folder, [{"file_path": "images/a.png", "fl_x": 50.0}], camera_model="OPENCV", applied_scale=2.0
    )
    assert read_nerfstudio(listing).notes == ()


def test_a_path_of_another_system_is_named_with_the_one_that_is_meant(folder: Path) -> None:
    with pytest.raises(InvalidFile, match="backslashes") as caught:
        read_nerfstudio(nerfstudio(folder, [{"file_path": "images\\a.png"}]))
    assert caught.value.wanted == "'images/a.png'"
