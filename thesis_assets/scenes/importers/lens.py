"""OpenCV's lens of five coefficients undone: images as a pinhole camera of the same intrinsics sees them.

Source of the model: https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html. Pixel centres are at whole numbers, as `cv2.undistort`
takes them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from thesis_assets.scenes.camera import Matrix

Image = np.ndarray[Any, np.dtype[np.uint8]]


def undistorted(image: Image, intrinsics: Matrix, lens: Matrix, *, nearest: bool = False) -> Image:
    """An image without its distortion, of the same size; 0 where the lens saw nothing.

    Args:
        image: (H, W) or (H, W, C) uint8.
        intrinsics: (3, 3) pixels of the image, of the distorted and the undistorted one alike.
        lens: (5,) `k1 k2 p1 p2 k3`.
        nearest: the nearest pixel in place of the bilinear mean of four; for masks.
    """
    from scipy.ndimage import map_coordinates

    height, width = image.shape[:2]
    places = _places(height, width, tuple(intrinsics.reshape(-1).tolist()), tuple(lens.tolist()))
    planes = [
        map_coordinates(plane, places, order=0 if nearest else 1, mode="constant")
        for plane in image.reshape(height, width, -1).transpose(2, 0, 1)
    ]
    return np.ascontiguousarray(np.stack(planes, axis=-1).reshape(image.shape))


def share_seen(height: int, width: int, intrinsics: Matrix, lens: Matrix) -> float:
    """Share, 0 to 1, of the undistorted image that the distorted one shows; arguments as of `undistorted`."""
    rows, columns = _places(height, width, tuple(intrinsics.reshape(-1).tolist()), tuple(lens.tolist()))
    return float(((rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)).mean())


@lru_cache(maxsize=16)  # two rigs of Hi4D: 10 MB a camera
def _places(height: int, width: int, intrinsics: tuple[float, ...], lens: tuple[float, ...]) -> Matrix:
    """(2, H, W) float32: row and column of the distorted image that each pixel of the undistorted one shows."""
    matrix = np.array(intrinsics).reshape(3, 3)
    k1, k2, p1, p2, k3 = lens
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        x, y, _ = np.tensordot(np.linalg.inv(matrix), np.stack([columns, rows, np.ones_like(rows)]), axes=1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        distorted = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
                np.ones_like(x),
            ]
        )
        column, row, _ = np.tensordot(matrix, distorted, axes=1)
        return np.stack([row, column]).astype(np.float32)
