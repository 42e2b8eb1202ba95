"""Cameras and people in the world of a recording: read and written, which axis is up, from where a 3D view first looks.

A view's first look is such that cameras and people fill it, upright, seen from the side of the cameras. Does not belong here: which
files there are, where they stand in the tree, how a view is laid out (`blueprints`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import image_size
from thesis_assets.recordings.image_tracks import BATCH_FRAMES, batches
from thesis_assets.recordings.recording import Recording
from thesis_assets.recordings.tracks import (
    Absences,
    BodyTrack,
    CameraTrack,
    Colour,
    ExportOptions,
    FrameFiles,
    GaussianTrack,
    MeshTrack,
    Track,
    person_colour,
)
from thesis_assets.scenes.bodies import read_bodies
from thesis_assets.scenes.bounded_files import read_bounded
from thesis_assets.scenes.camera import Camera, read_camera

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

Number = TypeVar("Number", np.float32, np.int32)

_JOINT_RADIUS_METRES = 0.02
_MOST_POINTS = 200_000
"""Of one file of Gaussians: more are thinned evenly, for a viewer that stays quick."""
_MAX_MESH_BYTES = 256 * 1024 * 1024
_TURN, _RISE = np.deg2rad(28.0), np.deg2rad(24.0)
"""Beside and above the cameras' own direction: straight behind a camera its picture would hide the people."""
_CAMERA_DISTANCE, _BODY_DISTANCE = 1.9, 2.4
"""Of the eye, in radii of what is shown; the viewer's field of view is about 55 degrees."""
_IMAGE_PLANE_SHARE = 0.28


# --- cameras ---------------------------------------------------------------------------------------------------------


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


def _constant(values: NDArray[np.float64]) -> bool:
    """Whether all rows of (N, ...) are the same, to the bit: a camera that drifts by a micrometre moves."""
    return bool((values == values[0]).all())


# --- people ----------------------------------------------------------------------------------------------------------


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
                faces = topology if as_mesh else None
                person = people[number] = _PersonColumns(recording, entity, person_colour(number), faces)
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


def write_gaussians(recording: Recording, track: GaussianTrack, options: ExportOptions, absences: Absences) -> None:
    """Centres as points in their colour at degree 0, as large as the mean of the three standard deviations."""
    import rerun as rr

    from thesis_assets.rendering.gaussians import SH_C0, read_ply

    of_all: list[tuple[int | None, Path]] = [] if track.still is None else [(None, track.still)]
    for frame, path in [*of_all, *options.first(track.files).items()]:
        try:
            found = read_ply(path)
        except InvalidFile as error:
            absences.left_out(path, error.problem)
            continue
        kept = slice(None, None, max(1, -(-len(found) // _MOST_POINTS)))
        points = {
            "positions": found.means[kept],
            "colors": np.clip((0.5 + SH_C0 * found.sh_dc[kept]) * 255, 0, 255).astype(np.uint8),
            "radii": np.exp(found.log_scales[kept]).mean(axis=1),
        }
        if frame is None:
            recording.send_static(track.entity, rr.Points3D(**points))
        else:
            columns = rr.Points3D.columns(**points).partition([len(points["positions"])])
            recording.send_frames(track.entity, [frame], columns, n_bytes=points["positions"].nbytes)


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
        import rerun as rr

        self._recording, self._entity, self._faces = recording, entity, faces
        self._batch: dict[int, NDArray[Any]] = {}
        self._sent: list[int] = []
        self.is_mesh = faces is not None
        recording.send_static(
            entity,
            rr.Points3D.from_fields(colors=[colour], radii=[_JOINT_RADIUS_METRES])
            if faces is None
            else rr.Mesh3D.from_fields(triangle_indices=faces, albedo_factor=(*colour, 255)),
        )

    def add(self, frame: int, points: NDArray[Any]) -> None:
        """Queue the points (N, 3) of one frame."""
        self._batch[frame] = points
        if len(self._batch) == BATCH_FRAMES:
            self._send_batch()

    def finish(self, expected: Sequence[int]) -> None:
        """Send what is queued, and clear the frames of `expected` that this person is not in."""
        self._send_batch()
        self._recording.clear_frames(self._entity, sorted(set(expected) - set(self._sent)))

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


# --- Wavefront meshes: vertices and triangles, fast enough for thousands of bodies -----------------------------------


@dataclass(frozen=True, eq=False)
class WavefrontMesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) float32 metres.
        faces: (F, 3) int32, counted from 0; none where the file is a cloud of points.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


def read_wavefront(path: Path) -> WavefrontMesh:
    """Read `v` and `f` rows. Colours behind the coordinates of `v` and all other rows are passed over.

    Raises:
        InvalidFile: missing, too large, no vertices, a row that is no number, a face that is no triangle of these vertices.
    """
    content = read_bounded(path, _MAX_MESH_BYTES)
    if (plain := _plain(content)) is not None:
        _check(*plain, path)
        return WavefrontMesh(plain[0], plain[1] - 1)
    lines = content.splitlines()
    vertices = _table([line[2:] for line in lines if line.startswith(b"v ")], np.float32, path)[:, :3]
    corners = [line[2:] for line in lines if line.startswith(b"f ")]
    faces = _table(corners if b"/" not in content else [_positions(line) for line in corners], np.int32, path)
    _check(vertices, faces, path)
    return WavefrontMesh(np.ascontiguousarray(vertices), faces - 1)


def _plain(content: bytes) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
    """What this platform writes: (V, 3) vertices, then (F, 3) triangles counted from 1, nothing else. None of any other file.

    Read as two tables with one blank between the columns: several times as fast as by lines.
    """
    vertices_end = content.find(b"\nf ") + 1 or len(content)
    vertices = _columns(content[:vertices_end], "v", np.float32)
    faces = _plain_faces(content[vertices_end:])
    return None if vertices is None or faces is None else (vertices, faces)


@lru_cache(maxsize=4)
def _plain_faces(rows: bytes) -> NDArray[np.int32] | None:
    """Kept: all frames of a person have the same rows."""
    faces = _columns(rows, "f", np.int32)
    if faces is not None:
        faces.flags.writeable = False
    return faces


def _columns(rows: bytes, key: str, kind: type[Number]) -> NDArray[Number] | None:
    """(N, 3) of rows that are `key` and three numbers each; None where any is not."""
    import pyarrow
    from pyarrow import compute, csv

    if not rows:
        return np.empty((0, 3), kind)
    names = ["key", "x", "y", "z"]
    kinds = {"key": pyarrow.string(), **dict.fromkeys(names[1:], pyarrow.from_numpy_dtype(kind))}
    try:
        table = csv.read_csv(
            pyarrow.py_buffer(rows),
            csv.ReadOptions(column_names=names, use_threads=False, block_size=len(rows) + 1),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(column_types=kinds, null_values=[]),
        )
    except pyarrow.ArrowInvalid:
        return None
    if not compute.all(compute.equal(table["key"], key)).as_py():
        return None
    return np.stack([table[name].to_numpy() for name in names[1:]], axis=1)


def _table(rows: list[bytes], kind: type[np.float32] | type[np.int32], path: Path) -> NDArray[Any]:
    """(N, columns) from rows of numbers. numpy's text parser takes 5 ms for a SMPL-X body, Python's words 30 ms."""
    if not rows:
        return np.empty((0, 3), kind)
    width = len(rows[0].split())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # how older numpy says that text is no number
            numbers = np.fromstring(b" ".join(rows), dtype=kind, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise InvalidFile("the mesh has a row that cannot be read", file=path, found=str(error)) from error
    if width == 0 or len(numbers) != width * len(rows):
        raise InvalidFile(
            "the mesh has rows of different lengths", file=path, found=f"{len(numbers)} numbers in {len(rows)} rows"
        )
    return numbers.reshape(len(rows), width)


def _positions(line: bytes) -> bytes:
    """`1/4/2 2/5/2 3/6/2` -> `1 2 3`."""
    return b" ".join(word.split(b"/")[0] for word in line.split())


def _check(vertices: NDArray[np.float32], faces: NDArray[np.int32], path: Path) -> None:
    if len(vertices) == 0 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
        raise InvalidFile("the mesh has no usable vertices", file=path, found=vertices.shape, wanted="(V, 3) finite")
    if faces.shape[1] != 3 or (len(faces) and (faces.min() < 1 or faces.max() > len(vertices))):
        raise InvalidFile(
            "the mesh has faces that are no triangles of its vertices", file=path, found=faces.shape, wanted="(F, 3)"
        )


# --- where a view looks from -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Viewpoint:
    """Where the eye stands, what it looks at, which way is up; metres, in the world of the view."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]


def camera_viewpoint(tracks: Sequence[Track]) -> Viewpoint | None:
    """The eye for a view of cameras (and people): None without a readable camera."""
    cameras = _first_cameras(tracks)
    if not cameras:
        return None
    target = _looked_at(tracks, cameras)
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
    cameras = _first_cameras(tracks)
    if not cameras:
        return list(tracks)
    target = _looked_at(tracks, cameras)
    distance = float(np.median([np.linalg.norm(camera.center - target) for camera in cameras]))
    metres = round(max(_IMAGE_PLANE_SHARE * distance, 1e-3), 4)
    return [replace(track, image_plane=metres) if isinstance(track, CameraTrack) else track for track in tracks]


def up_axis(calibrations: Iterable[Path]) -> str | None:
    """The world axis that points up, as rerun names it (`Z_UP`, `Y_DOWN`, ...); None without a readable camera."""
    cameras = [camera for path in calibrations if (camera := _camera(path)) is not None]
    if not cameras:
        return None
    up = _up(cameras)
    axis = int(np.argmax(np.abs(up)))
    return f"{'XYZ'[axis]}_{'UP' if up[axis] > 0 else 'DOWN'}"


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


def _looked_at(tracks: Sequence[Track], cameras: Sequence[Camera]) -> Vector:
    """The middle of the people, where there are any; else the point nearest to all optical axes (least squares).

    Of one camera, or of parallel ones, the point 3 m in front of it.
    """
    for track in tracks:
        if isinstance(track, BodyTrack):
            try:
                bodies = read_bodies(next(iter(track.files.values())), track.model)
            except InvalidFile:  # noted where the people are written
                continue
            points = bodies.vertices if bodies.vertices is not None else bodies.joints
            if points is not None:
                flat = np.asarray(points, np.float64).reshape(-1, 3)
                return np.asarray((flat.min(axis=0) + flat.max(axis=0)) / 2)
    normal_sum, right_side = np.zeros((3, 3)), np.zeros(3)
    for camera in cameras:
        axis = np.asarray(camera.rotation[2])
        across = np.eye(3) - np.outer(axis, axis)
        normal_sum += across
        right_side += across @ camera.center
    if np.linalg.cond(normal_sum) > 1e3:
        return np.asarray(cameras[0].center + 3.0 * cameras[0].rotation[2])
    return np.asarray(np.linalg.solve(normal_sum, right_side), np.float64)


def _first_cameras(tracks: Sequence[Track]) -> list[Camera]:
    """Of each camera that of its first frame, where that can be read."""
    files = [next(iter(track.files.values())) for track in tracks if isinstance(track, CameraTrack)]
    return [camera for path in files if (camera := _camera(path)) is not None]


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
