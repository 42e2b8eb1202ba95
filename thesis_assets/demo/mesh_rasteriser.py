"""A z-buffer for triangle meshes in plain numpy: which face a pixel sees, where on it, how far away.

Vectorised over fragments (pairs of a face and a pixel centre within its bounding box), in blocks of bounded memory.
Does not belong here: colour, light, cameras.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NEAR = 0.05
"""Metres. A face with a corner nearer than this is left out: clipping it would need new corners."""

_BLOCK_FRAGMENTS = 2_000_000


@dataclass(frozen=True)
class Visibility:
    """What each pixel sees.

    Attributes:
        faces: (H, W) face number, -1 where there is none.
        barycentric: (H, W, 3) perspective-correct shares of the face's corners; 0 where there is none.
        depth: (H, W) float64 distance along the camera's axis, metres; infinite where there is none.
    """

    faces: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray


def visible_faces(
    vertices: np.ndarray, faces: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> Visibility:
    """Rasterise a mesh of closed surfaces: faces turned away from the camera are left out.

    Args:
        vertices: (V, 3) in camera coordinates (x right, y down, z ahead), metres.
        faces: (F, 3) vertex numbers, anticlockwise seen from outside.
        intrinsics: (3, 3) in pixels; pixel centres lie at half integers.

    Returns:
        The nearest face of each pixel; of equally near ones the one with the higher number.
    """
    seen = np.full(height * width, -1)
    depth = np.full(height * width, np.inf)
    shares = np.zeros((height * width, 3))
    corners, inverse_depth, numbers = _on_screen(vertices, faces, intrinsics)
    for chosen, columns, rows in _fragments(corners, height, width):
        weights, inside = _barycentric(corners[chosen], columns + 0.5, rows + 0.5)
        chosen, columns, rows, weights = chosen[inside], columns[inside], rows[inside], weights[inside]
        # 1/z is linear on the screen, z is not (Heckbert and Moreton 1991)
        weighted = weights * inverse_depth[chosen]
        distance = 1.0 / (weighted[:, 0] + weighted[:, 1] + weighted[:, 2])
        pixels = rows * width + columns
        np.minimum.at(depth, pixels, distance)
        nearest = distance == depth[pixels]
        seen[pixels[nearest]] = numbers[chosen[nearest]]
        shares[pixels[nearest]] = weighted[nearest] * distance[nearest, None]
    return Visibility(seen.reshape(height, width), shares.reshape(height, width, 3), depth.reshape(height, width))


def _on_screen(vertices: np.ndarray, faces: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, ...]:
    """Corners (N, 3, 2) in pixels, their 1/z (N, 3), and numbers (N,) of the faces that turn to the camera."""
    in_front = (vertices[:, 2] > NEAR)[faces].all(axis=1)
    homogeneous = vertices @ intrinsics.T
    pixels = homogeneous[:, :2] / np.maximum(homogeneous[:, 2:], NEAR)
    corners = pixels[faces]
    towards = _doubled_area(corners) < 0  # y points down on the screen: anticlockwise outside has a negative area
    numbers = np.flatnonzero(in_front & towards)
    return corners[numbers], 1.0 / vertices[:, 2][faces[numbers]], numbers


def _fragments(corners: np.ndarray, height: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of (face, column, row) over all pixels in the faces' bounding boxes."""
    limits = np.array([width, height])
    first = np.clip(np.floor(corners.min(axis=1)).astype(np.int64), 0, limits)
    beyond = np.clip(np.ceil(corners.max(axis=1)).astype(np.int64), 0, limits)
    spans = np.maximum(beyond - first, 0)
    counts = spans[:, 0] * spans[:, 1]
    block = np.cumsum(counts) // _BLOCK_FRAGMENTS
    for number in np.unique(block):
        inside = np.flatnonzero((block == number) & (counts > 0))
        chosen = np.repeat(inside, counts[inside])
        starts = np.repeat(np.cumsum(counts[inside]) - counts[inside], counts[inside])
        offset = np.arange(len(chosen)) - starts
        wide = spans[chosen, 0]
        yield chosen, first[chosen, 0] + offset % wide, first[chosen, 1] + offset // wide


def _barycentric(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Screen-space shares (N, 3) of the corners at points, and whether the point is inside."""
    (ax, ay), (bx, by), (cx, cy) = np.moveaxis(corners, 0, -1)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    first = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
    second = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
    weights = np.stack([first, second, 1.0 - first - second], axis=1)
    return weights, (first >= 0) & (second >= 0) & (weights[:, 2] >= 0)


def _doubled_area(corners: np.ndarray) -> np.ndarray:
    edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area: np.ndarray = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    return area
