"""Inputs that lie, are broken, or point elsewhere: each costs its own sample or scene, with its reason; the rest is exported."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from thesis_assets.errors import InvalidExperiment, InvalidKey, InvalidScene
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.launch.mapping import map_items
from thesis_assets.layout import SceneTree, frame_name
from thesis_assets.samples.export import ShardRecord, export_shard
from thesis_assets.samples.integrity import sample_faults
from thesis_assets.samples.shards import read_dropped
from thesis_assets.scenes.matching import match_scenes
from thesis_assets_tests.samples.tiny_scenes import SIZE, generation, image, roots, work, write_scene

NAME = "hi4d_pair00_dance"
TARGET = 16


def bomb(side: int = 60_000) -> bytes:
    """A whole PNG of a few bytes that claims gigabytes of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def nan_camera(path: Path) -> None:
    intrinsics = np.full((1, 3, 3), np.nan)
    np.savez(path, intrinsics=intrinsics, extrinsics=np.eye(4)[None, :3])


def bomb_for_a_photograph(tree: SceneTree, fname: str) -> None:
    path = tree.ground_truth.image(TARGET, fname)
    path.unlink()
    put(path.with_suffix(".png"), bomb())


def half_a_photograph(tree: SceneTree, fname: str) -> None:
    content = encode_jpeg(image(1))
    put(tree.ground_truth.image(TARGET, fname), content[: len(content) // 2])


HOSTILE: dict[str, tuple[Callable[[SceneTree, str], None], str, str]] = {
    "a bomb for a photograph": (bomb_for_a_photograph, "unreadable_input", "larger than any"),
    "a bomb for a mask": (
        lambda tree, fname: put(tree.ground_truth.mask(TARGET, fname), bomb()),
        "unreadable_input",
        "larger than any",
    ),
    "a bomb for a render": (
        lambda tree, fname: put(tree.render(TARGET, fname), bomb()),
        "unreadable_input",
        "larger than any",
    ),
    "a truncated JPEG": (half_a_photograph, "unreadable_input", "decoded"),
    "a mask of another size": (
        lambda tree, fname: put(
            tree.ground_truth.mask(TARGET, fname),
            encode_png(np.repeat(np.uint8([[0, 255]]), SIZE, axis=0).repeat(SIZE, axis=1)),
        ),
        "size_mismatch",
        "",
    ),
    "a camera of no bytes": (
        lambda tree, fname: put(tree.ground_truth.camera(TARGET, fname), b""),
        "unreadable_input",
        f"{TARGET}/",
    ),
    "a camera of NaN": (
        lambda tree, fname: nan_camera(tree.ground_truth.camera(TARGET, fname)),
        "unreadable_input",
        "not finite",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_costs_its_own_sample_and_is_named(tmp_path: Path, what: str) -> None:
    spoil, reason, told = HOSTILE[what]
    write_scene(roots(tmp_path), NAME, cameras=(4, TARGET, 28), frames=range(3), masks=True)
    spoil(roots(tmp_path).tree(NAME), frame_name(1))
    shard = work(tmp_path, NAME, threads=2)
    record = export_shard(shard)
    (dropped,) = read_dropped(shard.tree.scene_run(NAME).dropped_samples)
    assert (dropped.target_cam_id, dropped.target_fname, dropped.reason) == (TARGET, frame_name(1), reason)
    assert told in dropped.detail
    assert record.stats.n_saved == 5
    folders = sorted(shard.tree.samples_dir.iterdir())
    assert len(folders) == 5
    assert [fault for folder in folders for fault in sample_faults(folder, folder.name, decode=True)] == []


@pytest.mark.parametrize("place", ["a photograph", "a mask", "the scene"])
def test_a_link_that_leaves_the_roots_costs_its_scene_and_is_named(tmp_path: Path, place: str) -> None:
    where, secret = roots(tmp_path), tmp_path / "elsewhere"
    write_scene(roots(secret), NAME, masks=True)
    write_scene(where, NAME, masks=True)
    write_scene(where, "hi4d_pair01_hug", masks=True)
    truth, outside = where.tree(NAME).ground_truth, roots(secret).tree(NAME).ground_truth
    if place == "the scene":
        truth.base.rename(tmp_path / "away")
        truth.base.symlink_to(outside.base)
    else:
        path = truth.image(TARGET, "000000") if place == "a photograph" else truth.mask(TARGET, "000000")
        target = outside.image(TARGET, "000000") if place == "a photograph" else outside.mask(TARGET, "000000")
        path.unlink()
        path.symlink_to(target)
    works = [work(tmp_path, NAME), work(tmp_path, "hi4d_pair01_hug", group="pair01")]
    linked, other = map_items(export_shard, works, workers=1)
    assert isinstance(linked, InvalidScene)
    assert "leaves the roots" in str(linked)
    assert isinstance(other, ShardRecord)
    assert other.stats.n_saved == 2
    assert {path.name.split("__")[0] for path in works[0].tree.samples_dir.iterdir()} == {"hi4d_pair01_hug"}


def test_a_scene_whose_name_leaves_its_root_is_refused_everywhere_it_can_be_said(tmp_path: Path) -> None:
    write_scene(roots(tmp_path), NAME)
    write_scene(roots(tmp_path), "x_y")
    for name in ("../x", "../gt/x_y", "x_y/../x_y", "/etc"):
        with pytest.raises(InvalidKey):
            work(tmp_path, name)
        with pytest.raises((InvalidExperiment, InvalidKey, ValidationError)):  # said where it can be said first
            match_scenes([NAME, "x_y"], GenerationSpec.model_validate({"scenes": [NAME, name]}), tmp_path)
    assert match_scenes([NAME, "x_y"], generation(), tmp_path) == [NAME, "x_y"]
    assert not (tmp_path / "difix").exists()
