"""A picture of one frame's pose task: predicted joints (orange) and true joints (green) over the source camera's image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.evaluation.compared_bodies import ComparedBodies
from thesis_assets.evaluation.pose_metrics import Array
from thesis_assets.scenes.camera import Camera

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import ImageDraw

PREDICTED_RGB = (255, 140, 0)
TRUE_RGB = (40, 200, 70)
LONG_SIDE = 640
MOST_ENLARGED = 3.0


def overlay(image: NDArray[np.uint8], camera: Camera, compared: ComparedBodies) -> NDArray[np.uint8]:
    """Draw both sides' joints.

    Args:
        image: (H, W, 3) uint8 of the source camera.
        camera: its calibration in the ground truth's world; the predicted joints are seen by the one in their own world.

    Returns:
        The picture, its long side at most `LONG_SIDE` pixels.
    """
    from PIL import Image, ImageDraw

    small = camera.scaled(min(MOST_ENLARGED, LONG_SIDE / max(image.shape[:2])))
    picture = Image.fromarray(image).resize((small.width, small.height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius = max(1.0, max(small.width, small.height) / 160)
    true_joints = compared.motion.inverse().move(compared.true.joints)
    _dots(draw, small.intrinsics, camera.extrinsics, true_joints, radius, TRUE_RGB)
    if compared.source_extrinsics is not None:
        _dots(draw, small.intrinsics, compared.source_extrinsics, compared.predicted.joints, radius, PREDICTED_RGB)
    return np.asarray(picture)


def _dots(
    draw: ImageDraw.ImageDraw,
    intrinsics: Array,
    extrinsics: Array,
    joints: Array,
    radius: float,
    color: tuple[int, int, int],
) -> None:

    local = joints.reshape(-1, 3) @ extrinsics[:, :3].T + extrinsics[:, 3]
    for x, y, depth in (local[np.isfinite(local).all(axis=1)] @ intrinsics.T).tolist():
        if depth > 0:
            left, top = x / depth, y / depth
            draw.ellipse((left - radius, top - radius, left + radius, top + radius), fill=color)
