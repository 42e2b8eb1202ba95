"""Choosing a renderer for a scene, and what each source of renders gives, misses and refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from thesis_assets.errors import InvalidFile, InvalidScene, ThesisAssetsError
from thesis_assets.experiments.spec import Renders
from thesis_assets.images.codecs import SizeMismatch, encode_jpeg, encode_png
from thesis_assets.rendering.choice import make_renderer
from thesis_assets.rendering.gaussians import from_colors, to_tensors, write_ply
from thesis_assets.rendering.renderer import MissingRender
from thesis_assets.rendering.torch_rasteriser import rasterise
from thesis_assets.scenes.camera import Camera
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import Scene, open_scene

SIZE = (20, 30)
NAME = "studio_pair00_dance"
PRECOMPUTED, GAUSSIANS = Renders(source="precomputed"), Renders(source="gaussians")


def camera(cam_id: int, shift: float = 0.0, height: int = SIZE[0]) -> Camera:
    intrinsics = np.array([[40.0, 0, 15], [0, 40, 10], [0, 0, 1]])
    extrinsics = np.array([[1.0, 0, 0, shift], [0, 1, 0, 0], [0, 0, 1, 2]])
    return Camera(cam_id, intrinsics, extrinsics, height, SIZE[1])


def picture(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    return SceneRoots(tmp_path / "gt", tmp_path / "estimated", tmp_path / "registry", tmp_path / "renders")


@pytest.fixture
def scene(roots: SceneRoots) -> Scene:
    photograph = roots.tree(NAME).ground_truth.image(4, "000000")
    photograph.parent.mkdir(parents=True)
    photograph.write_bytes(encode_jpeg(picture(0)))
    return open_scene(roots, NAME)


def put_render(scene: Scene, cam_id: int, fname: str, content: bytes) -> Path:
    path = scene.tree.render(cam_id, fname)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_ply(path: Path, colour: tuple[float, float, float]) -> None:
    write_ply(path, from_colors([[0, 0, 0]], [colour], 0.2))


def test_precomputed_renders_come_in_the_order_of_the_cameras(scene: Scene) -> None:
    for cam_id in (4, 16):
        put_render(scene, cam_id, "000003", encode_png(picture(cam_id)))
    renderer = make_renderer(PRECOMPUTED, scene, device="cpu")
    batch = renderer.render("000003", [camera(16), camera(4)])
    assert batch.shape == (2, 3, *SIZE)
    assert batch.dtype == torch.float32
    assert torch.equal((batch[0] * 255).round().byte(), torch.from_numpy(picture(16)).permute(2, 0, 1))
    assert (renderer.name, renderer.device) == ("precomputed", "cpu")


@pytest.mark.parametrize("content", [None, b""])
def test_a_render_that_is_absent_or_empty_is_missing(scene: Scene, content: bytes | None) -> None:
    put_render(scene, 4, "000000", encode_png(picture(0)))
    if content is not None:
        put_render(scene, 4, "000003", content)
    with pytest.raises(MissingRender, match="camera 4, frame 000003"):
        make_renderer(PRECOMPUTED, scene, device="cpu").render("000003", [camera(4)])


def test_a_render_of_another_size_or_without_its_end_is_refused(scene: Scene) -> None:
    put_render(scene, 4, "000000", encode_png(picture(0)))
    put_render(scene, 4, "000001", encode_png(picture(0))[:200])
    renderer = make_renderer(PRECOMPUTED, scene, device="cpu")
    with pytest.raises(SizeMismatch, match="30 x 20"):
        renderer.render("000000", [camera(4, height=21)])
    with pytest.raises(InvalidFile, match="cannot be decoded"):
        renderer.render("000001", [camera(4)])


def test_gaussians_are_drawn_at_every_camera(scene: Scene) -> None:
    put_ply(scene.tree.estimated.gaussians("000003"), (1, 0, 0))
    cameras = [camera(4), camera(16, 0.3)]
    renderer = make_renderer(GAUSSIANS, scene, device="cpu")
    batch = renderer.render("000003", cameras)
    tensors = to_tensors(from_colors([[0, 0, 0]], [[1, 0, 0]], 0.2))
    for image, view in zip(batch, cameras, strict=True):
        matrices = [torch.from_numpy(np.array(m)) for m in (view.intrinsics, view.extrinsics)]
        assert torch.equal(image, rasterise(tensors, *matrices, *SIZE))
    assert not torch.equal(batch[0], batch[1])
    assert renderer.name == "torch"
    assert "torch" in renderer.version


def test_a_frames_own_gaussians_stand_before_the_static_ones(scene: Scene) -> None:
    put_ply(scene.tree.estimated.gaussians("000003"), (1, 0, 0))
    put_ply(scene.tree.estimated.static_gaussians, (0, 1, 0))
    renderer = make_renderer(GAUSSIANS, scene, device="cpu")
    for fname, channel in (("000003", 0), ("000004", 1), ("000003", 0)):
        assert renderer.render(fname, [camera(4)])[0].amax((1, 2)).argmax() == channel


def test_a_frame_without_gaussians_is_missing(scene: Scene) -> None:
    put_ply(scene.tree.estimated.gaussians("000003"), (1, 0, 0))
    with pytest.raises(MissingRender, match="frame 000004"):
        make_renderer(GAUSSIANS, scene, device="cpu").render("000004", [camera(4)])


def test_cameras_of_two_sizes_are_refused(scene: Scene) -> None:
    put_ply(scene.tree.estimated.static_gaussians, (1, 0, 0))
    with pytest.raises(ThesisAssetsError, match="no one image size"):
        make_renderer(GAUSSIANS, scene, device="cpu").render("000000", [camera(4), camera(16, height=21)])


@pytest.mark.parametrize("source", [PRECOMPUTED, GAUSSIANS])
def test_a_scene_without_the_source_of_its_renders_is_refused_at_once(scene: Scene, source: Renders) -> None:
    with pytest.raises(InvalidScene, match=f"the scene {NAME} has no"):
        make_renderer(source, scene, device="cpu")


def test_a_link_out_of_the_roots_is_refused(scene: Scene, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(encode_png(picture(0)))
    path = scene.tree.render(4, "000000")
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    with pytest.raises(InvalidScene, match="leaves the roots"):
        make_renderer(PRECOMPUTED, scene, device="cpu").render("000000", [camera(4)])


def test_renders_by_a_command_belong_to_an_experiment(scene: Scene) -> None:
    with pytest.raises(ThesisAssetsError, match="need the experiment"):
        make_renderer(Renders(source="command", command="render {scene_name}"), scene, device="cpu")
