"""Writes cameras into a recording: pinhole and pose, once where they stand still; and which world axis is up.

Does not belong here: which files there are, where they stand in the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.recording import Recording
from thesis_assets.evaluation.qualitative.tracks import Absences, CameraTrack, ExportOptions
from thesis_assets.images.codecs import image_size
from thesis_assets.scenes.camera import Camera, read_camera

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_cameras(recording: Recording, track: CameraTrack, options: ExportOptions, absences: Absences) -> None:
    """Send one camera's pinhole and pose, each static where it is the same in all frames.

    Rerun poses are camera to world, our extrinsics world to camera: rotation and centre are those of the inverse.
    """
    import rerun as rr

    cameras = _read_cameras(track, options, absences)
    if not cameras:
        return
    frames = list(cameras)
    intrinsics = np.stack([camera.intrinsics for camera in cameras.values()])
    rotations = np.stack([camera.rotation.T for camera in cameras.values()])
    centres = np.stack([camera.center for camera in cameras.values()])
    first = cameras[frames[0]]
    pinhole: dict[str, Any] = {
        "resolution": [first.width, first.height],
        "camera_xyz": rr.ViewCoordinates.RDF,
        "image_plane_distance": track.image_plane,
    }
    if _constant(intrinsics):
        pinhole["image_from_camera"] = intrinsics[0]
    else:
        recording.send_frames(track.entity, frames, rr.Pinhole.columns(image_from_camera=intrinsics))
    recording.send_static(track.entity, rr.Pinhole.from_fields(**pinhole))
    if _constant(rotations) and _constant(centres):
        recording.send_static(track.entity, rr.Transform3D(mat3x3=rotations[0], translation=centres[0]))
    else:
        recording.send_frames(track.entity, frames, rr.Transform3D.columns(mat3x3=rotations, translation=centres))


def _read_cameras(track: CameraTrack, options: ExportOptions, absences: Absences) -> dict[int, Camera]:
    height, width = (0, 0)
    if track.picture is not None:
        try:
            height, width = image_size(track.picture)
        except InvalidFile as error:
            absences.left_out(track.picture, error.problem)
    cameras: dict[int, Camera] = {}
    for frame, path in options.first(track.files).items():
        try:
            camera = read_camera(path, track.cam_id, height, width)
        except InvalidFile as error:
            absences.left_out(path, error.problem)
            continue
        if not height:
            # No picture tells the size: most principal points lie near the middle.
            width, height = (max(1, round(2 * float(camera.intrinsics[axis, 2]))) for axis in (0, 1))
            camera = Camera(camera.cam_id, camera.intrinsics, camera.extrinsics, height, width)
        cameras[frame] = camera
    return cameras


def world_up(rotations: Sequence[NDArray[np.float64]]) -> str:
    """The world axis nearest to "up" in the mean of the cameras, as rerun names it: `Z_UP`, `Y_DOWN`, ...

    Args:
        rotations: (3, 3) world to camera, OpenCV axes (y points down).
    """
    up = -np.mean([rotation[1] for rotation in rotations], axis=0)
    axis = int(np.argmax(np.abs(up)))
    return f"{'XYZ'[axis]}_{'UP' if up[axis] > 0 else 'DOWN'}"


def write_world_up(recording: Recording, entity: str, axis: str) -> None:
    """Say which axis is up, so that 3D views stand upright."""
    import rerun as rr

    recording.send_static(entity, getattr(rr.ViewCoordinates, f"RIGHT_HAND_{axis}"))


def _constant(values: NDArray[np.float64]) -> bool:
    """Whether all rows of (N, ...) are the same, to the bit: a camera that drifts by a micrometre moves."""
    return bool((values == values[0]).all())
