"""The calibrated camera and its file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.camera import Camera, read_camera, write_camera
from thesis_assets_tests.scenes.tiny_scene import tiny_camera


def turned(angle: float, shift: tuple[float, float, float]) -> Camera:
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    intrinsics = np.array([[120.0, 0.5, 64], [0, 118.0, 60], [0, 0, 1]])
    return Camera(7, intrinsics, np.hstack([rotation, np.array(shift)[:, None]]), 120, 128)


def test_a_camera_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    camera = turned(0.4, (0.1, -0.2, 3.0))
    write_camera(tmp_path / "000000.npz", camera)
    again = read_camera(tmp_path / "000000.npz", 7, 120, 128)
    assert np.array_equal(again.intrinsics, camera.intrinsics)
    assert np.array_equal(again.extrinsics, camera.extrinsics)
    with np.load(tmp_path / "000000.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {"intrinsics": (1, 3, 3), "extrinsics": (1, 3, 4)}


def test_the_same_camera_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_camera(tmp_path / name, turned(1.0, (0, 0, 1)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-3, 3), x=st.floats(-2, 2), y=st.floats(-2, 2), depth=st.floats(0.5, 20))
def test_unprojecting_a_projection_gives_the_point_again(angle: float, x: float, y: float, depth: float) -> None:
    camera = turned(angle, (0.3, -0.1, 2.0))
    point = (np.array([[x, y, depth]]) - camera.translation) @ camera.rotation
    pixels, depths = camera.project(point)
    assert np.allclose(camera.unproject(pixels, depths), point, atol=1e-9)
    assert np.allclose(depths, depth)


def test_the_centre_is_the_point_that_the_extrinsics_send_to_the_origin() -> None:
    camera = turned(0.7, (1.0, 2.0, 3.0))
    assert np.allclose(camera.rotation @ camera.center + camera.translation, 0)


def test_a_scaled_camera_sees_the_same_point_at_the_scaled_pixel() -> None:
    camera, point = turned(0.2, (0.0, 0.0, 4.0)), np.array([[0.3, -0.2, 0.5]])
    half = camera.scaled(0.5)
    assert (half.height, half.width) == (60, 64)
    assert np.allclose(half.project(point)[0] * 2, camera.project(point)[0])


def test_a_camera_cannot_be_changed_behind_the_backs_of_its_users() -> None:
    with pytest.raises(ValueError, match="read-only"):
        tiny_camera().intrinsics[0, 0] = 1


@pytest.mark.parametrize(
    ("arrays", "key"),
    [
        ({"intrinsics": np.eye(3)[None]}, "extrinsics"),
        ({"intrinsics": np.eye(4)[None], "extrinsics": np.eye(3, 4)[None]}, "intrinsics"),
        ({"intrinsics": np.full((1, 3, 3), np.nan), "extrinsics": np.eye(3, 4)[None]}, "intrinsics"),
        ({"intrinsics": -np.eye(3)[None], "extrinsics": np.eye(3, 4)[None]}, "intrinsics"),
        ({"intrinsics": np.eye(3)[None], "extrinsics": 2 * np.eye(3, 4)[None]}, "extrinsics"),
        ({"intrinsics": np.eye(3)[None], "extrinsics": -np.eye(3, 4)[None]}, "extrinsics"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_by_name(tmp_path: Path, arrays: dict, key: str) -> None:
    np.savez(tmp_path / "000000.npz", **arrays)
    with pytest.raises(InvalidFile) as caught:
        read_camera(tmp_path / "000000.npz", 4, 8, 6)
    assert caught.value.key == key
    assert caught.value.file == str(tmp_path / "000000.npz")
