"""Reading one scene by its contract."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile, InvalidKey, InvalidScene
from thesis_assets.scenes.listing import SceneRoots, scene_files
from thesis_assets.scenes.scene import Scene, open_scene, read_skip_frames
from thesis_assets_tests.scenes.tiny_scene import (
    HEIGHT,
    WIDTH,
    put,
    roots_in,
    tiny_camera,
    write_body,
    write_image,
    write_scene,
)

NAME = "hi4d_pair01_hug"


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    return roots_in(tmp_path)


def opened(roots: SceneRoots, **how: object) -> Scene:
    write_scene(roots, NAME, **how)  # type: ignore[arg-type]
    return open_scene(roots, NAME)


def test_cameras_and_frames_stand_in_numeric_order(roots: SceneRoots) -> None:
    scene = opened(roots, cameras=(100, 16, 4), frames=(999_999, 1_000_000, 2))
    assert scene.camera_ids() == [4, 16, 100]
    assert scene.frames(4) == ["000002", "999999", "1000000"]
    assert list(scene.camera_files(4).paths) == ["000002", "999999", "1000000"]


def test_a_scene_that_is_not_there_is_an_error_with_the_names_close_to_it(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    with pytest.raises(InvalidScene, match=NAME):
        open_scene(roots, "hi4d_pair01_hugs")


@pytest.mark.parametrize("name", ["../hi4d_x", "hi4d", "", "_x", ".hi4d_x", "hi4d_x/..", "a_b\nc"])
def test_a_name_that_could_leave_the_root_is_refused(roots: SceneRoots, name: str) -> None:
    with pytest.raises(InvalidKey):
        open_scene(roots, name)


def test_skip_frames_are_left_out_whatever_the_spaces(roots: SceneRoots) -> None:
    write_scene(roots, NAME, frames=range(6))
    put(roots.tree(NAME).ground_truth.skip_frames, b"1, 2,  4\n")
    scene = open_scene(roots, NAME)
    assert scene.skip_frames() == {1, 2, 4}
    assert scene.frames() == ["000000", "000003", "000005"]
    assert len(scene.frames(apply_skip_frames=False)) == 6


def test_skip_frames_of_the_estimates_count_too(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).ground_truth.skip_frames, b"0")
    put(roots.tree(NAME).estimated.skip_frames, b"2")
    assert open_scene(roots, NAME).frames() == ["000001"]


@given(numbers=st.sets(st.integers(0, 10**7)), pad=st.sampled_from(["", " ", "  ", "\t"]))
def test_every_number_of_skip_frames_is_read(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int], pad: str
) -> None:
    path = tmp_path_factory.mktemp("skip") / "skip_frames.csv"
    path.write_text(",".join(f"{pad}{number}{pad}" for number in numbers) + ",\r\n")
    assert read_skip_frames(path) == numbers


@pytest.mark.parametrize("text", ["1, two", "1;2", "-3", "1.5", "1 2"])
def test_a_token_that_is_no_frame_number_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFile, match="not a frame number"):
        read_skip_frames(put(tmp_path / "skip_frames.csv", text.encode()))


def test_an_empty_file_is_a_missing_one(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    truth = roots.tree(NAME).ground_truth
    put(truth.image(4, "000001"))
    put(truth.mask(4, "000000"))
    put(truth.camera(16, "000002"))
    scene = open_scene(roots, NAME)
    assert scene.frames(4) == ["000000", "000002"]
    assert scene.image_path(4, "000001") is None
    assert scene.image_files(4).empty == ("000001",)
    assert scene.mask_path(4, "000000") is None
    with pytest.raises(InvalidFile, match="no calibration"):
        scene.camera(16, "000002")


def test_files_that_are_no_frames_are_passed_over(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    folder = roots.tree(NAME).ground_truth.image(4, "000000").parent
    for name in ("12.jpg", "000003.txt", "Thumbs.db", "0000004.jpg", ".tmp-000009.jpg.partial"):
        put(folder / name, b"x")
    scene = open_scene(roots, NAME)
    assert scene.frames(4) == ["000000", "000001", "000002"]
    assert len(scene.image_files(4).others) == 5


def test_png_and_jpeg_images_are_found_and_jpg_goes_first(roots: SceneRoots) -> None:
    write_scene(roots, NAME, frames=(0,))
    folder = roots.tree(NAME).ground_truth.image(4, "000000").parent
    write_image(folder / "000000.png")
    write_image(folder / "000001.png")
    write_image(folder / "000002.jpeg")
    scene = open_scene(roots, NAME)
    names = [path.name for fname in scene.frames(4) if (path := scene.image_path(4, fname))]
    assert names == ["000000.jpg", "000001.png", "000002.jpeg"]


def test_a_link_out_of_the_roots_is_refused(roots: SceneRoots, tmp_path: Path) -> None:
    write_scene(roots, NAME)
    outside = tmp_path / "elsewhere" / "000007.jpg"
    write_image(outside)
    truth = roots.tree(NAME).ground_truth
    truth.image(4, "000007").symlink_to(outside)
    scene = open_scene(roots, NAME)
    assert scene.frames(16)  # other folders are not concerned
    with pytest.raises(InvalidScene, match="leaves the roots"):
        scene.image_path(4, "000000")


def test_a_folder_or_a_scene_that_is_a_link_out_of_the_roots_is_refused(roots: SceneRoots, tmp_path: Path) -> None:
    write_scene(roots, NAME)
    outside = tmp_path / "elsewhere"
    write_image(outside / "40" / "000000.jpg")
    truth = roots.tree(NAME).ground_truth
    (truth.images_dir / "40").symlink_to(outside / "40")
    with pytest.raises(InvalidScene):
        open_scene(roots, NAME).frames(40)
    (roots.canonical_gt / "hi4d_linked").symlink_to(outside)
    with pytest.raises(InvalidScene):
        open_scene(roots, "hi4d_linked")


def test_a_link_within_the_roots_is_followed(roots: SceneRoots) -> None:
    write_scene(roots, NAME, frames=(0,))
    truth = roots.tree(NAME).ground_truth
    truth.image(4, "000001").symlink_to(truth.image(4, "000000"))
    (truth.image(4, "000002")).symlink_to(truth.base / "nowhere.jpg")
    scene = open_scene(roots, NAME)
    assert scene.frames(4) == ["000000", "000001"]
    assert scene.image_files(4).empty == ("000002",)


def test_the_source_camera_comes_from_the_registry(roots: SceneRoots) -> None:
    assert opened(roots, source=16).source_camera() == 16


def test_without_a_registry_entry_the_error_says_what_to_write(roots: SceneRoots) -> None:
    scene = opened(roots, source=None)
    with pytest.raises(InvalidScene) as caught:
        scene.source_camera()
    assert caught.value.file == str(roots.registry / f"{NAME}.json")
    assert '"cam_id"' in str(caught.value)
    assert "generation.source_camera" in str(caught.value)


def test_a_registry_entry_that_names_an_unknown_camera_is_an_error(roots: SceneRoots) -> None:
    scene = opened(roots, source=52)
    with pytest.raises(InvalidScene, match="cam_id"):
        scene.source_camera()


def test_a_registry_entry_of_another_form_is_refused_by_key(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).registry_entry, b'{"seq_name": "x", "cam_id": "front"}')
    with pytest.raises(InvalidFile) as caught:
        open_scene(roots, NAME)
    assert caught.value.key == "cam_id"


def test_an_oversized_registry_file_is_not_read(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).registry_entry, b" " * (2 * 1024 * 1024))
    with pytest.raises(InvalidFile, match="larger"):
        open_scene(roots, NAME)


def test_the_identity_mapping_is_that_of_the_registry(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    text = (
        b'{"seq_name": "x", "cam_id": 4, "identity_alignment": {"manual_preproc_to_gt": {"0": 1, "1": 0}}, "more": 1}'
    )
    put(roots.tree(NAME).registry_entry, text)
    assert open_scene(roots, NAME).identity_mapping() == {0: 1, 1: 0}
    assert opened(roots).identity_mapping() is None


def test_a_static_cameras_calibration_is_shared_and_a_moving_ones_is_not(roots: SceneRoots) -> None:
    write_scene(roots, NAME, frames=(0, 1))
    from thesis_assets.scenes.camera import write_camera

    write_camera(roots.tree(NAME).ground_truth.camera(16, "000001"), tiny_camera(5))
    scene = open_scene(roots, NAME)
    assert scene.camera(4, "000000") is scene.camera(4, "000001")
    assert (scene.camera(4, "000000").height, scene.camera(4, "000000").width) == (HEIGHT, WIDTH)
    assert not np.array_equal(scene.camera(16, "000000").extrinsics, scene.camera(16, "000001").extrinsics)


def test_the_image_size_is_that_of_the_first_readable_image(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).ground_truth.image(4, "000000"), b"not an image")
    assert open_scene(roots, NAME).image_size(4) == (HEIGHT, WIDTH)
    for frame in ("000001", "000002"):
        put(roots.tree(NAME).ground_truth.image(4, frame), b"not an image")
    with pytest.raises(InvalidScene, match="no readable image"):
        open_scene(roots, NAME).image_size(4)


def test_people_are_counted_by_masks_then_by_bodies(roots: SceneRoots) -> None:
    assert opened(roots).n_people() == 0
    write_body(roots.tree(NAME).ground_truth.body("smpl", "000000"), "smpl", n_people=3)
    assert open_scene(roots, NAME).n_people() == 3
    for person in (0, 1, "all"):
        put(roots.tree(NAME).ground_truth.mask(4, "000000", person), b"png")
    scene = open_scene(roots, NAME)
    assert scene.n_people() == 2
    assert scene.person_ids(4) == [0, 1]
    assert scene.mask_path(4, "000000", 1) is not None


def test_genders_come_from_meta_and_must_be_text(roots: SceneRoots) -> None:
    assert opened(roots).genders() == []
    np.savez(roots.tree(NAME).ground_truth.meta, genders=np.array(["female", "male"]))
    assert open_scene(roots, NAME).genders() == ["female", "male"]
    np.savez(roots.tree(NAME).ground_truth.meta, genders=np.array([0, 1]))
    with pytest.raises(InvalidFile):
        open_scene(roots, NAME).genders()


def test_a_frames_own_gaussians_go_before_the_static_ones(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    estimated = roots.tree(NAME).estimated
    put(estimated.gaussians("000001"), b"ply")
    put(estimated.gaussians("000002"))
    scene = open_scene(roots, NAME)
    names = [path.name for fname in scene.frames() if (path := scene.gaussians_path(fname))]
    assert names == ["static.ply", "000001.ply", "static.ply"]


def files_of(scene: Scene, render_source: str | None = None) -> dict[str, str]:
    return scene_files(scene.tree, scene.roots, render_source)


def test_every_file_that_generation_reads_is_listed_by_its_root_and_place_and_no_other(roots: SceneRoots) -> None:
    scene = opened(roots)
    tree = scene.tree
    before = files_of(scene)
    for path in (tree.ground_truth.mesh("000000"), tree.ground_truth.body("smplx", "000000"), tree.render_record):
        put(path, b"not read")
    for path in (tree.renders_made_from, tree.renders_made_from.with_suffix(".stats.json")):
        put(path, b"ours")
    put(tree.ground_truth.images_dir / "4" / ".DS_Store", b"of a file manager")
    assert files_of(scene) == before
    read_by_generation = {
        f"canonical_gt/{NAME}/images/4/000007.jpg": tree.ground_truth.image(4, "000007"),
        f"canonical_gt/{NAME}/seg/img_seg_mask/4/all/000007.png": tree.ground_truth.mask(4, "000007"),
        f"canonical_gt/{NAME}/seg/img_seg_mask/4/0/000007.png": tree.ground_truth.mask(4, "000007", 0),
        f"canonical_gt/{NAME}/all_cameras/16/000007.npz": tree.ground_truth.camera(16, "000007"),
        f"canonical_gt/{NAME}/skip_frames.csv": tree.ground_truth.skip_frames,
        f"preprocessing/{NAME}/gaussians/000007.ply": tree.estimated.gaussians("000007"),
        f"renders/{NAME}/16/000007.png": tree.render(16, "000007"),
    }
    for path in read_by_generation.values():
        put(path, b"content")
    assert files_of(scene) == before | {name: str(path) for name, path in read_by_generation.items()}
    assert f"registry/{NAME}.json" in before


def test_files_that_only_the_other_render_source_reads_are_left_out(roots: SceneRoots) -> None:
    scene = opened(roots)
    put(scene.tree.render(16, "000001"), b"png")
    put(scene.tree.estimated.static_gaussians, b"ply")
    roots_of = {
        source: {name.split("/")[0] for name in files_of(scene, source)} - {"canonical_gt", "registry"}
        for source in ("gaussians", "precomputed", "command", None)
    }
    assert roots_of == {
        "gaussians": {"preprocessing"},
        "precomputed": {"renders"},
        "command": {"preprocessing"},
        None: {"preprocessing", "renders"},
    }


def test_listing_ends_where_links_go_in_circles_and_lists_nothing_of_a_scene_that_is_gone(roots: SceneRoots) -> None:
    scene = opened(roots)
    (scene.tree.ground_truth.images_dir / "5").symlink_to(scene.tree.ground_truth.images_dir)
    assert files_of(scene)
    assert scene_files(roots.tree("hi4d_pair99_gone"), roots, None) == {}


def test_a_scene_crosses_a_process_boundary(roots: SceneRoots) -> None:
    scene = opened(roots)
    scene.camera(4, "000000")
    again = pickle.loads(pickle.dumps(scene))
    assert again.frames() == scene.frames()
    assert files_of(again) == files_of(scene)
