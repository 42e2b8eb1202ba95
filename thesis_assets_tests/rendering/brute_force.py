"""The image of 3D Gaussians by the book, one pixel and one Gaussian at a time, in float64: what the rasteriser must reproduce."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from thesis_assets.rendering.gaussians import Gaussians

Array = NDArray[np.float64]


def render(gaussians: Gaussians, intrinsics: Array, extrinsics: Array, height: int, width: int) -> Array:
    """(3, height, width), black background."""
    rotation, translation = extrinsics[:, :3], extrinsics[:, 3]
    points = gaussians.means.astype(np.float64) @ rotation.T + translation
    order = [i for i in np.argsort(points[:, 2], kind="stable") if points[i, 2] > 0.01]
    projected = [project(gaussians, i, points[i], rotation, intrinsics, height, width) for i in order]
    seen = [colour(gaussians, i, rotation, translation) for i in order]
    opacities = [1 / (1 + np.exp(-float(gaussians.opacity_logit[i]))) for i in order]
    image = np.zeros((3, height, width))
    for row in range(height):
        for column in range(width):
            transmittance = 1.0
            for (mean, inverse), rgb, opacity in zip(projected, seen, opacities, strict=True):
                offset = np.array([column + 0.5, row + 0.5]) - mean
                alpha = min(0.99, opacity * np.exp(-0.5 * offset @ inverse @ offset))
                if alpha < 1 / 255:
                    continue
                if transmittance * (1 - alpha) < 1e-4:
                    break
                image[:, row, column] += transmittance * alpha * rgb
                transmittance *= 1 - alpha
    return np.clip(image, 0, 1)


def project(
    gaussians: Gaussians, i: int, point: Array, rotation: Array, intrinsics: Array, height: int, width: int
) -> tuple[Array, Array]:
    """Mean (2,) in pixels and inverse covariance (2, 2)."""
    w, x, y, z = gaussians.rotations[i].astype(np.float64)
    axes = Rotation.from_quat([x, y, z, w]).as_matrix() @ np.diag(np.exp(gaussians.log_scales[i].astype(np.float64)))
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    depth = point[2]
    tx = np.clip(point[0] / depth, -(cx + 0.15 * width) / fx, (1.15 * width - cx) / fx)
    ty = np.clip(point[1] / depth, -(cy + 0.15 * height) / fy, (1.15 * height - cy) / fy)
    jacobian = np.array([[fx, 0, -fx * tx], [0, fy, -fy * ty]]) / depth
    spread = jacobian @ rotation @ axes
    mean = (intrinsics @ point)[:2] / depth
    return mean, np.linalg.inv(spread @ spread.T + 0.3 * np.eye(2))


def colour(gaussians: Gaussians, i: int, rotation: Array, translation: Array) -> Array:
    """RGB from the camera's centre; spherical harmonics of degree 1 at most, written out."""
    direction = gaussians.means[i] + rotation.T @ translation
    x, y, z = direction / np.linalg.norm(direction)
    result = 0.5 + 0.28209479177387814 * gaussians.sh_dc[i].astype(np.float64)
    if len(gaussians.sh_rest[i]):
        first, second, third = gaussians.sh_rest[i].astype(np.float64)
        result = result + 0.4886025119029199 * (-y * first + z * second - x * third)
    return np.maximum(result, 0)
