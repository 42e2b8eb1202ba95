"""A calibrated pinhole camera and its file: intrinsics in pixels, world-to-camera extrinsics in metres, OpenCV axes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.layout import check_camera
from thesis_assets.scenes.bounded_files import parse_npz, read_bounded
from thesis_assets.schemas.scenes import CAMERA_ARRAYS

Matrix = np.ndarray[Any, np.dtype[np.float64]]

MAX_CAMERA_BYTES = 1024 * 1024
_ROTATION_TOLERANCE = 1e-2  # calibration files carry rounded rotations; a transposed or scaled matrix is far beyond it


@dataclass(frozen=True, eq=False)
class Camera:
    """One view of one frame.

    Attributes:
        cam_id: the camera's id in its scene.
        intrinsics: (3, 3) float64, pixels of the image of `height` x `width`.
        extrinsics: (3, 4) float64, world to camera, metres; x right, y down, z forward.
    """

    cam_id: int
    intrinsics: Matrix
    extrinsics: Matrix
    height: int
    width: int

    def __post_init__(self) -> None:
        check_camera(self.cam_id)
        object.__setattr__(self, "intrinsics", _frozen(self.intrinsics, (3, 3)))
        object.__setattr__(self, "extrinsics", _frozen(self.extrinsics, (3, 4)))

    @property
    def rotation(self) -> Matrix:
        """(3, 3), world to camera."""
        return self.extrinsics[:, :3]

    @property
    def translation(self) -> Matrix:
        """(3,), metres, in camera coordinates."""
        return self.extrinsics[:, 3]

    @property
    def center(self) -> Matrix:
        """(3,), the camera's place in the world, metres."""
        return -self.rotation.T @ self.translation

    def scaled(self, factor: float) -> Camera:
        """The same camera for its image resized by `factor`; the new size is rounded to whole pixels.

        Pixel centres lie at half-integers, so that a resize scales the first two rows of the intrinsics.
        """
        height, width = max(1, round(self.height * factor)), max(1, round(self.width * factor))
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return replace(self, intrinsics=scale @ self.intrinsics, height=height, width=width)

    def project(self, points: Matrix) -> tuple[Matrix, Matrix]:
        """Pixels and depths of world points.

        Args:
            points: (N, 3) metres.

        Returns:
            (N, 2) pixels (x, y) and (N,) depths in metres; a point with depth <= 0 is behind the camera.
        """
        local = points @ self.rotation.T + self.translation
        homogeneous = local @ self.intrinsics.T
        depth = local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = homogeneous[:, :2] / homogeneous[:, 2:]
        return pixels, depth

    def unproject(self, pixels: Matrix, depth: Matrix) -> Matrix:
        """(N, 3) world points, metres, of pixels (N, 2) (x, y) at depths (N,) along the optical axis, metres: the inverse of `project`."""
        homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
        local = (homogeneous @ np.linalg.inv(self.intrinsics).T) * depth[:, None]
        return np.asarray((local - self.translation) @ self.rotation, dtype=np.float64)


def read_camera(path: Path, cam_id: int, height: int, width: int) -> Camera:
    """Read `all_cameras/<cam_id>/<fname>.npz` for an image of `height` x `width`.

    Raises:
        InvalidFile: missing, empty, another shape, or not a calibration; the message has the array's name.
    """
    return parse_camera(read_bounded(path, MAX_CAMERA_BYTES), path, cam_id, height, width)


def parse_camera(content: bytes, path: Path, cam_id: int, height: int, width: int) -> Camera:
    """As `read_camera`, from the bytes of the file that messages name `path`."""
    arrays = parse_npz(content, path, max_bytes=MAX_CAMERA_BYTES)
    found = {name: _camera_array(arrays, name, shape, path) for name, shape in CAMERA_ARRAYS.items()}
    camera = Camera(cam_id, found["intrinsics"], found["extrinsics"], height, width)
    check_calibration(camera, path)
    return camera


def write_camera(path: Path, camera: Camera) -> None:
    """Write a camera as the scene contract names it: `intrinsics` (1, 3, 3), `extrinsics` (1, 3, 4), float64."""
    storage.write_bytes(path, camera_bytes(camera))


def camera_bytes(camera: Camera) -> bytes:
    """What `write_camera` writes; the same camera gives the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, intrinsics=camera.intrinsics[None], extrinsics=camera.extrinsics[None])
    return buffer.getvalue()


def _frozen(matrix: Matrix, shape: tuple[int, ...]) -> Matrix:
    values = np.array(matrix, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"a camera matrix has shape {values.shape}, not {shape}")
    values.setflags(write=False)
    return values


def _camera_array(arrays: dict[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Matrix:
    array = arrays.get(name)
    if array is None:
        raise InvalidFile("the camera file lacks an array", file=path, key=name, found=sorted(arrays), wanted=name)
    if array.shape not in (shape, shape[1:]) or not np.issubdtype(array.dtype, np.number):
        raise InvalidFile(
            "a camera array has another shape", file=path, key=name, found=(array.shape, str(array.dtype)), wanted=shape
        )
    matrix = np.asarray(array, dtype=np.float64).reshape(shape[1:])
    if not np.isfinite(matrix).all():
        raise InvalidFile("a camera array is not finite", file=path, key=name, wanted="finite numbers")
    return matrix


def check_calibration(camera: Camera, path: Path, place: str = "") -> None:
    """Refuse what is no pinhole camera and no rotation; `place` stands behind the array's name in messages: `[3]`.

    Raises:
        InvalidFile: of `path`, with the array's name.
    """
    focal = camera.intrinsics[0, 0], camera.intrinsics[1, 1]
    if min(focal) <= 0 or not np.allclose(camera.intrinsics[2], [0.0, 0.0, 1.0], atol=1e-6):
        raise InvalidFile(
            "the intrinsics are not a pinhole camera's",
            file=path,
            key=f"intrinsics{place}",
            found=camera.intrinsics.tolist(),
            wanted="[[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths",
        )
    rotation = camera.rotation
    with np.errstate(over="ignore", invalid="ignore"):
        orthogonal = np.allclose(rotation @ rotation.T, np.eye(3), atol=_ROTATION_TOLERANCE)
    if not orthogonal or np.linalg.det(rotation) < 0:
        raise InvalidFile(
            "the extrinsics do not start with a rotation",
            file=path,
            key=f"extrinsics{place}",
            found=rotation.tolist(),
            wanted="[R | t], world to camera, OpenCV axes, R orthogonal with determinant 1",
        )


MIN_SHARE_IN_VIEW = 0.05
"""A reconstruction of what cameras look at has most of its points in view; one in another world has hardly any."""
_MAX_POINTS = 20_000
_MAX_CAMERAS = 100


def share_in_view(points: np.ndarray[Any, np.dtype[Any]], cameras: Sequence[Camera]) -> float:
    """Share, 0 to 1, of points (N, 3) that at least one camera has in front of it and inside its image; 0 without any.

    At most 20,000 points and 100 cameras, evenly taken, are looked at.
    """
    chosen: Matrix = np.asarray(points[:: max(1, len(points) // _MAX_POINTS)], dtype=np.float64)
    seen = np.zeros(len(chosen), dtype=bool)
    for camera in cameras[:: max(1, len(cameras) // _MAX_CAMERAS)]:
        pixels, depth = camera.project(chosen)
        with np.errstate(invalid="ignore"):
            inside = (pixels >= 0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
        seen |= inside & (depth > 0)
    return float(seen.mean()) if len(seen) else 0.0
