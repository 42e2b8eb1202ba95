"""Scenes of a few bytes for the tests of every room that reads scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from thesis_assets.scenes.bodies import Bodies, BodyModel, write_bodies
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import write_registry
from thesis_assets.schemas.scenes import BODY_ARRAYS, SceneRegistryEntry

HEIGHT, WIDTH = 8, 6


def roots_in(folder: Path) -> SceneRoots:
    return SceneRoots(folder / "gt", folder / "estimated", folder / "registry", folder / "renders")


def write_scene(
    roots: SceneRoots,
    name: str = "hi4d_pair01_hug",
    *,
    cameras: Sequence[int] = (4, 16),
    frames: Sequence[int] = (0, 1, 2),
    source: int | None = 4,
    gaussians: bool = True,
) -> None:
    """Images, calibrations, a registry entry and Gaussians' files (whose content no test here reads)."""
    tree = roots.tree(name)
    for cam_id in cameras:
        for frame in frames:
            write_image(tree.ground_truth.image(cam_id, f"{frame:06d}"))
            write_camera(tree.ground_truth.camera(cam_id, f"{frame:06d}"), tiny_camera(cam_id))
    if source is not None:
        tree.registry_entry.parent.mkdir(parents=True, exist_ok=True)
        write_registry(tree.registry_entry, SceneRegistryEntry(seq_name=name, cam_id=source))
    if gaussians:
        put(tree.estimated.static_gaussians, b"ply")


def tiny_camera(cam_id: int = 4) -> Camera:
    intrinsics = np.array([[10.0, 0, WIDTH / 2], [0, 10.0, HEIGHT / 2], [0, 0, 1]])
    extrinsics = np.hstack([np.eye(3), [[0.1 * cam_id], [0], [2]]])
    return Camera(cam_id, intrinsics, extrinsics, HEIGHT, WIDTH)


def tiny_bodies(model: BodyModel, n_people: int = 2) -> Bodies:
    return Bodies(
        model=model,
        parameters={name: np.zeros((n_people, *shape), np.float32) for name, shape in BODY_ARRAYS[model].items()},
        joints=np.zeros((n_people, 3, 3), np.float32),
        vertices=np.zeros((n_people, 4, 3), np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        contact=np.zeros((n_people, 4), np.int32),
    )


def write_body(path: Path, model: BodyModel, n_people: int = 2) -> None:
    write_bodies(path, tiny_bodies(model, n_people))


def write_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), (90, 60, 30)).save(path)


def put(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
