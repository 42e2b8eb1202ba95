"""From where a 3D view first looks: outside the cameras, towards the people, upright; and how large pictures hang there."""

from pathlib import Path

import numpy as np
import pytest

from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.tracks import Absences, CameraTrack, MeshTrack
from thesis_assets.recordings.world_tracks import body_viewpoint, camera_viewpoint, with_image_planes
from thesis_assets.scenes.camera import Camera, write_camera


def ring(folder: Path, n: int, *, radius: float = 3.0) -> list[CameraTrack]:
    """Cameras on a circle around (1, 0, 2), y down, all looking at its middle."""
    tracks = []
    for number in range(n):
        angle = 2 * np.pi * number / max(n, 2)
        center = np.array([1.0, 0.0, 2.0]) + radius * np.array([np.sin(angle), 0, np.cos(angle)])
        forward = (np.array([1.0, 0.0, 2.0]) - center) / radius
        rotation = np.stack([np.cross([0.0, 1.0, 0.0], forward), [0.0, 1.0, 0.0], forward])
        extrinsics = np.concatenate([rotation, (-rotation @ center)[:, None]], axis=1)
        path = folder / f"{number}.npz"
        write_camera(path, Camera(number, np.diag([50.0, 50.0, 1.0]), extrinsics, 10, 10))
        tracks.append(CameraTrack(f"/cam_{number}", number, {0: path}, None))
    return tracks


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_of_cameras_is_seen_from_outside_looking_at_its_middle(tmp_path: Path, n: int) -> None:
    found = camera_viewpoint(ring(tmp_path, n))
    assert found is not None
    assert found.target == pytest.approx((1.0, 0.0, 2.0), abs=1e-3)
    assert found.up == (0.0, -1.0, 0.0)
    assert np.linalg.norm(np.subtract(found.position, found.target)) > 3.0
    assert found.position[1] < 0  # above: y points down


def test_one_camera_is_looked_at_with_what_lies_before_it(tmp_path: Path) -> None:
    found = camera_viewpoint(ring(tmp_path, 1))
    assert found is not None
    assert found.target == pytest.approx((1.0, 0.0, 2.0), abs=1e-3)  # 3 m in front of it


def test_a_picture_hangs_before_its_camera_and_before_what_it_shows(tmp_path: Path) -> None:
    planes = [track.image_plane for track in with_image_planes(ring(tmp_path, 4)) if isinstance(track, CameraTrack)]
    assert planes == [pytest.approx(0.28 * 3.0, rel=1e-3)] * 4


def test_without_a_readable_camera_the_viewer_chooses(tmp_path: Path) -> None:
    (tmp_path / "0.npz").write_bytes(b"cut")
    track = CameraTrack("/cam_0", 0, {0: tmp_path / "0.npz"}, None)
    assert camera_viewpoint([track]) is None
    assert with_image_planes([track]) == [track]
    assert body_viewpoint([], []) is None


def test_bodies_are_seen_from_the_side_of_the_camera(exported: EvaluationTree) -> None:
    from thesis_assets.recordings.tree_tracks import first_camera_files, pose_tracks

    tracks = pose_tracks(exported.task(30, "pose_smplx"), "/x", 30, Absences(exported.base))
    meshes = [track for track in tracks if isinstance(track, MeshTrack)]
    found = body_viewpoint(meshes, first_camera_files(exported))
    assert found is not None
    assert found.position[2] < found.target[2]  # the cameras stand at z = -3
    assert found.position[1] < found.target[1]
