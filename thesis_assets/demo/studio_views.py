"""What the studio's cameras see: people, floor and wall with light and shadow, as image, depth and masks.

Drawn at twice the size and averaged, so that edges are smooth. Light does not depend on the view (Lambert), as colours of
Gaussians without higher harmonics do not either. Meshes go through a z-buffer in plain numpy, vectorised over fragments (pairs of
a face and a pixel centre within its bounding box). Does not belong here: files, poses.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from thesis_assets.demo.studio_bodies import Pose, Surface
from thesis_assets.demo.studio_people import Individual
from thesis_assets.scenes.camera import Camera

CAMERAS = {4: (-62.0, 4.1, 1.75), 16: (-18.0, 4.3, 1.35), 28: (22.0, 4.0, 1.60), 40: (66.0, 4.2, 1.20)}
"""Camera id to degrees about y (0 looks along -z at the stage), distance and height, metres."""
SOURCE_CAMERA = 16
_STAGE_MIDDLE = np.array([0.0, 0.82, 0.0])
_VISIBLE_METRES = 2.45  # what fits into the image's height at the stage: a tall person with a raised arm

_SUPERSAMPLING = 2
_TO_LIGHT = np.array([0.45, 0.80, 0.55]) / np.linalg.norm([0.45, 0.80, 0.55])
_TO_FILL = np.array([-0.75, 0.25, 0.60]) / np.linalg.norm([-0.75, 0.25, 0.60])
_LIGHT, _FILL = np.array([0.66, 0.64, 0.60]), np.array([0.16, 0.18, 0.22])
_SKY, _GROUND = np.array([0.34, 0.35, 0.37]), np.array([0.20, 0.18, 0.16])
_WALL_RADIUS = 6.0
_SHADOW_CELLS, _SHADOW_METRES = 160, 4.0
_NEAR = 0.05
"""Metres. A face with a corner nearer than this is left out: clipping it would need new corners."""


def studio_cameras(size: int) -> dict[int, Camera]:
    """The four cameras by id, for square images of `size` pixels."""
    cameras = {}
    for cam_id, (degrees, distance, height) in CAMERAS.items():
        sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
        center = np.array([distance * sine, height, distance * cosine])
        towards = _STAGE_MIDDLE - center
        focal = size * float(np.linalg.norm(towards)) / _VISIBLE_METRES
        x, y = size / 2 + 0.01 * size * np.array([sine, cosine])
        ahead = towards / np.linalg.norm(towards)
        right = np.cross(ahead, [0.0, 1.0, 0.0])
        right = right / np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        extrinsics = np.column_stack([rotation, -rotation @ center])
        cameras[cam_id] = Camera(cam_id, np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]]), extrinsics, size, size)
    return cameras


class Crowd(NamedTuple):
    """The dressed people of one moment, and the share of light (S, S) they take from the floor around the stage's middle."""

    people: Sequence[Individual]
    surfaces: Sequence[Surface]
    floor_shadow: np.ndarray


class View(NamedTuple):
    """An image (H, W, 3) uint8; depth (H, W) float32, metres along the camera's axis; masks (P, H, W) bool of what is seen of each person."""

    image: np.ndarray
    depth: np.ndarray
    masks: np.ndarray


class Backdrop(NamedTuple):
    """The empty studio in one camera, at the supersampled size: colour (H, W, 3), depth (H, W), x and z on the floor (2, H, W)."""

    camera: Camera
    color: np.ndarray
    depth: np.ndarray
    floor: np.ndarray


def crowd_of(people: Sequence[Individual], poses: Sequence[Pose]) -> Crowd:
    """The people of one moment, ready to be seen from any camera."""
    surfaces = [person.surface(pose, "dressed") for person, pose in zip(people, poses, strict=True)]
    return Crowd(people, surfaces, _floor_shadow(people, surfaces))


def light_on(surface: Surface) -> np.ndarray:
    """(V, 3) factor on the unlit colour: a key light, a fill light, and the room from above and below."""
    key, fill = (np.clip(surface.normals @ towards, 0.0, None)[:, None] for towards in (_TO_LIGHT, _TO_FILL))
    up = (0.5 + 0.5 * surface.normals[:, 1])[:, None]
    return np.asarray(key * _LIGHT + fill * _FILL + up * _SKY + (1 - up) * _GROUND)


def empty_studio(camera: Camera) -> Backdrop:
    """Floor (tiles) and round wall (panels, a lit band) as the camera, which stands inside it, sees them without people."""
    large = camera.scaled(_SUPERSAMPLING)
    rows, columns = np.mgrid[0 : large.height, 0 : large.width] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(large.intrinsics).T @ large.rotation
    center = large.center
    to_floor = np.where(rays[..., 1] < -1e-6, -center[1] / np.minimum(rays[..., 1], -1e-6), np.inf)
    a, b = (rays[..., [0, 2]] ** 2).sum(axis=-1), rays[..., 0] * center[0] + rays[..., 2] * center[2]
    to_wall = (-b + np.sqrt(b * b - a * (center[0] ** 2 + center[2] ** 2 - _WALL_RADIUS**2))) / np.maximum(a, 1e-9)
    depth = np.minimum(to_floor, to_wall)  # rays have length 1 along the camera's axis, so that this is depth
    x, y, z = np.moveaxis(center + depth[..., None] * rays, -1, 0)
    tile = np.mod(np.floor(x / 0.5) + np.floor(z / 0.5), 2)
    value = 0.52 + 0.07 * tile + 0.012 * np.sin(37.0 * x + 5.0 * np.sin(9.0 * z))
    spot = np.exp(-(x**2 + z**2) / 6.0)
    floor = (value * (0.72 + 0.40 * spot))[..., None] * np.array([1.0, 0.94, 0.86])
    seam = np.where(np.mod(np.arctan2(x, z) * 12 / np.pi, 1.0) < 0.035, 0.78, 1.0)
    wall = np.array([0.40, 0.46, 0.54]) * (0.80 + 0.35 * np.clip(y / 4.0, 0.0, 1.0))[..., None] * seam[..., None]
    wall[y < 0.12] = (0.30, 0.28, 0.27)  # skirting
    on_floor = to_floor < to_wall
    color = np.where(on_floor[..., None], floor, wall)
    return Backdrop(large, color, depth, np.where(on_floor, (x, z), 1e6))


def draw(crowd: Crowd, backdrop: Backdrop) -> View:
    """One camera's view of the people in the studio."""
    cells = backdrop.floor[::-1] * (_SHADOW_CELLS / _SHADOW_METRES) + _SHADOW_CELLS / 2 - 0.5
    shadow = ndimage.map_coordinates(
        crowd.floor_shadow, cells, order=1
    )  # beyond the grid, as on the wall, there is none
    color, large = backdrop.color * (1.0 - shadow)[..., None], backdrop.camera
    meshes = [person.meshes["dressed"] for person in crowd.people]
    seen = [
        visible_faces(
            surface.vertices @ large.rotation.T + large.translation, mesh.faces, large.intrinsics, color.shape
        )
        for surface, mesh in zip(crowd.surfaces, meshes, strict=True)
    ]
    depth = np.stack([of_person.depth for of_person in seen])
    whose = np.where(np.isfinite(depth).any(axis=0), depth.argmin(axis=0), -1)
    for index, (person, surface, mesh, of_person) in enumerate(
        zip(crowd.people, crowd.surfaces, meshes, seen, strict=True)
    ):
        pixels = whose == index
        corners, shares = mesh.faces[of_person.faces[pixels]], of_person.barycentric[pixels]
        points, light = (np.einsum("nca,nc->na", of[corners], shares) for of in (mesh.vertices, light_on(surface)))
        color[pixels] = person.color(mesh.parts[corners[:, 0]], points) * light
    covered = np.stack([_samples(whose == index).mean(axis=0) for index in range(len(seen))])
    first = covered.argmax(axis=0)  # a pixel that two people share half and half belongs to one of them
    return View(
        image=np.round(255.0 * np.clip(_samples(color).mean(axis=0), 0.0, 1.0)).astype(np.uint8),
        depth=_samples(np.minimum(depth.min(axis=0), backdrop.depth)).min(axis=0).astype(np.float32),
        masks=np.stack([(share >= 0.5) & (first == index) for index, share in enumerate(covered)]),
    )


def _samples(values: np.ndarray) -> np.ndarray:
    """The samples of each pixel: (s H, s W, ...) to (s * s, H, W, ...)."""
    step = _SUPERSAMPLING
    return np.stack([values[row::step, column::step] for row in range(step) for column in range(step)])


def _floor_shadow(people: Sequence[Individual], surfaces: Sequence[Surface]) -> np.ndarray:
    """The people projected along the key light onto a grid of the floor, softened."""
    cells, half, soft = _SHADOW_CELLS / _SHADOW_METRES, _SHADOW_CELLS / 2, np.zeros((_SHADOW_CELLS, _SHADOW_CELLS))
    intrinsics = np.array([[cells, 0.0, half], [0.0, cells, half], [0.0, 0.0, 1.0]])
    for person, surface in zip(people, surfaces, strict=True):
        height, faces = surface.vertices[:, 1:2], person.meshes["dressed"].faces
        on_floor = surface.vertices[:, [0, 2]] - height * (_TO_LIGHT[[0, 2]] / _TO_LIGHT[1])
        # seen from far above by a camera without perspective: depth falls with height
        top_down = np.concatenate([on_floor * (1e4 - height), 1e4 - height], axis=1)
        for side in (faces, faces[:, ::-1]):
            soft[visible_faces(top_down, side, intrinsics, soft.shape).faces >= 0] = 1.0
    for _ in range(3):
        soft = ndimage.uniform_filter(soft, 5, mode="constant")
    return 0.45 * soft


class Visibility(NamedTuple):
    """What each pixel sees: (H, W) face number, -1 for none; (H, W, 3) perspective-correct shares of the face's corners, else 0.

    `depth`: (H, W) float64 distance along the camera's axis, metres; infinite where there is none.
    """

    faces: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray


def visible_faces(vertices: np.ndarray, faces: np.ndarray, intrinsics: np.ndarray, size: tuple[int, ...]) -> Visibility:
    """Rasterise a mesh of closed surfaces: faces turned away from the camera are left out. Of equally near faces the last one is seen.

    `vertices`: (V, 3) camera coordinates (x right, y down, z ahead), metres; `faces`: (F, 3), anticlockwise seen from outside;
    `intrinsics`: (3, 3) in pixels, pixel centres at half integers; `size`: height and width.
    """
    height, width = size[:2]
    homogeneous = vertices @ intrinsics.T
    a, b, c = np.moveaxis((homogeneous[:, :2] / np.maximum(homogeneous[:, 2:], _NEAR))[faces], 1, 0)
    towards = _cross(b - a, c - a) < 0  # y points down on the screen: anticlockwise outside has a negative area
    numbers = np.flatnonzero((vertices[:, 2] > _NEAR)[faces].all(axis=1) & towards)
    a, b, c = a[numbers], b[numbers], c[numbers]

    # One fragment a pixel centre in a face's bounding box.
    first, beyond = (
        np.clip(bound, 0, (width, height)).astype(np.int64)
        for bound in (np.floor(np.minimum(np.minimum(a, b), c)), np.ceil(np.maximum(np.maximum(a, b), c)))
    )
    spans = np.maximum(beyond - first, 0)
    counts = spans.prod(axis=1)
    face = np.repeat(np.arange(len(numbers)), counts)
    rows, columns = np.divmod(np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts), spans[face, 0])
    at = first[face] + np.stack([columns, rows], axis=1)

    centre, area = at + 0.5, _cross(b - a, c - a)[face]
    a, b, c = a[face] - centre, b[face] - centre, c[face] - centre
    shares = np.stack([_cross(b, c) / area, _cross(c, a) / area], axis=1)
    shares = np.column_stack([shares, 1.0 - shares[:, 0] - shares[:, 1]])
    inside = (shares >= 0).all(axis=1)
    face, at = face[inside], at[inside]
    # 1/z is linear on the screen, z is not (Heckbert and Moreton 1991)
    weighted = shares[inside] / vertices[:, 2][faces[numbers[face]]]
    distance = 1.0 / weighted.sum(axis=1)
    pixels = at[:, 1] * width + at[:, 0]

    depth, seen, corners = np.full(height * width, np.inf), np.full(height * width, -1), np.zeros((height * width, 3))
    np.minimum.at(depth, pixels, distance)
    nearest = distance == depth[pixels]
    seen[pixels[nearest]] = numbers[face[nearest]]
    corners[pixels[nearest]] = weighted[nearest] * distance[nearest, None]
    return Visibility(seen.reshape(height, width), corners.reshape(height, width, 3), depth.reshape(height, width))


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
