"""How much of a set of points the cameras of a scene see: whether Gaussians lie in the cameras' world. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thesis_assets.scenes.camera import Camera, Matrix

MIN_SHARE_IN_VIEW = 0.05
"""A reconstruction of what cameras look at has most of its points in view; one in another world has hardly any."""
_MAX_POINTS = 20_000
_MAX_CAMERAS = 100


def share_in_view(points: np.ndarray[Any, np.dtype[Any]], cameras: Sequence[Camera]) -> float:
    """Share of points that at least one camera has in front of it and inside its image.

    At most 20,000 points and 100 cameras, evenly taken, are looked at.

    Args:
        points: (N, 3) world coordinates.

    Returns:
        0 to 1; 0 without points or cameras.
    """
    chosen: Matrix = np.asarray(points[:: max(1, len(points) // _MAX_POINTS)], dtype=np.float64)
    seen = np.zeros(len(chosen), dtype=bool)
    for camera in cameras[:: max(1, len(cameras) // _MAX_CAMERAS)]:
        pixels, depth = camera.project(chosen)
        with np.errstate(invalid="ignore"):
            inside = (pixels >= 0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
        seen |= inside & (depth > 0)
    return float(seen.mean()) if len(seen) else 0.0
