"""From where a 3D view first looks: so that cameras and people fill it, upright, seen from the side of the cameras.

Does not belong here: how a view is laid out (`blueprints`), reading tracks' other content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.tracks import BodyTrack, CameraTrack, MeshTrack, Track
from thesis_assets.evaluation.qualitative.wavefront import read_wavefront
from thesis_assets.scenes.bodies import read_bodies
from thesis_assets.scenes.camera import Camera, read_camera

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

_TURN, _RISE = np.deg2rad(28.0), np.deg2rad(24.0)
"""Beside and above the cameras' own direction: straight behind a camera its picture would hide the people."""
_CAMERA_DISTANCE, _BODY_DISTANCE = 1.9, 2.4
"""Of the eye, in radii of what is shown; the viewer's field of view is about 55 degrees."""
_IMAGE_PLANE_SHARE = 0.28


@dataclass(frozen=True)
class Viewpoint:
    """Where the eye stands, what it looks at, which way is up; metres, in the world of the view."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]


def camera_viewpoint(tracks: Sequence[Track]) -> Viewpoint | None:
    """The eye for a view of cameras (and people): None without a readable camera."""
    cameras = [camera for track in tracks if isinstance(track, CameraTrack) and (camera := _first_camera(track))]
    if not cameras:
        return None
    target = _people_centre(tracks)
    target = _seen_point(cameras) if target is None else target
    offsets = np.stack([camera.center - target for camera in cameras])
    radius = float(np.linalg.norm(offsets, axis=1).max())
    direction = offsets.mean(axis=0)
    if np.linalg.norm(direction) < 0.2 * radius:  # a ring of cameras has no side
        direction = offsets[0]
    return _looking(target, direction, _CAMERA_DISTANCE * radius, _up(cameras))


def body_viewpoint(meshes: Sequence[MeshTrack], calibrations: Sequence[Path]) -> Viewpoint | None:
    """The eye for a view of body meshes, from the side of the first camera: None without a readable mesh or camera."""
    points = [vertices for track in meshes if (vertices := _first_vertices(track)) is not None]
    camera = next((camera for path in calibrations if (camera := _camera(path)) is not None), None)
    if not points or camera is None:
        return None
    vertices = np.concatenate(points).astype(np.float64)
    target = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - target, axis=1).max())
    return _looking(target, -camera.rotation[2], _BODY_DISTANCE * radius, _up([camera]))


def with_image_planes(tracks: Sequence[Track]) -> list[Track]:
    """The tracks, each camera's picture at a share of the cameras' median distance to what they look at."""
    cameras = [camera for track in tracks if isinstance(track, CameraTrack) and (camera := _first_camera(track))]
    if not cameras:
        return list(tracks)
    target = _people_centre(tracks)
    target = _seen_point(cameras) if target is None else target
    distance = float(np.median([np.linalg.norm(camera.center - target) for camera in cameras]))
    metres = round(max(_IMAGE_PLANE_SHARE * distance, 1e-3), 4)
    return [replace(track, image_plane=metres) if isinstance(track, CameraTrack) else track for track in tracks]


def _looking(target: Vector, direction: Vector, distance: float, up: Vector) -> Viewpoint:
    """The eye at `distance` from `target`, on the side of `direction`, turned aside and raised."""
    level = direction - up * float(direction @ up)
    if np.linalg.norm(level) < 1e-6:
        level = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    level = level / np.linalg.norm(level)
    aside = np.cross(up, level)
    turned = np.cos(_TURN) * level + np.sin(_TURN) * aside
    raised = np.cos(_RISE) * turned + np.sin(_RISE) * up
    return Viewpoint(_triple(target + max(distance, 1e-3) * raised), _triple(target), _triple(up))


def _up(cameras: Sequence[Camera]) -> Vector:
    """The world axis nearest to up in the mean of the cameras (OpenCV axes: y points down)."""
    mean = -np.mean([camera.rotation[1] for camera in cameras], axis=0)
    axis = int(np.argmax(np.abs(mean)))
    return np.asarray(np.eye(3)[axis] * np.sign(mean[axis]))


def _seen_point(cameras: Sequence[Camera]) -> Vector:
    """The point nearest to all optical axes (least squares); of one camera, or of parallel ones, 3 m in front of it."""
    normal_sum, right_side = np.zeros((3, 3)), np.zeros(3)
    for camera in cameras:
        axis = np.asarray(camera.rotation[2])
        across = np.eye(3) - np.outer(axis, axis)
        normal_sum += across
        right_side += across @ camera.center
    if np.linalg.cond(normal_sum) > 1e3:
        return np.asarray(cameras[0].center + 3.0 * cameras[0].rotation[2])
    return np.asarray(np.linalg.solve(normal_sum, right_side), np.float64)


def _people_centre(tracks: Sequence[Track]) -> Vector | None:
    for track in tracks:
        if isinstance(track, BodyTrack):
            for path in list(track.files.values())[:1]:
                try:
                    bodies = read_bodies(path, track.model)
                except InvalidFile:  # noted where the people are written
                    continue
                points = bodies.vertices if bodies.vertices is not None else bodies.joints
                if points is not None:
                    flat = np.asarray(points, np.float64).reshape(-1, 3)
                    return np.asarray((flat.min(axis=0) + flat.max(axis=0)) / 2)
    return None


def _first_camera(track: CameraTrack) -> Camera | None:
    return _camera(next(iter(track.files.values())))


def _camera(path: Path) -> Camera | None:
    try:
        return read_camera(path, 0, 1, 1)
    except InvalidFile:  # noted where the camera itself is written
        return None


def _first_vertices(track: MeshTrack) -> NDArray[np.float32] | None:
    try:
        return read_wavefront(next(iter(track.files.values()))).vertices
    except InvalidFile:  # noted where the mesh itself is written
        return None


def _triple(vector: Vector) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in vector)
    return x, y, z
