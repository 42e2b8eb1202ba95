"""The scene of real photographs: calibrated, reproducible, and imperfect where it should be."""

from pathlib import Path

import numpy as np
import pytest

from thesis_assets.demo import motorcycle
from thesis_assets.demo.motorcycle import FNAME, LEFT, RIGHT, SCENE_NAME, make_motorcycle
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.codecs import read_rgb
from thesis_assets.rendering.gaussians import read_ply
from thesis_assets.scenes.bounded_files import read_npy
from thesis_assets.scenes.catalog import describe_scene, list_scenes
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.matching import group_id
from thesis_assets.scenes.scene import Scene, open_scene

pytest.importorskip("skimage")


def roots_in(folder: Path) -> SceneRoots:
    return SceneRoots(folder / "gt", folder / "estimated", folder / "registry", folder / "renders")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motorcycle")
    assert make_motorcycle(roots_in(folder)) == [SCENE_NAME]
    return folder


@pytest.fixture(scope="module")
def scene(made: Path) -> Scene:
    return open_scene(roots_in(made), SCENE_NAME)


def photograph(scene: Scene, cam_id: int) -> np.ndarray:
    path = scene.image_path(cam_id, FNAME)
    assert path is not None
    return read_rgb(path).astype(np.float64)


def test_it_is_a_complete_scene_of_two_cameras_one_frame_and_one_group(made: Path, scene: Scene) -> None:
    summary = describe_scene(roots_in(made), SCENE_NAME, render_source="gaussians")
    assert list_scenes(roots_in(made)) == [SCENE_NAME]
    assert summary.complete
    assert summary.enough_for("export")
    assert not summary.enough_for("pose_smplx")
    assert (scene.camera_ids(), scene.frames(), scene.source_camera()) == ([LEFT, RIGHT], [FNAME], LEFT)
    assert scene.image_size(LEFT) == scene.image_size(RIGHT) == (125, 185)
    assert scene.n_people() == 0
    assert group_id(SCENE_NAME, {}) == SCENE_NAME


def test_the_left_photograph_lands_on_the_right_one_by_depth_and_cameras(scene: Scene) -> None:
    left, right = photograph(scene, LEFT), photograph(scene, RIGHT)
    path = scene.depth_path(LEFT, FNAME)
    assert path is not None
    depth = read_npy(path)
    rows, columns = np.nonzero(depth)
    centres = np.stack([columns + 0.5, rows + 0.5], axis=1)
    points = scene.camera(LEFT, FNAME).unproject(centres, depth[rows, columns].astype(np.float64))

    def error(shift_px: float) -> float:
        pixels, _ = scene.camera(RIGHT, FNAME).project(points)
        x, y = pixels[:, 0] - 0.5 + shift_px, pixels[:, 1] - 0.5
        assert np.allclose(y, rows, atol=1e-6)
        seen = (x >= 0) & (x <= right.shape[1] - 2)
        start = np.floor(x[seen]).astype(int)
        share = (x[seen] - start)[:, None]
        found = right[rows[seen], start] * (1 - share) + right[rows[seen], start + 1] * share
        return float(np.median(np.abs(found - left[rows[seen], columns[seen]]).mean(axis=1)))

    assert error(0) < 4.5, "of 255; the unwarped photographs differ by 30"
    assert error(0) < min(error(-1), error(1)) * 0.7


def test_depths_are_those_of_a_motorcycle_in_a_garage(scene: Scene) -> None:
    path = scene.depth_path(LEFT, FNAME)
    assert path is not None
    depth = read_npy(path)
    assert (depth.dtype, depth.shape) == (np.float32, (125, 185))
    known = depth[depth > 0]
    assert 0.9 < known.size / depth.size < 1
    assert 2.0 < known.min() < known.max() < 5.1


def test_the_render_into_the_right_camera_is_imperfect_but_of_the_scene(scene: Scene) -> None:
    from thesis_assets.rendering.gaussians import to_tensors
    from thesis_assets.rendering.torch_rasteriser import TorchRasteriser

    path = scene.gaussians_path(FNAME)
    assert path is not None
    images = TorchRasteriser().draw(to_tensors(read_ply(path)), [scene.camera(cam, FNAME) for cam in (LEFT, RIGHT)])
    renders = images.permute(0, 2, 3, 1).numpy() * 255.0
    psnr = [10 * np.log10(255**2 / ((renders[cam] - photograph(scene, cam)) ** 2).mean()) for cam in (LEFT, RIGHT)]
    holes = [(renders[cam].max(axis=2) < 8).mean() for cam in (LEFT, RIGHT)]
    assert psnr[LEFT] > psnr[RIGHT] + 2
    assert 15 < psnr[RIGHT] < 25
    assert holes[RIGHT] > 0.03 > holes[LEFT]


def test_every_making_gives_the_same_bytes_and_touches_nothing_that_is_there(made: Path, tmp_path: Path) -> None:
    def files(folder: Path) -> dict[Path, Path]:
        return {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}

    make_motorcycle(roots_in(tmp_path))
    first, second = files(made), files(tmp_path)
    assert first.keys() == second.keys()
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)
    broken = roots_in(tmp_path).tree(SCENE_NAME).estimated.static_gaussians
    broken.write_bytes(b"half")
    times = {name: path.stat().st_mtime_ns for name, path in second.items()}
    make_motorcycle(roots_in(tmp_path))
    touched = {path for name, path in second.items() if path.stat().st_mtime_ns != times[name]}
    assert touched == {broken}
    assert broken.read_bytes() == first[broken.relative_to(tmp_path)].read_bytes()


def test_without_scikit_image_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motorcycle.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ThesisAssetsError, match=r"thesis-assets\[demo\]"):
        make_motorcycle(roots_in(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_scikit_image_without_the_photographs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ThesisAssetsError, match=r"motorcycle_left\.png"):
        motorcycle.read_photographs(tmp_path)
