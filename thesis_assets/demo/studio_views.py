"""The studio's calibrated cameras, and what they see: people, floor and wall with light and shadow; image, depth and masks.

Drawn at twice the size and averaged, so that edges are smooth. Light does not depend on the view (Lambert), as colours of
Gaussians without higher harmonics do not either. Meshes go through a z-buffer in plain numpy, vectorised over fragments (pairs of
a face and a pixel centre within its bounding box), in blocks of bounded memory. Does not belong here: files, poses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thesis_assets.demo.studio_bodies import Pose, Surface, join_meshes
from thesis_assets.demo.studio_people import Individual
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


SUPERSAMPLING = 2
_TO_LIGHT = np.array([0.45, 0.80, 0.55]) / np.linalg.norm([0.45, 0.80, 0.55])
_TO_FILL = np.array([-0.75, 0.25, 0.60]) / np.linalg.norm([-0.75, 0.25, 0.60])
_LIGHT, _FILL = np.array([0.66, 0.64, 0.60]), np.array([0.16, 0.18, 0.22])
_SKY, _GROUND = np.array([0.34, 0.35, 0.37]), np.array([0.20, 0.18, 0.16])
_WALL_RADIUS = 6.0
_SHADOW_CELLS = 160
_SHADOW_METRES = 4.0


@dataclass(frozen=True)
class Crowd:
    """The dressed people of one moment as one lit surface.

    Attributes:
        vertices: (V, 3) metres in the world.
        faces: (F, 3).
        rest_points: (V, 3) rest position of each vertex.
        light: (V, 3) factor on the colour.
        face_person: (F,) whose face it is.
        face_part: (F,) `studio_bodies.Part`.
        floor_shadow: (S, S) share of light taken from the floor around the stage's middle.
    """

    people: tuple[Individual, ...]
    vertices: np.ndarray
    faces: np.ndarray
    rest_points: np.ndarray
    light: np.ndarray
    face_person: np.ndarray
    face_part: np.ndarray
    floor_shadow: np.ndarray


@dataclass(frozen=True)
class View:
    """One image with its truth.

    Attributes:
        image: (H, W, 3) uint8.
        depth: (H, W) float32, metres along the camera's axis.
        masks: (P, H, W) bool, the visible part of each person.
    """

    image: np.ndarray
    depth: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Backdrop:
    """The empty studio in one camera, at the supersampled size: `color` (H, W, 3), `depth` (H, W), floor points (H, W, 2)."""

    camera: Camera
    color: np.ndarray
    depth: np.ndarray
    floor: np.ndarray


def lit_crowd(people: Sequence[Individual], poses: Sequence[Pose]) -> Crowd:
    """The people of one moment, ready to be seen from any camera."""
    meshes = [person.dressed for person in people]
    surfaces = [person.surface(pose, mesh) for person, pose, mesh in zip(people, poses, meshes, strict=True)]
    whole = join_meshes(meshes)
    vertices = np.concatenate([surface.vertices for surface in surfaces])
    return Crowd(
        people=tuple(people),
        vertices=vertices,
        faces=whole.faces,
        rest_points=whole.vertices,
        light=np.concatenate([light_on(surface) for surface in surfaces]),
        face_person=np.repeat(np.arange(len(meshes)), [len(mesh.faces) for mesh in meshes]),
        face_part=whole.parts[whole.faces[:, 0]],
        floor_shadow=_floor_shadow(vertices, whole.faces),
    )


def light_on(surface: Surface) -> np.ndarray:
    """(V, 3) factor on the unlit colour: a key light, a fill light, and the room from above and below."""
    normals = surface.normals
    key = np.clip(normals @ _TO_LIGHT, 0.0, None)[:, None]
    fill = np.clip(normals @ _TO_FILL, 0.0, None)[:, None]
    up = (0.5 + 0.5 * normals[:, 1])[:, None]
    return np.asarray(key * _LIGHT + fill * _FILL + up * _SKY + (1 - up) * _GROUND)


def empty_studio(camera: Camera) -> Backdrop:
    """Floor (tiles) and round wall (panels, a lit band) as the camera sees them without people."""
    large = camera.scaled(SUPERSAMPLING)
    rows, columns = np.mgrid[0 : large.height, 0 : large.width] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(large.intrinsics).T @ large.rotation
    center = large.center
    to_floor = np.where(rays[..., 1] < -1e-6, -center[1] / np.minimum(rays[..., 1], -1e-6), np.inf)
    to_wall = _distance_to_wall(center, rays)
    on_floor = to_floor < to_wall
    depth = np.minimum(to_floor, to_wall)  # rays have length 1 along the camera's axis, so that this is depth
    points = center + depth[..., None] * rays
    color = np.where(on_floor[..., None], _floor_color(points), _wall_color(points))
    return Backdrop(large, color, depth, np.where(on_floor[..., None], points[..., [0, 2]], np.inf))


def draw(crowd: Crowd, backdrop: Backdrop) -> View:
    """One camera's view of the people in the studio."""
    large = backdrop.camera
    in_camera = crowd.vertices @ large.rotation.T + large.translation
    seen = visible_faces(in_camera, crowd.faces, large.intrinsics, large.height, large.width)
    person = np.where(seen.faces >= 0, crowd.face_person[seen.faces], -1)
    color = backdrop.color * (1.0 - _shadow_at(crowd.floor_shadow, backdrop.floor))[..., None]
    _paint_people(color, crowd, seen, person)
    depth = np.minimum(seen.depth, backdrop.depth)
    shares = np.stack([_averaged((person == index).astype(np.float64)) for index in range(len(crowd.people))])
    image = np.round(255.0 * np.clip(_averaged(color), 0.0, 1.0)).astype(np.uint8)
    whose = shares.argmax(axis=0)  # a pixel that two people share half and half belongs to one of them
    masks = np.stack([(share >= 0.5) & (whose == index) for index, share in enumerate(shares)])
    return View(image, np.minimum.reduce(_samples(depth)).astype(np.float32), masks)


def _paint_people(color: np.ndarray, crowd: Crowd, seen: Visibility, person: np.ndarray) -> None:
    for index, individual in enumerate(crowd.people):
        pixels = person == index
        corners = crowd.faces[seen.faces[pixels]]
        shares = seen.barycentric[pixels]
        points = np.einsum("nca,nc->na", crowd.rest_points[corners], shares)
        light = np.einsum("nca,nc->na", crowd.light[corners], shares)
        color[pixels] = individual.color(crowd.face_part[seen.faces[pixels]], points) * light


def _distance_to_wall(center: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Ray parameter at the wall, a cylinder around the stage; the camera stands inside it."""
    a = (rays[..., [0, 2]] ** 2).sum(axis=-1)
    b = rays[..., 0] * center[0] + rays[..., 2] * center[2]
    c = center[0] ** 2 + center[2] ** 2 - _WALL_RADIUS**2
    return np.asarray((-b + np.sqrt(b * b - a * c)) / np.maximum(a, 1e-9))


def _floor_color(points: np.ndarray) -> np.ndarray:
    tile = np.mod(np.floor(points[..., 0] / 0.5) + np.floor(points[..., 2] / 0.5), 2)
    grain = 0.012 * np.sin(37.0 * points[..., 0] + 5.0 * np.sin(9.0 * points[..., 2]))
    value = 0.52 + 0.07 * tile + grain
    spot = np.exp(-(points[..., 0] ** 2 + points[..., 2] ** 2) / 6.0)
    return np.asarray((value * (0.72 + 0.40 * spot))[..., None] * np.array([1.0, 0.94, 0.86]))


def _wall_color(points: np.ndarray) -> np.ndarray:
    angle = np.arctan2(points[..., 0], points[..., 2])
    panel = np.mod(angle * 12 / np.pi, 1.0)
    seam = np.where(panel < 0.035, 0.78, 1.0)
    height = np.clip(points[..., 1] / 4.0, 0.0, 1.0)
    base = np.array([0.40, 0.46, 0.54]) * (0.80 + 0.35 * height)[..., None]
    skirting = (points[..., 1] < 0.12)[..., None]
    return np.asarray(np.where(skirting, (0.30, 0.28, 0.27), base * seam[..., None]))


def _floor_shadow(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The people projected along the key light onto a grid of the floor, softened."""
    height = vertices[:, 1:2]
    on_floor = vertices[:, [0, 2]] - height * (_TO_LIGHT[[0, 2]] / _TO_LIGHT[1])
    # seen from far above by a camera without perspective: depth falls with height
    top_down = np.concatenate([on_floor, 1e4 - height], axis=1)
    cells = _SHADOW_CELLS / _SHADOW_METRES
    top_down[:, :2] *= top_down[:, 2:]
    half = _SHADOW_CELLS / 2
    intrinsics = np.array([[cells, 0.0, half], [0.0, cells, half], [0.0, 0.0, 1.0]])
    covered = visible_faces(top_down, faces, intrinsics, _SHADOW_CELLS, _SHADOW_CELLS).faces >= 0
    covered |= visible_faces(top_down, faces[:, ::-1], intrinsics, _SHADOW_CELLS, _SHADOW_CELLS).faces >= 0
    soft = covered.astype(np.float64)
    for _ in range(3):
        soft = smoothed(soft, 2, border="constant")
    return 0.45 * soft


def smoothed(values: np.ndarray, radius: int, border: Literal["edge", "constant"]) -> np.ndarray:
    """Box filter of `2 radius + 1` along both axes of (H, W). Beyond the border it repeats, or is 0."""
    for axis in (0, 1):
        padded = np.pad(values, [(radius, radius) if axis == index else (0, 0) for index in (0, 1)], mode=border)
        values = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=axis).mean(axis=-1)
    return values


def _shadow_at(shadow: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """The shadow's strength at floor points (H, W, 2), bilinear; 0 off the grid and on the wall."""
    place = np.where(np.isfinite(floor), floor, 1e6) * (_SHADOW_CELLS / _SHADOW_METRES) + _SHADOW_CELLS / 2 - 0.5
    inside = np.all((place >= 0) & (place < _SHADOW_CELLS - 1), axis=-1)
    column, row = np.moveaxis(np.where(inside[..., None], place, 0.0), -1, 0)
    left, top = column.astype(int), row.astype(int)
    across, down = column - left, row - top
    upper = shadow[top, left] * (1 - across) + shadow[top, left + 1] * across
    lower = shadow[top + 1, left] * (1 - across) + shadow[top + 1, left + 1] * across
    return np.where(inside, upper * (1 - down) + lower * down, 0.0)


def _averaged(values: np.ndarray) -> np.ndarray:
    samples = _samples(values)
    return np.asarray(np.add.reduce(samples) / len(samples))


def _samples(values: np.ndarray) -> list[np.ndarray]:
    """The samples of each pixel: (s H, s W, ...) to s * s arrays (H, W, ...)."""
    step = SUPERSAMPLING
    return [values[row::step, column::step] for row in range(step) for column in range(step)]


NEAR = 0.05
"""Metres. A face with a corner nearer than this is left out: clipping it would need new corners."""

_BLOCK_FRAGMENTS = 2_000_000


@dataclass(frozen=True)
class Visibility:
    """What each pixel sees: (H, W) face number, -1 for none; (H, W, 3) perspective-correct shares of the face's corners, else 0.

    `depth`: (H, W) float64 distance along the camera's axis, metres; infinite where there is none.
    """

    faces: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray


def visible_faces(
    vertices: np.ndarray, faces: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> Visibility:
    """Rasterise a mesh of closed surfaces: faces turned away from the camera are left out. Of equally near faces the last one is seen.

    `vertices`: (V, 3) camera coordinates (x right, y down, z ahead), metres; `faces`: (F, 3), anticlockwise seen from outside;
    `intrinsics`: (3, 3) in pixels, pixel centres at half integers.
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
    return np.asarray(edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0])
