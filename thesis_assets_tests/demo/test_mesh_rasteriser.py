"""The z-buffer, held against rays cast one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.demo.studio_views import visible_faces

INTRINSICS = np.array([[20.0, 0, 12], [0, 20.0, 10], [0, 0, 1]])
HEIGHT, WIDTH = 20, 24
SQUARE = np.array([[-1.0, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]])
TOWARDS = np.array([[0, 3, 2], [0, 2, 1]])


def nearest_by_rays(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and face of each pixel by intersecting its ray with every triangle (Moeller and Trumbore 1997)."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(INTRINSICS).T
    depth, seen = np.full((HEIGHT, WIDTH), np.inf), np.full((HEIGHT, WIDTH), -1)
    for number, (a, b, c) in enumerate(vertices[faces]):
        normal = np.cross(b - a, c - a)
        if normal @ a >= 0:
            continue
        across = np.cross(rays, c - a)
        determinant = across @ (b - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = -(across @ a) / determinant
            over = np.cross(-a, b - a)
            v = (rays @ over) / determinant
            distance = (over @ (c - a)) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance < depth)
        depth[hit], seen[hit] = distance[hit], number
    return depth, seen


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_nearest_face_of_each_pixel_is_that_of_its_ray(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform([-1.2, -1.0, 1.0], [1.2, 1.0, 4.0], size=(36, 3))
    faces = np.arange(36).reshape(12, 3)
    seen = visible_faces(vertices, faces, INTRINSICS, (HEIGHT, WIDTH))
    depth, expected = nearest_by_rays(vertices, faces)
    assert (seen.faces == expected).mean() > 0.995, "only pixels exactly on an edge may differ"
    same = (seen.faces == expected) & (expected >= 0)
    assert np.allclose(seen.depth[same], depth[same])


def test_barycentric_shares_lead_back_to_the_point_that_is_seen() -> None:
    tilted = SQUARE + np.array([[0, 0, 0], [0, 0, 2.0], [0, 0, 2.0], [0, 0, 0]])
    seen = visible_faces(tilted, TOWARDS, INTRINSICS, (HEIGHT, WIDTH))
    rows, columns = np.nonzero(seen.faces >= 0)
    points = (tilted[TOWARDS[seen.faces[rows, columns]]] * seen.barycentric[rows, columns][..., None]).sum(axis=1)
    projected = points @ INTRINSICS.T
    assert len(rows) > 50
    assert np.allclose(projected[:, :2] / projected[:, 2:], np.stack([columns, rows], axis=1) + 0.5)
    assert np.allclose(points[:, 2], seen.depth[rows, columns])


def test_the_nearer_of_two_squares_hides_the_other_whatever_their_order() -> None:
    near = SQUARE * np.array([0.5, 0.5, 1.0]) - np.array([0, 0, 0.5])
    for order, front in (([near, SQUARE], (0, 1)), ([SQUARE, near], (2, 3))):
        faces = np.concatenate([TOWARDS, TOWARDS + 4])
        seen = visible_faces(np.concatenate(order), faces, INTRINSICS, (HEIGHT, WIDTH))
        assert seen.faces[10, 12] in front
        assert seen.depth[10, 12] == 1.5


def test_faces_turned_away_and_behind_the_camera_are_not_seen() -> None:
    assert (visible_faces(SQUARE, TOWARDS[:, ::-1], INTRINSICS, (HEIGHT, WIDTH)).faces == -1).all()
    behind = SQUARE - np.array([0, 0, 4.0])
    for faces in (TOWARDS, TOWARDS[:, ::-1]):
        seen = visible_faces(behind, faces, INTRINSICS, (HEIGHT, WIDTH))
        assert (seen.faces == -1).all()
        assert np.isinf(seen.depth).all()


def test_a_mesh_outside_the_image_is_no_error() -> None:
    seen = visible_faces(SQUARE + np.array([50.0, 0, 0]), TOWARDS, INTRINSICS, (HEIGHT, WIDTH))
    assert (seen.faces == -1).all()
