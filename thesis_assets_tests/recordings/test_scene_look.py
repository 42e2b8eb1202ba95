"""A scene can be looked at before any run: what its two roots hold stands in one recording, in one world."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thesis_assets.errors import InvalidScene
from thesis_assets.recordings.scene_look import look_at_scene
from thesis_assets.rendering.gaussians import from_colors, write_ply
from thesis_assets.scenes.bodies import write_bodies
from thesis_assets.scenes.importers.capture import one_frame
from thesis_assets.scenes.importers.colmap import read_colmap
from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
from thesis_assets.scenes.importers.writing import write_scene as import_scene
from thesis_assets.scenes.scene import open_scene
from thesis_assets_tests.recordings.read_back import column, matrix
from thesis_assets_tests.scenes.importers.known_captures import NAMES, POINTS, known_capture
from thesis_assets_tests.scenes.tiny_scene import HEIGHT, WIDTH, roots_in, tiny_bodies, write_scene

NAME = "hi4d_pair01_hug"


def test_everything_of_both_roots_stands_in_the_recording(tmp_path: Path) -> None:
    roots = roots_in(tmp_path)
    write_scene(roots, NAME, gaussians=False)
    tree = roots.tree(NAME)
    means = np.array([[0.0, 0, 1], [1, 0, 1]])
    write_ply(tree.estimated.static_gaussians, from_colors(means, [[1, 0, 0], [0, 1, 0]], 0.02))
    write_bodies(tree.ground_truth.body("smplx", "000001"), tiny_bodies("smplx"))
    write_bodies(tree.estimated.body("smplx", "000001"), tiny_bodies("smplx"))
    for path in (tree.ground_truth.mask(4, "000000"), tree.ground_truth.depth(4, "000000")):
        path.parent.mkdir(parents=True)
    Image.new("L", (WIDTH, HEIGHT), 255).save(tree.ground_truth.mask(4, "000000"))
    np.save(tree.ground_truth.depth(4, "000000"), np.ones((HEIGHT, WIDTH), np.float32))

    found = look_at_scene(open_scene(roots, NAME), tmp_path / "look.rrd")

    assert found.absent == ()
    truth = "/input_data/test"
    assert set(column(found.path, f"{truth}/cameras/cam_4/image", "EncodedImage:blob")) == {0, 1, 2}
    assert set(column(found.path, f"{truth}/cameras/cam_4/depth", "EncodedDepthImage:blob")) == {0}
    for side in ("train", "test"):
        assert 1 in column(found.path, f"/input_data/{side}/people/person_1", "Mesh3D:vertex_positions")
    ((_, points),) = column(found.path, "/input_data/train/gaussians", "Points3D:positions").items()
    np.testing.assert_allclose(points, means)


@pytest.mark.parametrize("form", ["nerfstudio", "text", "binary"])
def test_known_points_land_on_their_pixels_in_the_recording_of_every_format(tmp_path: Path, form: str) -> None:
    roots, known = roots_in(tmp_path), known_capture(tmp_path / "capture")
    if form == "nerfstudio":
        capture = read_nerfstudio(known.write_nerfstudio())
    else:
        capture = read_colmap(known.write_colmap(form))
    import_scene(roots, "garden_bench", capture, one_frame(capture))

    path = look_at_scene(open_scene(roots, "garden_bench"), tmp_path / "look.rrd").path

    for cam_id, name in enumerate(NAMES):
        camera = f"/input_data/test/cameras/cam_{cam_id}"
        (intrinsics,) = column(path, camera, "Pinhole:image_from_camera").values()
        (rotation,) = column(path, camera, "Transform3D:mat3x3").values()
        (centre,) = column(path, camera, "Transform3D:translation").values()
        local = (POINTS - np.asarray(centre[0])) @ matrix(rotation)
        pixels = local @ matrix(intrinsics).T
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], known.pixels[name], atol=1e-4)


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    roots = roots_in(tmp_path)
    write_scene(roots, NAME)  # its Gaussians' file holds three letters
    depth = roots.tree(NAME).ground_truth.depth(4, "000000")
    depth.parent.mkdir(parents=True)
    np.save(depth, np.full((HEIGHT, WIDTH), 2000, np.uint16))
    absent = "\n".join(look_at_scene(open_scene(roots, NAME), tmp_path / "look.rrd").absent)
    assert "static.ply: the file is not a PLY" in absent
    assert "depths/4/000000.npy: the file is no depth map" in absent


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (np.ones((HEIGHT // 2, WIDTH // 2), np.float32), "a depth map has another size than its photograph"),
        (np.ones((1, HEIGHT, WIDTH), np.float32), "the file is no depth map"),
        (np.ones((HEIGHT, WIDTH, 1), np.float32), "the file is no depth map"),
        (np.ones((HEIGHT, WIDTH + 1), np.float16), "a depth map has another size than its photograph"),
    ],
)
def test_depth_of_another_size_or_shape_is_left_out_of_the_recording_and_named(
    tmp_path: Path, depth: np.ndarray, reason: str
) -> None:
    roots = roots_in(tmp_path)
    write_scene(roots, NAME, gaussians=False)
    truth = roots.tree(NAME).ground_truth
    truth.depth(4, "000000").parent.mkdir(parents=True)
    np.save(truth.depth(4, "000000"), depth)
    np.save(truth.depth(4, "000001"), np.ones((HEIGHT, WIDTH), np.float32))
    found = look_at_scene(open_scene(roots, NAME), tmp_path / "look.rrd")
    assert [line for line in found.absent if "depths/4/000000.npy" in line] == [
        line for line in found.absent if reason in line
    ]
    assert any(reason in line for line in found.absent)
    assert set(column(found.path, "/input_data/test/cameras/cam_4/depth", "EncodedDepthImage:blob")) == {1}


def test_a_scene_without_anything_is_refused(tmp_path: Path) -> None:
    roots = roots_in(tmp_path)
    roots.tree(NAME).ground_truth.base.mkdir(parents=True)
    with pytest.raises(InvalidScene, match="nothing to look at"):
        look_at_scene(open_scene(roots, NAME), tmp_path / "look.rrd")
    assert not (tmp_path / "look.rrd").exists()
