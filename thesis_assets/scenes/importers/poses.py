"""Poses of the foreign formats as world-to-camera matrices with OpenCV axes (x right, y down, z forward). Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

Matrix = np.ndarray[Any, np.dtype[np.float64]]

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0])
_ROTATION_TOLERANCE = 1e-3  # matrices printed with four decimals pass; a scaled or sheared one does not


def extrinsics_from_opengl(camera_to_world: Matrix) -> Matrix:
    """World-to-camera of a camera-to-world matrix with OpenGL axes (x right, y up, z backward), as nerfstudio writes it.

    Args:
        camera_to_world: (4, 4) or (3, 4).

    Returns:
        (3, 4), the rotation exactly orthogonal, the camera's centre unchanged.

    Raises:
        ValueError: it is not finite, or does not start with a rotation.
    """
    if not np.isfinite(camera_to_world).all():
        raise ValueError("the matrix is not finite")
    if camera_to_world.shape == (4, 4) and not np.allclose(camera_to_world[3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"its last row is {camera_to_world[3].tolist()}, not [0, 0, 0, 1]")
    rotation = _nearest_rotation(camera_to_world[:3, :3]) @ _OPENGL_TO_OPENCV
    return _extrinsics(rotation.T, -rotation.T @ camera_to_world[:3, 3])


def extrinsics_from_quaternion(quaternion: Matrix, translation: Matrix) -> Matrix:
    """World-to-camera of COLMAP's `QW QX QY QZ TX TY TZ`, which is world-to-camera with OpenCV axes already.

    Args:
        quaternion: (4,) w first (Hamilton), of any length but zero.
        translation: (3,).

    Returns:
        (3, 4).

    Raises:
        ValueError: a number is not finite, or the quaternion is zero.
    """
    if not (np.isfinite(quaternion).all() and np.isfinite(translation).all()):
        raise ValueError("the pose is not finite")
    length = float(np.linalg.norm(quaternion))
    if length < 1e-8:
        raise ValueError("the quaternion is zero")
    w, x, y, z = quaternion / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return _extrinsics(rotation, translation)


def _nearest_rotation(matrix: Matrix) -> Matrix:
    """The rotation closest to a rounded one (orthogonal Procrustes by singular values)."""
    left, values, right = np.linalg.svd(matrix)
    if np.abs(values - 1.0).max() > _ROTATION_TOLERANCE:
        raise ValueError(f"its upper left 3 x 3 part scales by {values.round(6).tolist()}; a rotation is wanted")
    rotation: Matrix = left @ right
    if np.linalg.det(rotation) < 0:
        raise ValueError("its upper left 3 x 3 part mirrors the world (determinant -1); a rotation is wanted")
    return rotation


def _extrinsics(rotation: Matrix, translation: Matrix) -> Matrix:
    return np.hstack([rotation, np.asarray(translation, dtype=np.float64)[:, None]])
