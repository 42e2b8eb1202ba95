"""The studio's rig: calibrated cameras on an arc before the stage, all looking at its middle."""

import numpy as np

from thesis_assets.scenes.camera import Camera

CAMERA_ANGLES = {4: -62.0, 16: -18.0, 28: 22.0, 40: 66.0}
"""Camera id to degrees about y; 0 looks along -z at the stage."""
SOURCE_CAMERA = 16

_DISTANCES = {4: 4.1, 16: 4.3, 28: 4.0, 40: 4.2}
_HEIGHTS = {4: 1.75, 16: 1.35, 28: 1.60, 40: 1.20}
_STAGE_MIDDLE = np.array([0.0, 0.82, 0.0])
_VISIBLE_METRES = 2.45  # what fits into the image's height at the stage: a tall person with a raised arm


def studio_cameras(size: int) -> list[Camera]:
    """The four cameras, by id, for square images of `size` pixels. Each differs a little in distance, height and focal length."""
    cameras = []
    for cam_id, angle in CAMERA_ANGLES.items():
        distance = _DISTANCES[cam_id]
        azimuth = np.deg2rad(angle)
        center = np.array([distance * np.sin(azimuth), _HEIGHTS[cam_id], distance * np.cos(azimuth)])
        focal = size * float(np.linalg.norm(center - _STAGE_MIDDLE)) / _VISIBLE_METRES
        middle = size / 2 + 0.01 * size * np.array([np.sin(azimuth), np.cos(azimuth)])
        intrinsics = np.array([[focal, 0.0, middle[0]], [0.0, focal, middle[1]], [0.0, 0.0, 1.0]])
        cameras.append(Camera(cam_id, intrinsics, look_at(center, _STAGE_MIDDLE), size, size))
    return cameras


def look_at(center: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 4) world-to-camera extrinsics, OpenCV axes, y of the world pointing up in the image."""
    ahead = (target - center) / np.linalg.norm(target - center)
    right = np.cross(ahead, np.array([0.0, 1.0, 0.0]))
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    return np.concatenate([rotation, (-rotation @ center)[:, None]], axis=1)
