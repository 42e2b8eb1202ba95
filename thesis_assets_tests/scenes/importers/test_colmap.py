"""COLMAP sparse models: the text and the binary form say the same, and what is broken is named."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.camera import Camera
from thesis_assets.scenes.importers.colmap import extrinsics_from_quaternion, read_colmap
from thesis_assets.scenes.importers.nerfstudio import extrinsics_from_opengl
from thesis_assets_tests.scenes.importers.small_captures import (
    CX,
    CY,
    FX,
    FY,
    PIXEL,
    POINT,
    QUATERNION,
    TRANSLATION,
    Row,
    colmap_binary,
    colmap_text,
    photograph,
)

ROWS = [Row("a b.png", 3, points=2), Row("sub/ü.png", 1, quaternion=(0.5, -0.5, 0.5, 0.5), translation=(0, 0, 1))]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for row in ROWS:
        photograph(tmp_path / "images" / row.name)
    return tmp_path


def test_a_point_falls_on_the_pixel_worked_out_by_hand(project: Path) -> None:
    first = read_colmap(colmap_text(project / "sparse", ROWS)).photographs[0]
    pixel, depth = Camera(0, first.intrinsics, first.extrinsics, first.height, first.width).project(POINT)
    np.testing.assert_allclose(pixel, PIXEL)
    np.testing.assert_allclose(depth, [4.0])


def test_binary_and_text_say_the_same(project: Path) -> None:
    text = read_colmap(colmap_text(project / "text", ROWS))
    binary = read_colmap(colmap_binary(project / "binary", ROWS))
    assert [each.name for each in text.photographs] == [row.name for row in ROWS]
    for left, right in zip(text.photographs, binary.photographs, strict=True):
        assert (left.name, left.path, left.height, left.width) == (right.name, right.path, right.height, right.width)
        np.testing.assert_array_equal(left.intrinsics, right.intrinsics)
        np.testing.assert_array_equal(left.extrinsics, right.extrinsics)


def test_a_project_stands_for_its_model_and_binary_goes_first(project: Path) -> None:
    colmap_text(project / "sparse" / "0", ROWS[:1])
    assert len(read_colmap(project).photographs) == 1
    colmap_binary(project / "sparse" / "0", ROWS)
    capture = read_colmap(project)
    assert len(capture.photographs) == 2
    assert {path.name for path in capture.source_files} == {"cameras.bin", "images.bin"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=7, max_size=7).filter(lambda numbers: np.linalg.norm(numbers[:4]) > 0.1))
def test_both_formats_poses_are_one_camera(numbers: list[float]) -> None:
    """A pose goes to nerfstudio's convention by its definition (c2w, y and z turned) and comes back the same."""
    extrinsics = extrinsics_from_quaternion(np.array(numbers[:4]), np.array(numbers[4:]))
    camera_to_world = np.linalg.inv(np.vstack([extrinsics, [0, 0, 0, 1]])) @ np.diag([1, -1, -1, 1])
    np.testing.assert_allclose(extrinsics_from_opengl(camera_to_world), extrinsics, atol=1e-9)
    np.testing.assert_allclose(extrinsics[:, :3] @ extrinsics[:, :3].T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(
    ("model", "number", "parameters"),
    [
        ("SIMPLE_PINHOLE", 0, (FX, CX, CY)),
        ("SIMPLE_RADIAL", 2, (FX, CX, CY, 0.0)),
        ("OPENCV", 4, (FX, FX, CX, CY, 0.0, 1e-8, 0.0, 0.0)),
    ],
)
def test_a_lens_without_distortion_is_a_pinhole(
    project: Path, model: str, number: int, parameters: tuple[float, ...]
) -> None:
    for source in (
        colmap_text(project / "text", ROWS, model, parameters),
        colmap_binary(project / "binary", ROWS, number, parameters),
    ):
        found = read_colmap(source).photographs[0].intrinsics
        np.testing.assert_array_equal(found, [[FX, 0, CX], [0, FX, CY], [0, 0, 1]])


@pytest.mark.parametrize(
    ("model", "number", "parameters"),
    [
        ("SIMPLE_RADIAL", 2, (FX, CX, CY, -0.02)),
        ("OPENCV", 4, (FX, FY, CX, CY, 0, 0, 0, 1e-3)),
        ("OPENCV_FISHEYE", 5, (FX, FY, CX, CY, 0, 0, 0, 0)),
        ("FISHEYE", 15, (FX, FY, CX, CY)),
        ("SIMPLE_RADIAL", 2, (FX, CX, CY, float("nan"))),
    ],
)
def test_another_lens_is_refused_with_a_remedy(
    project: Path, model: str, number: int, parameters: tuple[float, ...]
) -> None:
    for source in (
        colmap_text(project / "text", ROWS, model, parameters),
        colmap_binary(project / "binary", ROWS, number, parameters),
    ):
        with pytest.raises(InvalidFile, match="distorted") as caught:
            read_colmap(source)
        assert "image_undistorter" in str(caught.value.remedy)
        assert model in str(caught.value.found)


def test_a_binary_file_cut_at_any_byte_is_called_cut_short(project: Path) -> None:
    model = colmap_binary(project / "sparse", ROWS)
    for name in ("images.bin", "cameras.bin"):
        whole = (model / name).read_bytes()
        for length in range(len(whole)):
            (model / name).write_bytes(whole[:length])
            with pytest.raises(InvalidFile, match="cut short") as caught:
                read_colmap(model)
            assert caught.value.file == str(model / name)
        (model / name).write_bytes(whole)
    read_colmap(model)


def test_a_count_beyond_the_file_takes_no_memory(project: Path) -> None:
    model = colmap_binary(project / "sparse", ROWS)
    content = (model / "images.bin").read_bytes()
    (model / "images.bin").write_bytes(struct.pack("<Q", 2**60) + content[8:])
    with pytest.raises(InvalidFile, match="cut short"):
        read_colmap(model)
    at = content.index(b".png\0") + 5
    (model / "images.bin").write_bytes(content[:at] + struct.pack("<Q", 2**60) + content[at + 8 :])
    with pytest.raises(InvalidFile, match="cut short"):
        read_colmap(model)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("images.txt", "1 1 0 0 0 0 0 0 1"),
        ("images.txt", "x 1 0 0 0 0 0 0 1 a.png"),
        ("cameras.txt", "1 PINHOLE 32 24 40 30 15"),
        ("cameras.txt", "1 CUBE 32 24 1"),
        ("cameras.txt", "1"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_by_its_number(project: Path, name: str, line: str) -> None:
    model = colmap_text(project / "sparse", ROWS)
    (model / name).write_text(f"# comment\n\n{line}\n")
    with pytest.raises(InvalidFile) as caught:
        read_colmap(model)
    assert caught.value.key == "line 3"


def test_an_image_without_points_does_not_shift_the_lines(project: Path) -> None:
    rows = [Row(ROWS[0].name, 1, points=0), Row(ROWS[1].name, 2, points=3)]
    assert len(read_colmap(colmap_text(project / "sparse", rows)).photographs) == 2


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd", "sub/../../outside.png"])
@pytest.mark.parametrize("write", [colmap_text, colmap_binary])
def test_a_name_that_leaves_the_images_folder_is_refused(project: Path, name: str, write: object) -> None:
    photograph(project / "outside.png")
    assert callable(write)
    with pytest.raises(InvalidFile, match="leaves"):
        read_colmap(write(project / "sparse", [Row(name)]))


def test_a_missing_image_and_a_missing_camera_are_named(project: Path) -> None:
    with pytest.raises(InvalidFile, match="not there") as caught:
        read_colmap(colmap_binary(project / "sparse", [Row("gone.png", 7)]))
    assert (caught.value.key, "gone.png" in str(caught.value.found)) == ("image 7", True)
    with pytest.raises(InvalidFile, match="names a camera"):
        read_colmap(colmap_binary(project / "sparse", [Row(ROWS[0].name, camera_id=9)]))


@pytest.mark.parametrize("row", [Row("a b.png", quaternion=(0, 0, 0, 0)), Row("a b.png", translation=(0, 0, np.nan))])
def test_a_pose_that_is_none_is_refused(project: Path, row: Row) -> None:
    for source in (colmap_text(project / "text", [row]), colmap_binary(project / "binary", [row])):
        with pytest.raises(InvalidFile, match="pose"):
            read_colmap(source)


def test_a_quaternion_counts_by_its_direction(project: Path) -> None:
    twice = Row(ROWS[0].name, quaternion=[2 * number for number in QUATERNION], translation=TRANSLATION)
    found = read_colmap(colmap_text(project / "sparse", [twice])).photographs[0]
    np.testing.assert_allclose(found.extrinsics[:, :3], np.diag([1, -1, -1]))


def test_no_model_no_images_folder_and_no_registered_image_are_told_apart(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no COLMAP sparse model"):
        read_colmap(project)
    lonely = colmap_binary(tmp_path / "far" / "away" / "from" / "photographs", ROWS)
    with pytest.raises(InvalidFile, match="not known") as caught:
        read_colmap(lonely)
    assert "--images" in str(caught.value.remedy)
    assert len(read_colmap(lonely, images=project / "images").photographs) == 2
    with pytest.raises(InvalidFile, match="no registered image"):
        read_colmap(colmap_binary(project / "sparse", []))


def test_a_file_of_one_line_an_image_is_refused_by_line(project: Path) -> None:
    folder = colmap_text(project / "sparse", ROWS)
    lines = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join([lines[0], lines[1], lines[3]]) + "\n")
    with pytest.raises(InvalidFile, match="line of the COLMAP file") as caught:
        read_colmap(folder)
    assert caught.value.key == "line 3"
    assert "2D points" in str(caught.value.wanted)


@pytest.mark.parametrize("points", ["1.5 2.5", "1.5 2.5 -1 7.5", "1 2 three"])
def test_a_line_of_points_that_are_no_points_is_refused(project: Path, points: str) -> None:
    folder = colmap_text(project / "sparse", ROWS[:1])
    lines = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join([*lines[:2], points]) + "\n")
    with pytest.raises(InvalidFile, match="line of the COLMAP file"):
        read_colmap(folder)


def test_what_is_not_taken_over_is_named(project: Path) -> None:
    colmap_text(project / "sparse" / "0", ROWS[:1])
    (project / "sparse" / "0" / "points3D.txt").write_text("")
    colmap_binary(project / "sparse" / "1", ROWS)
    colmap_text(project / "sparse" / "1", ROWS)
    notes = "\n".join(read_colmap(project).notes)
    assert "not taken over: points3D.txt" in notes
    assert f"{project / 'sparse' / '1'} of 2 images (this one has 1), the larger one" in notes
    assert "not taken over: cameras.txt, images.txt" in "\n".join(read_colmap(project / "sparse" / "1").notes)


@pytest.mark.parametrize(
    ("model", "parameters", "words"), [(16, (1, 1, 0, 0, 0, 1), "EUCM"), (17, (8, 4), "panoramas")]
)
def test_cameras_that_are_no_pinholes_are_named(
    project: Path, model: int, parameters: tuple[float, ...], words: str
) -> None:
    with pytest.raises(InvalidFile) as caught:
        read_colmap(colmap_binary(project / "sparse", ROWS, model, parameters))
    assert words in str(caught.value)
    assert caught.value.remedy
