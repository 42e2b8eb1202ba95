"""Writes cameras, bodies and meshes into a recording: what stands still once, what moves as columns.

Does not belong here: which files there are, where they stand in the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.image_tracks import BATCH_FRAMES
from thesis_assets.evaluation.qualitative.recording import Recording
from thesis_assets.evaluation.qualitative.tracks import (
    Absences,
    BodyTrack,
    CameraTrack,
    Colour,
    ExportOptions,
    MeshTrack,
    person_colour,
)
from thesis_assets.evaluation.qualitative.wavefront import read_wavefront
from thesis_assets.images.codecs import image_size
from thesis_assets.scenes.bodies import read_bodies
from thesis_assets.scenes.camera import Camera, read_camera

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_PLANE_METRES = 0.4
"""How far in front of a camera its picture hangs in the 3D view."""
JOINT_RADIUS_METRES = 0.02


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
        "image_plane_distance": IMAGE_PLANE_METRES,
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


def write_bodies(
    recording: Recording, track: BodyTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send the people of body-model files, each as a mesh where the files carry vertices and faces, else as joints.

    A file with parameters alone cannot be drawn without its body model: it is noted.
    """
    people: dict[int, _PersonColumns] = {}
    topology: NDArray[Any] | None = None
    for frame, path in options.first(track.files).items():
        try:
            bodies = read_bodies(path, track.model)
        except InvalidFile as error:
            absences.left_out(path, error.problem)
            continue
        faces = bodies.faces if track.meshes and bodies.vertices is not None else None
        as_mesh = faces is not None
        shapes = bodies.vertices if as_mesh else bodies.joints
        if shapes is None:
            absences.left_out(path, "only parameters: neither joints nor vertices with faces")
            continue
        if faces is not None and bodies.vertices is not None:
            if faces.size and not 0 <= faces.min() <= faces.max() < bodies.vertices.shape[1]:
                absences.left_out(path, "the faces point beyond the vertices")
                continue
            topology = faces if topology is None else topology
            if not np.array_equal(faces, topology):
                absences.left_out(path, "the faces are not those of the other frames")
                continue
        for number, points in enumerate(shapes):
            person = people.get(number)
            if person is None:
                entity = f"{track.entity}/person_{number}{track.suffix}"
                colour = track.colour or person_colour(number)
                person = people[number] = _PersonColumns(recording, entity, colour, topology if as_mesh else None)
            if person.is_mesh != as_mesh:
                absences.left_out(path, "meshes and joints alternate")
                continue
            person.add(frame, points)
    for person in people.values():
        person.finish(expected)


def write_meshes(
    recording: Recording, track: MeshTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send one person's meshes; the faces once."""
    person: _PersonColumns | None = None
    topology: NDArray[np.int32] | None = None
    for frame, path in options.first(track.files).items():
        try:
            mesh = read_wavefront(path)
        except InvalidFile as error:
            absences.left_out(path, error.problem)
            continue
        if person is None or topology is None:
            topology = mesh.faces
            person = _PersonColumns(recording, track.entity, track.colour, topology if len(topology) else None)
        if not np.array_equal(mesh.faces, topology):
            absences.left_out(path, "the faces are not those of the other frames")
            continue
        person.add(frame, mesh.vertices)
    if person is not None:
        person.finish(expected)


class _PersonColumns:
    """Collects one person's points and sends them in batches: as a mesh where there are faces, else as a cloud of points."""

    def __init__(self, recording: Recording, entity: str, colour: Colour, faces: NDArray[Any] | None) -> None:
        self._recording = recording
        self._entity = entity
        self._batch: dict[int, NDArray[Any]] = {}
        self._sent: list[int] = []
        self._faces = faces
        self.is_mesh = faces is not None
        self._send_static(colour, faces)

    def add(self, frame: int, points: NDArray[Any]) -> None:
        """Queue the points (N, 3) of one frame."""
        self._batch[frame] = points
        if len(self._batch) == BATCH_FRAMES:
            self._send_batch()

    def finish(self, expected: Sequence[int]) -> None:
        """Send what is queued, and clear the frames of `expected` that this person is not in."""
        self._send_batch()
        self._recording.clear_frames(self._entity, sorted(set(expected) - set(self._sent)))

    def _send_static(self, colour: Colour, faces: NDArray[Any] | None) -> None:
        import rerun as rr

        if faces is not None:
            self._recording.send_static(
                self._entity, rr.Mesh3D.from_fields(triangle_indices=faces, albedo_factor=(*colour, 255))
            )
        else:
            self._recording.send_static(
                self._entity, rr.Points3D.from_fields(colors=[colour], radii=[JOINT_RADIUS_METRES])
            )

    def _send_batch(self) -> None:
        import rerun as rr

        if not self._batch:
            return
        frames = list(self._batch)
        points = np.concatenate(list(self._batch.values())).astype(np.float32, copy=False)
        if self._faces is not None:
            # Without normals the viewer draws a silhouette in one colour.
            normals = np.concatenate([vertex_normals(values, self._faces) for values in self._batch.values()])
            columns = rr.Mesh3D.columns(vertex_positions=points, vertex_normals=normals)
        else:
            columns = rr.Points3D.columns(positions=points)
        lengths = [len(values) for values in self._batch.values()]
        self._recording.send_frames(self._entity, frames, columns.partition(lengths), n_bytes=2 * points.nbytes)
        self._sent += frames
        self._batch = {}


def vertex_normals(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[np.float32]:
    """Unit normals (V, 3) of a triangle mesh: the mean of the adjacent faces, weighted by their area; 0 where there is none.

    Args:
        vertices: (V, 3).
        faces: (F, 3) indices, counter-clockwise from outside.
    """
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # `bincount` sums over the corners in 7 ms for a SMPL-X body; `np.add.at` takes ten times as long.
    summed = [np.bincount(faces.ravel(), np.repeat(across[:, axis], 3), len(vertices)) for axis in range(3)]
    normals = np.stack(summed, axis=1)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _constant(values: NDArray[np.float64]) -> bool:
    """Whether all rows of (N, ...) are the same, to the bit: a camera that drifts by a micrometre moves."""
    return bool((values == values[0]).all())
