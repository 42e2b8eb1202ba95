"""A capture as a scene on disk: opened by the scene contract, published whole, never over another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey, InvalidScene
from thesis_assets.images.codecs import read_mask, read_rgb
from thesis_assets.scenes.catalog import describe_scene, list_scenes
from thesis_assets.scenes.importers.capture import Capture, compile_pattern, frames_from, one_frame
from thesis_assets.scenes.importers.colmap import read_colmap
from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
from thesis_assets.scenes.importers.writing import check_capture, write_scene
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.scenes import ImportRecord
from thesis_assets_tests.scenes.importers.small_captures import (
    HEIGHT,
    PIXEL,
    POINT,
    WIDTH,
    Row,
    colmap_binary,
    nerfstudio,
    photograph,
)
from thesis_assets_tests.scenes.tiny_scene import put, roots_in
from thesis_assets_tests.splits.snapshots import contents_of

NAME = "garden_bench"


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    return roots_in(tmp_path / "data")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a JPEG and a PNG, and masks for the first."""
    home = tmp_path / "capture"
    photograph(home / "images" / "one.JPG")
    photograph(home / "images" / "two three.png", color=(10, 200, 30))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:9, 5:20] = 255
    (home / "masks").mkdir()
    Image.fromarray(mask).save(home / "masks" / "one.png")
    return home


def capture_of(source: Path) -> Capture:
    frames = [
        {"file_path": "images/one.JPG", "mask_path": "masks/one.png"},
        {"file_path": "images/two three.png"},
    ]
    return read_nerfstudio(nerfstudio(source, frames))


def test_the_scene_opens_and_a_point_falls_on_its_pixel(roots: SceneRoots, source: Path) -> None:
    capture = capture_of(source)
    write_scene(roots, NAME, capture, one_frame(capture), source_camera=0)
    scene = open_scene(roots, NAME)
    assert (scene.camera_ids(), scene.frames(), scene.source_camera()) == ([0, 1], ["000000"], 0)
    for cam_id in scene.camera_ids():
        pixel, _ = scene.camera(cam_id, "000000").project(POINT)
        np.testing.assert_allclose(pixel, PIXEL)


def test_both_formats_give_the_same_cameras(roots: SceneRoots, source: Path) -> None:
    listed = capture_of(source)
    model = colmap_binary(source / "sparse", [Row("one.JPG", 1), Row("two three.png", 2)])
    sparse = read_colmap(model)
    write_scene(roots, "garden_a", listed, one_frame(listed))
    write_scene(roots, "garden_b", sparse, one_frame(sparse))
    first, second = (open_scene(roots, name).camera(1, "000000") for name in ("garden_a", "garden_b"))
    np.testing.assert_allclose(first.extrinsics, second.extrinsics, atol=1e-12)
    np.testing.assert_array_equal(first.intrinsics, second.intrinsics)


def test_jpeg_is_linked_and_the_rest_is_converted(roots: SceneRoots, source: Path) -> None:
    capture = capture_of(source)
    imported = write_scene(roots, NAME, capture, one_frame(capture))
    truth = imported.tree.ground_truth
    assert dict(imported.origins) == {"hard_link": 1, "jpeg_q95": 1}
    assert truth.image(0, "000000").samefile(source / "images" / "one.JPG")
    converted = read_rgb(truth.image(1, "000000")).astype(int)
    assert np.abs(converted - [10, 200, 30]).max() <= 3
    copied = write_scene(roots, "garden_copy", capture, one_frame(capture), link_mode="copy")
    assert dict(copied.origins) == {"copy": 1, "jpeg_q95": 1}
    assert not copied.tree.ground_truth.image(0, "000000").samefile(source / "images" / "one.JPG")


def test_what_a_file_is_its_bytes_say(roots: SceneRoots, source: Path) -> None:
    (source / "images" / "two three.png").rename(source / "images" / "one.JPG")
    capture = read_nerfstudio(nerfstudio(source, [{"file_path": "images/one.JPG"}]))
    assert dict(write_scene(roots, NAME, capture, one_frame(capture)).origins) == {"jpeg_q95": 1}


def test_masks_become_the_union_of_people(roots: SceneRoots, source: Path) -> None:
    capture = capture_of(source)
    imported = write_scene(roots, NAME, capture, one_frame(capture))
    path = open_scene(roots, NAME).mask_path(0, "000000")
    assert imported.n_masks == 1
    assert path is not None
    assert read_mask(path).sum() == 5 * 15
    assert open_scene(roots, NAME).mask_path(1, "000000") is None


@pytest.mark.parametrize(("value", "size"), [(1, (HEIGHT, WIDTH)), (255, (HEIGHT, WIDTH - 1))])
def test_a_mask_that_marks_nothing_or_does_not_fit_is_refused(
    roots: SceneRoots, source: Path, value: int, size: tuple[int, int]
) -> None:
    Image.fromarray(np.full(size, value, np.uint8)).save(source / "masks" / "one.png")
    capture = capture_of(source)
    with pytest.raises(InvalidFile, match="mask"):
        write_scene(roots, NAME, capture, one_frame(capture))


def test_the_record_says_which_image_is_which(roots: SceneRoots, source: Path) -> None:
    capture = capture_of(source)
    imported = write_scene(roots, NAME, capture, one_frame(capture))
    record = storage.read_json(imported.tree.ground_truth.import_record, ImportRecord)
    assert record.cameras == {0: "images/one.JPG", 1: "images/two three.png"}
    assert [(each.cam_id, each.name, each.mask) for each in record.images] == [
        (0, "images/one.JPG", "masks/one.png"),
        (1, "images/two three.png", None),
    ]
    assert record.sources == {str(capture.source): storage.sha256_file(capture.source)}


def test_many_frames_of_moving_cameras_keep_each_its_pose(roots: SceneRoots, tmp_path: Path) -> None:
    rows = [
        Row(f"cam{cam}/{frame}.jpg", 10 * cam + frame, translation=(frame, 0, cam))
        for cam in (4, 16)
        for frame in (8, 9, 10)
    ]
    for row in rows:
        photograph(tmp_path / "images" / row.name)
    capture = read_colmap(colmap_binary(tmp_path / "sparse" / "0", rows))
    write_scene(roots, NAME, capture, frames_from(capture, compile_pattern(r"cam(?P<cam>\d+)/(?P<frame>\d+)")))
    scene = open_scene(roots, NAME)
    assert (scene.camera_ids(), scene.frames()) == ([4, 16], ["000008", "000009", "000010"])
    np.testing.assert_allclose(scene.camera(16, "000009").translation, [9, 0, 16])


def test_the_catalog_says_what_the_scene_still_lacks(roots: SceneRoots, source: Path) -> None:
    capture = capture_of(source)
    write_scene(roots, "garden_bare", capture, one_frame(capture))
    missing = describe_scene(roots, "garden_bare").missing
    assert "registry entry" in missing["export"][0]
    assert "Gaussians" in missing["export"][1]
    assert len(missing["pose_smplx"]) == 2
    gaussians = put(source / "splat.ply", b"ply")
    imported = write_scene(roots, NAME, capture, one_frame(capture), source_camera=1, gaussians=gaussians)
    assert describe_scene(roots, NAME).enough_for("export")
    assert describe_scene(roots, NAME).gaps == ()
    assert imported.gaussians is not None
    assert imported.gaussians.samefile(gaussians)


@pytest.mark.parametrize("source_camera", [None, 0, 1])
def test_nothing_is_written_over_a_scene(roots: SceneRoots, source: Path, source_camera: int | None) -> None:
    capture = capture_of(source)
    write_scene(roots, NAME, capture, one_frame(capture), source_camera=0)
    before = contents_of(roots.canonical_gt)
    with pytest.raises(InvalidScene, match="there already"):
        write_scene(roots, NAME, capture, one_frame(capture), source_camera=source_camera)
    assert contents_of(roots.canonical_gt) == before
    assert open_scene(roots, NAME).source_camera() == 0


@pytest.mark.parametrize("which", ["registry", "gaussians"])
def test_nothing_is_written_over_what_belongs_to_a_scene_of_that_name(
    roots: SceneRoots, source: Path, which: str
) -> None:
    tree = roots.tree(NAME)
    theirs = put(tree.registry_entry if which == "registry" else tree.estimated.static_gaussians, b"theirs")
    capture = capture_of(source)
    with pytest.raises(InvalidScene, match="there already") as caught:
        write_scene(
            roots, NAME, capture, one_frame(capture), source_camera=0, gaussians=put(source / "splat.ply", b"ply")
        )
    assert caught.value.file == str(theirs)
    assert theirs.read_bytes() == b"theirs"
    assert list_scenes(roots) == []


def test_a_failure_leaves_nothing_and_the_next_try_succeeds(
    roots: SceneRoots, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture, splat = capture_of(source), put(source / "splat.ply", b"ply")

    def full(temporary: Path, final: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish_directory", full)
        with pytest.raises(OSError, match="No space"):
            write_scene(roots, NAME, capture, one_frame(capture), source_camera=0, gaussians=splat)
    left = [
        path
        for root in (roots.canonical_gt, roots.preprocessing, roots.registry)
        for path in root.rglob("*")
        if path.is_file()
    ]
    assert left == []
    write_scene(roots, NAME, capture, one_frame(capture), source_camera=0, gaussians=splat)
    assert list_scenes(roots) == [NAME]


def test_what_a_killed_import_left_is_taken_up(roots: SceneRoots, source: Path) -> None:
    """A kill between the registry entry and the rename leaves entry and Gaussians of the same content."""
    capture, splat = capture_of(source), put(source / "splat.ply", b"ply")
    tree = write_scene(roots, NAME, capture, one_frame(capture), source_camera=0, gaussians=splat).tree
    tree.ground_truth.base.rename(source / "away")
    write_scene(roots, NAME, capture, one_frame(capture), source_camera=0, gaussians=splat)
    assert list_scenes(roots) == [NAME]


def test_a_truncated_photograph_stops_the_import_and_is_named(roots: SceneRoots, source: Path) -> None:
    path = source / "images" / "one.JPG"
    capture = capture_of(source)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidFile, match="cut short") as caught:
        write_scene(roots, NAME, capture, one_frame(capture))
    assert caught.value.file == str(path)
    assert list(roots.canonical_gt.iterdir()) == []


@pytest.mark.parametrize("name", ["nodataset", "../x_y", "a_b/c", "_x", ".hidden_x"])
def test_a_name_that_is_no_scene_name_is_refused(roots: SceneRoots, source: Path, name: str) -> None:
    capture = capture_of(source)
    with pytest.raises(InvalidKey):
        write_scene(roots, name, capture, one_frame(capture))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_without_three_channels_is_converted_and_said(roots: SceneRoots, source: Path, mode: str) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), (200, 200, 200)).convert(mode).save(source / "images" / "one.JPG")
    capture = capture_of(source)
    imported = write_scene(roots, NAME, capture, one_frame(capture))
    assert dict(imported.origins) == {"jpeg_q95": 2}
    with Image.open(imported.tree.ground_truth.image(0, "000000")) as image:
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - 200).max() <= 3


@pytest.mark.parametrize("broken", ["transparent", "cut", "deep", "mask"])
def test_a_dry_run_refuses_what_the_import_refuses(roots: SceneRoots, source: Path, broken: str) -> None:
    photo = source / "images" / "two three.png"
    match broken:
        case "transparent":
            Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 100)).save(photo)
        case "cut":
            path = source / "images" / "one.JPG"
            path.write_bytes(path.read_bytes()[:-200])
        case "deep":
            Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(photo)
        case "mask":
            Image.fromarray(np.full((HEIGHT, WIDTH), 1, np.uint8)).save(source / "masks" / "one.png")
    with pytest.raises(InvalidFile) as of_dry_run:
        check_capture(capture_of(source), one_frame(capture_of(source)))
    with pytest.raises(InvalidFile) as of_import:
        write_scene(roots, NAME, capture_of(source), one_frame(capture_of(source)))
    assert str(of_dry_run.value) == str(of_import.value)
