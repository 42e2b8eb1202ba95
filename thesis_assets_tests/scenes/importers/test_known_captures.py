"""A capture that pycolmap wrote, the same as a nerfstudio listing, and as an action of Hi4D, become one scene: cameras, worlds and pixels agree."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import read_rgb
from thesis_assets.scenes.importers.capture import Capture, one_frame
from thesis_assets.scenes.importers.colmap import read_colmap
from thesis_assets.scenes.importers.hi4d_actions import Hi4DImport, find_actions, import_action
from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
from thesis_assets.scenes.importers.writing import write_scene
from thesis_assets.scenes.scene import Scene, open_scene
from thesis_assets_tests.scenes.importers.known_captures import NAMES, POINTS, KnownCapture, known_capture
from thesis_assets_tests.scenes.tiny_scene import roots_in

FORMS = ("text", "binary", "nerfstudio", "hi4d")


def captured(known: KnownCapture, form: str) -> Capture:
    return read_nerfstudio(known.write_nerfstudio()) if form == "nerfstudio" else read_colmap(known.write_colmap(form))


def imported(known: KnownCapture, form: str, folder: Path) -> Scene:
    roots = roots_in(folder)
    if form == "hi4d":
        (action,) = find_actions(known.write_hi4d())
        return open_scene(roots, import_action(Hi4DImport(roots, action)).action.scene_name)
    capture = captured(known, form)
    write_scene(roots, "garden_bench", capture, one_frame(capture))
    return open_scene(roots, "garden_bench")


@pytest.mark.parametrize("form", FORMS)
def test_every_point_lands_where_pycolmap_sees_it(tmp_path: Path, form: str) -> None:
    known = known_capture(tmp_path / "capture")
    scene = imported(known, form, tmp_path)
    for cam_id, name in enumerate(NAMES):  # in the natural order of the names
        camera, image = scene.camera(cam_id, "000000"), known.model.find_image_with_name(name)
        np.testing.assert_allclose(camera.intrinsics, image.camera.calibration_matrix(), atol=1e-6)
        np.testing.assert_allclose(camera.extrinsics, image.cam_from_world().matrix(), atol=1e-6)
        rays = (camera.extrinsics[:, :3] @ POINTS.T).T + camera.extrinsics[:, 3]
        pixels = rays @ camera.intrinsics.T
        np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], known.pixels[name], atol=1e-4)
        np.testing.assert_allclose([image.project_point(point) for point in POINTS], known.pixels[name], atol=1e-9)


def test_all_forms_give_one_scene(tmp_path: Path) -> None:
    first, *others = [imported(known_capture(tmp_path / form / "capture"), form, tmp_path / form) for form in FORMS]
    assert first.camera_ids() == [0, 1, 2]
    for other in others:
        assert other.camera_ids() == first.camera_ids()
        for cam_id in first.camera_ids():
            ours, theirs = first.camera(cam_id, "000000"), other.camera(cam_id, "000000")
            assert (ours.height, ours.width) == (theirs.height, theirs.width)
            np.testing.assert_allclose(ours.intrinsics, theirs.intrinsics, atol=1e-6)
            np.testing.assert_allclose(ours.extrinsics, theirs.extrinsics, atol=1e-6)
            images = [scene.image_path(cam_id, "000000") for scene in (first, other)]
            np.testing.assert_array_equal(*(read_rgb(path) for path in images if path is not None))


@pytest.mark.parametrize("form", ["text", "binary"])
def test_of_a_model_that_pycolmap_wrote_the_other_files_are_named(tmp_path: Path, form: str) -> None:
    (note,) = captured(known_capture(tmp_path), form).notes
    assert all(name in note for name in ("points3D", "rigs", "frames"))


def test_pycolmap_and_this_reader_refuse_a_text_of_one_line_an_image(tmp_path: Path) -> None:
    known = known_capture(tmp_path)
    model = known.write_colmap("text") / "sparse" / "0"
    assert pycolmap.Reconstruction(str(model)).num_images() == 3
    lines = [line for line in (model / "images.txt").read_text().splitlines() if not line.startswith("#")]
    (model / "images.txt").write_text("\n".join(lines[::2]) + "\n")
    with pytest.raises(InvalidFile, match="line of the COLMAP file"):
        read_colmap(tmp_path)
    with pytest.raises(Exception, match=r".") as caught:  # of pycolmap's own kind
        pycolmap.Reconstruction(str(model))
    assert not isinstance(caught.value, InvalidFile)
