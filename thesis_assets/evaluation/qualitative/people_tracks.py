"""Writes people into a recording: meshes with their faces once, joints as points.

Does not belong here: which files there are, where they stand in the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.image_tracks import BATCH_FRAMES, batches
from thesis_assets.evaluation.qualitative.recording import Recording
from thesis_assets.evaluation.qualitative.tracks import (
    Absences,
    BodyTrack,
    Colour,
    ExportOptions,
    FrameFiles,
    MeshTrack,
    person_colour,
)
from thesis_assets.evaluation.qualitative.wavefront import read_wavefront
from thesis_assets.scenes.bodies import read_bodies

if TYPE_CHECKING:
    from numpy.typing import NDArray

JOINT_RADIUS_METRES = 0.02


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
    files = options.first(track.files)
    topology = _first_faces(files)
    person: _PersonColumns | None = None
    for frames, meshes in batches(files, read_wavefront, absences):
        for frame, mesh in zip(frames, meshes, strict=True):
            if not np.array_equal(mesh.faces, topology):
                absences.left_out(files[frame], "the faces are not those of the other frames")
                continue
            if person is None:
                person = _PersonColumns(recording, track.entity, track.colour, topology if len(topology) else None)
            person.add(frame, mesh.vertices)
    if person is not None:
        person.finish(expected)


def _first_faces(files: FrameFiles) -> NDArray[np.int32]:
    """The faces of the first mesh that has any: one that was cut short before its faces must not decide for the others."""
    for path in files.values():
        try:
            faces = read_wavefront(path).faces
        except InvalidFile:  # noted when its turn comes
            continue
        if len(faces):
            return faces
    return np.empty((0, 3), np.int32)


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
