"""Scenes of a few 16 x 16 images on disk, with renders of another pipeline: enough to export triplets from."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thesis_assets import storage
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.layout import DifixTree, frame_name
from thesis_assets.provenance import Unit, Verdict
from thesis_assets.samples.export import ShardWork
from thesis_assets.samples.shards import shard_unit
from thesis_assets.scenes.listing import SceneRoots

SCENE = "hi4d_pair00_dance"
SIZE = 16
SOURCE = 4


def image(seed: int, size: int = SIZE) -> np.ndarray:
    """Smooth colours, so that JPEG keeps them."""
    ramp = np.linspace(0, 200, size, dtype=np.float64)
    return np.stack(
        [ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], np.full((size, size), seed * 37 % 200)], -1
    ).astype(np.uint8)


def photograph(name: str, seed: int) -> np.ndarray:
    """As `image`, which it is of the default scene, in other colours for each scene: no two scenes have one photograph."""
    shift = (zlib.crc32(name.encode()) - zlib.crc32(SCENE.encode())) % 2500
    return image(seed) + np.array([shift % 50, shift // 50, 0], np.uint8)


def half_mask() -> np.ndarray:
    """People in the left half."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 2] = 255
    return mask


def roots(base: Path) -> SceneRoots:
    return SceneRoots(base / "gt", base / "pre", base / "registry", base / "renders")


def write_scene(
    where: SceneRoots,
    name: str = SCENE,
    *,
    cameras: Sequence[int] = (SOURCE, 16),
    frames: Sequence[int] = (0, 1),
    masks: bool = False,
) -> None:
    """One scene whose source camera is the first; each camera stands one metre to the right of the one before."""
    tree = where.tree(name)
    truth = tree.ground_truth
    storage.write_json(tree.registry_entry, {"seq_name": name, "cam_id": cameras[0]})
    for place, cam_id in enumerate(cameras):
        for frame in frames:
            fname = frame_name(frame)
            storage.write_bytes(truth.image(cam_id, fname), encode_jpeg(photograph(name, cam_id + frame)))
            write_camera(truth.camera(cam_id, fname), x=float(place))
            storage.write_bytes(tree.render(cam_id, fname), encode_png(image(cam_id + frame) // 2))
            if masks:
                storage.write_bytes(truth.mask(cam_id, fname), encode_png(half_mask()))


def write_camera(path: Path, x: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    intrinsics = np.array([[20.0, 0, SIZE / 2], [0, 20.0, SIZE / 2], [0, 0, 1]])[None]
    extrinsics = np.concatenate([np.eye(3), [[-x], [0], [3.0]]], axis=1)[None]
    np.savez(path, intrinsics=intrinsics, extrinsics=extrinsics)


def generation(**parts: object) -> GenerationSpec:
    return GenerationSpec.model_validate({"scenes": ["*"], "renders": {"source": "precomputed"}, **parts})


def unit_of(shard: ShardWork) -> Unit:
    return shard_unit(shard.tree, shard.roots, shard.scene_name, shard.generation, shard.group_id)


def look(shard: ShardWork) -> Verdict:
    return unit_of(shard).look()


def work(
    base: Path,
    name: str = SCENE,
    *,
    root: str = "difix",
    exp: str = "v1",
    group: str = "pair00",
    threads: int = 1,
    **parts: object,
) -> ShardWork:
    return ShardWork(
        tree=DifixTree(base / root, exp),
        roots=roots(base),
        scene_name=name,
        generation=generation(**parts),
        group_id=group,
        threads=threads,
    )
