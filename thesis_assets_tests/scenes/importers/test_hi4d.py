"""Hi4D's form becomes a scene by the contract: frames keep their numbers, people their masks and bodies, and what differs is named."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.errors import CellLocked, InvalidFile, InvalidScene, ThesisAssetsError
from thesis_assets.images.codecs import encode_jpeg, encode_png, read_mask, read_rgb
from thesis_assets.scenes.bodies import read_bodies
from thesis_assets.scenes.catalog import check_scene, list_scenes
from thesis_assets.scenes.importers.hi4d import OPTIONAL_PARTS, PARTS, read_hi4d
from thesis_assets.scenes.importers.hi4d_actions import (
    Hi4DAction,
    Hi4DImport,
    Hi4DOutcome,
    choose_actions,
    find_actions,
    import_action,
)
from thesis_assets.scenes.importers.lens import undistorted
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.matching import group_id
from thesis_assets.scenes.scene import Scene, open_scene
from thesis_assets.schemas.scenes import ImportRecord
from thesis_assets_tests.scenes.hi4d_form import (
    GENDERS,
    LENS,
    N_PEOPLE,
    START,
    Hi4DForm,
    bodies_at,
    marked,
    picture,
    rig,
    write_action,
)
from thesis_assets_tests.scenes.tiny_scene import put, roots_in

NAME = "hi4d_pair15_fight"
FIRST = f"{START:06d}"


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    return roots_in(tmp_path / "data")


@pytest.fixture
def form(tmp_path: Path) -> Hi4DForm:
    return write_action(tmp_path / "raw" / "pair15" / "fight15")


def imported(roots: SceneRoots, form: Hi4DForm, **options: Any) -> Hi4DOutcome:
    (action,) = find_actions(form.folder)
    return import_action(Hi4DImport(roots, action, **options))


def scene_of(roots: SceneRoots, form: Hi4DForm, **options: Any) -> Scene:
    return open_scene(roots, imported(roots, form, **options).action.scene_name)


# --- what an action becomes ------------------------------------------------------------------------------------------


def test_frames_cameras_bodies_and_meshes_are_those_of_the_action(roots: SceneRoots, form: Hi4DForm) -> None:
    scene = scene_of(roots, form)
    assert (scene.camera_ids(), scene.frames()) == ([4, 16], [FIRST, f"{START + 1:06d}"])
    for known in form.cameras:
        for fname in scene.frames():
            camera = scene.camera(known.cam_id, fname)
            np.testing.assert_array_equal(camera.intrinsics, known.intrinsics)
            np.testing.assert_array_equal(camera.extrinsics, known.extrinsics)
    path = scene.body_path("smpl", FIRST)
    assert path is not None
    bodies, known_bodies = read_bodies(path, "smpl"), bodies_at(START)
    assert bodies.parameters["body_pose"].shape == (N_PEOPLE, 23, 3)
    np.testing.assert_allclose(
        bodies.parameters["body_pose"].reshape(N_PEOPLE, 69), known_bodies["body_pose"], rtol=1e-6
    )
    np.testing.assert_allclose(bodies.joints, known_bodies["joints_3d"], rtol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_allclose(bodies.vertices, known_bodies["verts"], rtol=1e-6)  # type: ignore[arg-type]
    np.testing.assert_array_equal(bodies.contact, known_bodies["contact"])  # type: ignore[arg-type]
    mesh = scene.tree.ground_truth.mesh(FIRST)
    assert mesh.samefile(form.folder / "frames" / f"mesh-f{START:05d}.obj")
    assert scene.genders() == list(GENDERS)
    assert scene.tree.ground_truth.meta.samefile(form.folder / "meta.npz")
    assert group_id(scene.name, {}) == "pair15"


def test_images_and_plain_masks_are_links_and_coloured_ones_become_0_and_255(roots: SceneRoots, form: Hi4DForm) -> None:
    outcome = imported(roots, form)
    scene = open_scene(roots, NAME)
    assert outcome.imported is not None
    assert dict(outcome.imported.origins) == {"hard_link": 4}
    assert outcome.imported.n_masks == 4
    for known in form.cameras:
        place, people = known.cam_id, marked(known, START)
        image = scene.image_path(place, FIRST)
        assert image is not None
        assert image.samefile(form.folder / f"images/{place}/{FIRST}.jpg")
        for person, mask in (("0", people[0]), ("1", people[1]), ("all", people.any(axis=0))):
            path = scene.mask_path(place, FIRST, person)
            assert path is not None
            np.testing.assert_array_equal(read_mask(path), mask)
            original = form.folder / f"seg/img_seg_mask/{place}/{person}/{FIRST}.png"
            assert path.samefile(original) == (person != "all")
    copied = scene_of(roots_in(roots.registry.parent / "other"), form, link_mode="copy")
    assert not copied.tree.ground_truth.image(4, FIRST).samefile(form.folder / f"images/4/{FIRST}.jpg")


def test_the_registry_names_the_original_and_the_camera_of_meta_or_the_one_asked_for(
    roots: SceneRoots, form: Hi4DForm, tmp_path: Path
) -> None:
    registry = scene_of(roots, form).registry
    assert registry is not None
    assert (registry.cam_id, registry.raw_gt_dir_path) == (16, str(form.folder))
    assert registry.video_path == str(form.folder / "images" / "16")
    assert scene_of(roots_in(tmp_path / "asked"), form, source_camera="4").source_camera() == 4
    form.change("meta.npz", mono_cam=None)
    assert scene_of(roots_in(tmp_path / "none"), form).registry is None
    form.change("meta.npz", mono_cam=5)
    with pytest.raises(InvalidFile, match="--source-camera"):
        imported(roots_in(tmp_path / "wrong"), form)
    assert scene_of(roots_in(tmp_path / "right"), form, source_camera="4").source_camera() == 4
    with pytest.raises(InvalidScene, match="no such camera"):
        imported(roots_in(tmp_path / "wrong"), form, source_camera="5")


def test_the_record_says_which_image_is_which_and_from_what(roots: SceneRoots, form: Hi4DForm) -> None:
    record = storage.read_json(scene_of(roots, form).tree.ground_truth.import_record, ImportRecord)
    assert record.format == "hi4d"
    assert record.sources == {
        str(path): storage.sha256_file(path)
        for path in (form.folder / "cameras/rgb_cameras.npz", form.folder / "meta.npz")
    }
    assert record.images[0].name == f"images/4/{FIRST}.jpg"
    assert record.images[0].mask == f"seg/img_seg_mask/4/all/{FIRST}.png"


def test_parts_that_are_not_wanted_are_left_out_and_recorded(roots: SceneRoots, form: Hi4DForm) -> None:
    for part in OPTIONAL_PARTS:
        shutil.rmtree(form.folder / part)
    scene = scene_of(roots, form, without=OPTIONAL_PARTS)
    assert {path.name for path in scene.tree.ground_truth.base.iterdir()} == {
        "all_cameras",
        "images",
        "meta.npz",
        "misc",
    }
    assert storage.read_json(scene.tree.ground_truth.import_record, ImportRecord).left_out == sorted(OPTIONAL_PARTS)


def test_what_is_not_used_is_named(form: Hi4DForm) -> None:
    for name in (
        "frames_vis/atlas-f00003.pkl",
        "seg/instance/0/mesh-f00003.npz",
        "cameras/old.npz",
        "images/4/note.txt",
    ):
        put(form.folder / name, b"x")
    for number in range(9):
        put(form.folder / f"frames/Atlas-F{number:05d}.png", b"x")
    form.change("cameras/rgb_cameras.npz", shape=np.zeros((2, 2)))
    form.change(f"smpl/{FIRST}.npz", scale=np.ones(2))
    assert sorted(read_hi4d(form.folder).notes) == [
        "not taken over: 9 .png of frames",
        "not taken over: frames_vis",
        "not taken over: instance of seg",
        "not taken over: keys scale of smpl/000003.npz",
        "not taken over: keys shape of cameras/rgb_cameras.npz",
        "not taken over: note.txt of images/4",
        "not taken over: old.npz of cameras",
    ]


# --- frames that failed upstream -------------------------------------------------------------------------------------


def test_empty_files_are_frames_that_are_missing(roots: SceneRoots, form: Hi4DForm) -> None:
    for name in (f"images/4/{FIRST}.jpg", f"seg/img_seg_mask/16/0/{FIRST}.png", f"smpl/{FIRST}.npz"):
        (form.folder / name).write_bytes(b"")
    (form.folder / f"frames/mesh-f{START:05d}.obj").write_bytes(b"")
    outcome = imported(roots, form)
    assert sum("failed upstream" in note for note in outcome.notes) == 4
    scene = open_scene(roots, NAME)
    assert (scene.frames(4), scene.frames(16)) == ([f"{START + 1:06d}"], [FIRST, f"{START + 1:06d}"])
    assert scene.body_frames("smpl") == [f"{START + 1:06d}"]
    assert scene.mask_path(16, FIRST, 0) is None
    assert scene.camera_files(4).paths.keys() == scene.camera_files(16).paths.keys()
    report = check_scene(roots, NAME)
    assert not report.broken
    assert report.summary.gaps == ()
    assert {finding.place for finding in report.findings if "failed upstream" in finding.message} == {
        "images/4",
        "smpl (ground truth)",
    }


# --- the lens --------------------------------------------------------------------------------------------------------


def test_a_distorted_action_becomes_what_pinhole_cameras_see(roots: SceneRoots, tmp_path: Path) -> None:
    form = write_action(tmp_path / "raw" / "pair15" / "fight15", lens=LENS)
    outcome = imported(roots, form)
    scene = open_scene(roots, NAME)
    assert outcome.imported is not None
    assert dict(outcome.imported.origins) == {"undistorted_q95": 4}
    assert "dist_coeffs" in outcome.notes[0]
    for camera in form.cameras:
        path = scene.image_path(camera.cam_id, FIRST)
        assert path is not None
        wanted, bent = picture(camera, START).astype(int), picture(camera, START, LENS).astype(int)
        inside = np.s_[4:-4, 4:-4]  # a mean over the corners would be of what the lens did not see
        off, uncorrected = (np.abs(each - wanted)[inside].mean() for each in (read_rgb(path).astype(int), bent))
        assert off < 2 < 4 < uncorrected
        for person, known, distorted in zip((0, 1), marked(camera, START), marked(camera, START, LENS), strict=True):
            mask_path = scene.mask_path(camera.cam_id, FIRST, person)
            assert mask_path is not None
            assert overlap(read_mask(mask_path), known) > 0.8 > 0.65 > overlap(distorted, known)
        all_path = scene.mask_path(camera.cam_id, FIRST)
        assert all_path is not None
        assert overlap(read_mask(all_path), marked(camera, START).any(axis=0)) > 0.8


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum())


def test_the_lens_is_undone_as_opencv_undoes_it() -> None:
    cv2 = pytest.importorskip("cv2")
    (camera,) = rig((4,))
    image = picture(camera, 0, LENS)
    ours = undistorted(image, camera.intrinsics, np.array(LENS)).astype(int)
    theirs = cv2.undistort(image, camera.intrinsics, np.array(LENS)).astype(int)
    edge = np.s_[1:-1, 1:-1]  # OpenCV mixes black into the outermost pixels
    assert np.abs(ours - theirs)[edge].max() <= 2
    np.testing.assert_array_equal(undistorted(image, camera.intrinsics, np.zeros(5)), image)


def test_what_no_pixel_of_the_distorted_image_shows_is_black() -> None:
    (camera,) = rig((4,))
    image = np.full((camera.height, camera.width, 3), 200, np.uint8)
    shown = undistorted(image, camera.intrinsics, np.array([1e300, -1e300, 1e300, -1e300, 1e300]))
    assert not shown[:20].any()  # far from the centre, places are beyond all numbers, and none
    assert not shown[-20:].any()


def test_a_lens_below_what_a_pixel_shows_changes_nothing(roots: SceneRoots, tmp_path: Path) -> None:
    form = write_action(tmp_path / "raw" / "pair15" / "fight15", lens=(1e-7, 0, 0, 0, 0))
    outcome = imported(roots, form)
    assert outcome.imported is not None
    assert dict(outcome.imported.origins) == {"hard_link": 4}


# --- what is refused -------------------------------------------------------------------------------------------------

CAMERAS, META, BODY = "cameras/rgb_cameras.npz", "meta.npz", f"smpl/{FIRST}.npz"
KEYS = [
    *((CAMERAS, key) for key in ("ids", "intrinsics", "extrinsics", "dist_coeffs")),
    *((META, key) for key in ("genders", "contact_ids", "start", "end")),
    *((BODY, key) for key in ("betas", "body_pose", "global_orient", "transl", "verts", "joints_3d", "contact")),
]


def refused(roots: SceneRoots, form: Hi4DForm, **options: Any) -> ThesisAssetsError:
    """The error of an import, which a dry run has in the same words; nothing of the scene is there afterwards."""
    with pytest.raises(ThesisAssetsError) as of_dry_run:
        imported(roots, form, dry_run=True, **options)
    with pytest.raises(ThesisAssetsError) as of_import:
        imported(roots, form, **options)
    assert str(of_dry_run.value) == str(of_import.value)
    assert list_scenes(roots) == []
    return of_import.value


@pytest.mark.parametrize(("file", "key"), KEYS)
def test_a_missing_key_is_named_with_its_file(roots: SceneRoots, form: Hi4DForm, file: str, key: str) -> None:
    form.change(file, **{key: None, f"{key}_of_another_name": 1})
    error = refused(roots, form)
    assert (error.file, error.key) == (str(form.folder / file), key)
    assert f"{key}_of_another_name" in str(error.found)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (CAMERAS, "ids", np.array([4, 4])),
        (CAMERAS, "ids", np.array([-1, 4])),
        (CAMERAS, "ids", np.array(["4", "16"])),
        (CAMERAS, "intrinsics", np.zeros((2, 3, 4))),
        (CAMERAS, "intrinsics[0]", np.zeros((2, 3, 3))),
        (CAMERAS, "extrinsics[0]", np.zeros((2, 3, 4))),
        (CAMERAS, "extrinsics", np.full((2, 3, 4), np.nan)),
        (CAMERAS, "dist_coeffs", np.zeros((2, 8))),
        (CAMERAS, "dist_coeffs", np.full((2, 5), np.inf)),
        (CAMERAS, "dist_coeffs", np.full((2, 5), 30.0)),
        (META, "genders", np.array([0, 1])),
        (META, "start", np.array([START, START])),
        (META, "start", np.array(START + 0.5)),
        (META, "start", np.array(START + 10)),
        (META, "start", np.array(-1)),
        (META, "mono_cam", np.array(5)),
        (BODY, "body_pose", np.zeros((2, 72))),
        (BODY, "betas", np.zeros((1, 10))),
        (BODY, "joints_3d", np.zeros((2, 17, 3))),
        (BODY, "verts", np.full((2, 12, 3), np.nan)),
    ],
)
def test_another_shape_is_refused_by_file_and_key(
    roots: SceneRoots, form: Hi4DForm, file: str, key: str, value: np.ndarray
) -> None:
    form.change(file, **{key.partition("[")[0]: value})
    error = refused(roots, form)
    assert error.file == str(form.folder / file)
    # The people axis of all arrays is taken from `betas`: with one of them, the next array is said to differ.
    assert error.key == ("global_orient" if key == "betas" else key)


ODD = [
    *(np.array([]), np.array(0), np.array(2**62), np.array(-(2**62)), np.array([2**63], np.uint64), np.array(True)),
    *(
        np.array("x"),
        np.array(["4", "16"]),
        np.array([b"female"]),
        np.array(1 + 2j),
        np.zeros((2, 0)),
        np.zeros((0, 3, 3)),
    ),
    *(
        np.full((2, 5), 1e300),
        np.full((2, 3, 4), 1e300),
        np.full((2, 3, 3), -1e300),
        np.zeros((2, 69)),
        np.zeros((3, 10)),
    ),
    *(np.zeros(2, [("a", "i4")]), np.array("2026-11-30", "M8[D]"), np.full((2, 24, 3), np.inf)),
]


@pytest.fixture
def no_garbage_is_collected() -> Iterator[None]:
    """Who looks on while garbage is collected makes CPython 3.11 fail within a parser: numpy parses headers of arrays."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_is_collected")
@pytest.mark.parametrize(("file", "key"), [*KEYS, (META, "mono_cam")])
def test_any_array_in_place_of_a_key_is_taken_or_refused(
    roots: SceneRoots, form: Hi4DForm, file: str, key: str
) -> None:
    with np.load(form.folder / file) as arrays:
        known = arrays[key]
    for odd in ODD:
        form.change(file, **{key: odd})
        try:
            imported(roots, form, dry_run=True)
        except ThesisAssetsError:
            continue
        same = odd.shape == known.shape or key in ("contact_ids", "genders", "mono_cam")
        assert same, f"taken as {key}: {odd!r}"


def test_other_people_than_genders_are_refused(roots: SceneRoots, form: Hi4DForm) -> None:
    form.change(META, genders=np.array(["female"]))
    assert "masks are of other people" in refused(roots, form).problem
    assert "people of a frame" in refused(roots, form, without=("seg",)).problem


@pytest.mark.parametrize(
    "part", [*PARTS, "cameras/rgb_cameras.npz", "images/16", "seg/img_seg_mask", "seg/img_seg_mask/4/all"]
)
def test_a_missing_part_is_named_with_what_is_there(roots: SceneRoots, form: Hi4DForm, part: str) -> None:
    path = form.folder / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    error = refused(roots, form)
    assert str(error.file).startswith(str(form.folder / part.rpartition("/")[0]))
    assert error.remedy is not None
    assert ("--without" in error.remedy) == (part.partition("/")[0] in OPTIONAL_PARTS)


@pytest.mark.parametrize(
    "place", ["images/4/%06d.jpg", "seg/img_seg_mask/16/1/%06d.png", "smpl/%06d.npz", "frames/mesh-f%05d.obj"]
)
def test_frames_that_are_missing_or_too_many_are_refused(roots: SceneRoots, form: Hi4DForm, place: str) -> None:
    path = form.folder / (place % START)
    extra = put(form.folder / (place % (START + 7)), path.read_bytes())
    error = refused(roots, form)
    assert (error.file, error.found) == (str(extra), START + 7)
    extra.unlink()
    path.unlink()
    error = refused(roots, form)
    assert error.file == str(path.parent)
    assert f"1 are missing, the first of frame {START}" in str(error.found)


def _first(form: Hi4DForm, place: str) -> Path:
    return next(iter(sorted((form.folder / place).iterdir())))


BROKEN: dict[str, Callable[[Hi4DForm], object]] = {
    "photograph cut short": lambda form: put(
        _first(form, "images/4"), encode_jpeg(picture(form.cameras[0], START))[:-20]
    ),
    "photograph that is none": lambda form: put(_first(form, "images/4"), b"no image"),
    "photographs of two sizes": lambda form: put(_first(form, "images/4"), encode_jpeg(np.zeros((9, 9, 3), np.uint8))),
    "mask of another size": lambda form: put(
        _first(form, "seg/img_seg_mask/4/1"), encode_png(np.zeros((9, 9), np.uint8), "pillow")
    ),
    "mask that is none": lambda form: put(_first(form, "seg/img_seg_mask/4/1"), b"no image"),
    "body that is none": lambda form: put(_first(form, "smpl"), b"no archive"),
    "camera without a calibration": lambda form: put(form.folder / "images/5/000003.jpg", b"x"),
    "all photographs of a camera empty": lambda form: [
        put(path) for path in sorted((form.folder / "images/4").iterdir())
    ],
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_used_is_refused_by_a_dry_run_as_by_the_import(
    roots: SceneRoots, form: Hi4DForm, what: str
) -> None:
    BROKEN[what](form)
    assert refused(roots, form).problem


def test_numbers_that_mark_people_in_a_mask_lose_nobody(roots: SceneRoots, form: Hi4DForm) -> None:
    """A mask of 0 and 1 for one person, of 1 and 2 for all: the threshold at 128 would make everybody background."""
    people = marked(form.cameras[0], START)
    put(_first(form, "seg/img_seg_mask/4/0"), encode_png(people[0].astype(np.uint8), "pillow"))
    put(_first(form, "seg/img_seg_mask/4/all"), encode_png((people[0] + 2 * people[1]).astype(np.uint8), "pillow"))
    scene = scene_of(roots, form)
    for person, mask in ((0, people[0]), ("all", people.any(axis=0))):
        path = scene.mask_path(4, FIRST, person)  # type: ignore[arg-type]
        assert path is not None
        np.testing.assert_array_equal(read_mask(path), mask)


# --- again, and side by side -----------------------------------------------------------------------------------------


def test_a_scene_that_is_whole_is_left_alone(roots: SceneRoots, form: Hi4DForm, tmp_path: Path) -> None:
    scene = scene_of(roots, form)
    stamp = storage.file_stamp(scene.tree.ground_truth.import_record)
    form.folder.parent.rename(tmp_path / "raw" / "moved")
    (tmp_path / "raw" / "moved").rename(tmp_path / "pair15")
    moved = Hi4DForm(tmp_path / "pair15" / "fight15", form.cameras, form.frames)
    again = imported(roots, moved)
    assert (again.state, again.n_images, again.imported) == ("there already", 4, None)
    assert storage.file_stamp(scene.tree.ground_truth.import_record) == stamp
    with pytest.raises(InvalidScene, match="there already"):
        imported(roots, moved, without=("seg",))
    moved.change(META, contact_ids=np.array([START + 1]))
    with pytest.raises(InvalidScene, match="there already"):
        imported(roots, moved)


def test_what_an_interrupted_import_left_is_removed_and_the_scene_is_made(roots: SceneRoots, form: Hi4DForm) -> None:
    scene = scene_of(roots, form)
    base = scene.tree.ground_truth.base
    half = storage.temporary_sibling(base)
    base.rename(half)  # as a kill leaves it before the last rename, the registry entry written
    other = storage.temporary_sibling(base.with_name("hi4d_pair15_fight2"))
    other.mkdir()
    assert list_scenes(roots) == []
    assert imported(roots, form).state == "made"
    assert (half.exists(), other.exists()) == (False, True)


def test_two_imports_of_one_scene_do_not_meet(roots: SceneRoots, form: Hi4DForm) -> None:
    with storage.cell_lock(roots.tree(NAME).import_lock, NAME), pytest.raises(CellLocked):
        imported(roots, form)
    assert imported(roots, form).state == "made"


# --- which actions are meant -----------------------------------------------------------------------------------------


def action_at(root: Path, place: str) -> Path:
    for part in ("images", "cameras"):
        (root / place / part).mkdir(parents=True)
    return root / place


def found(root: Path) -> dict[str, str]:
    return {action.scene_name: str(action.folder.relative_to(root)) for action in find_actions(root)}


def test_actions_are_found_wherever_the_archives_put_them_and_named_by_pair_and_action(tmp_path: Path) -> None:
    places = {
        "pair15/fight15": "hi4d_pair15_fight",
        "pair16_1/pair16/jump16": "hi4d_pair16_jump",
        "some/pair17_2/dance17": "hi4d_pair17_dance",
        "piggyback19": "hi4d_pair19_piggyback",
        "pair00/dance00": "hi4d_pair00_dance",
        "pair00/hug2": "hi4d_pair00_hug2",
        "pair00/15": "hi4d_pair00_15",
    }
    for place in places:
        action_at(tmp_path, place)
    action_at(tmp_path, ".hidden/pair20/dance20")
    (tmp_path / "pair21" / "images").mkdir(parents=True)
    assert found(tmp_path) == {name: place for place, name in places.items()}
    assert all(action.problem is None for action in find_actions(tmp_path))
    assert [action.scene_name for action in find_actions(tmp_path / "pair15" / "fight15")] == ["hi4d_pair15_fight"]


def test_an_action_without_a_pair_is_refused_and_the_others_are_not(roots: SceneRoots, tmp_path: Path) -> None:
    action_at(tmp_path, "raw/fight")
    write_action(tmp_path / "raw" / "pair15" / "fight15")
    unknown, fight = find_actions(tmp_path / "raw")
    assert import_action(Hi4DImport(roots, fight)).state == "made"
    with pytest.raises(InvalidScene, match="pair of an action"):
        import_action(Hi4DImport(roots, unknown))
    with pytest.raises(InvalidScene, match="no such pair"):
        chosen(tmp_path / "raw", pairs=["0"])


def test_two_actions_of_one_name_are_refused_and_both_are_named(roots: SceneRoots, tmp_path: Path) -> None:
    first, second = (action_at(tmp_path, f"pair15_{number}/pair15/fight15") for number in (1, 2))
    for action in find_actions(tmp_path):
        with pytest.raises(InvalidScene) as caught:
            import_action(Hi4DImport(roots, action))
        assert str(first) in str(caught.value)
        assert str(second) in str(caught.value)


def test_links_to_an_action_are_that_action(tmp_path: Path) -> None:
    action_at(tmp_path, "pair15/fight15")
    (tmp_path / "pair15" / "again15").symlink_to(tmp_path / "pair15" / "fight15")
    (tmp_path / "pair15" / "loop").symlink_to(tmp_path)
    assert len(find_actions(tmp_path)) == 1


CHOICES: list[tuple[dict[str, Any], list[str]]] = [
    ({"everything": True}, ["hi4d_pair00_dance", "hi4d_pair15_dance", "hi4d_pair15_fight"]),
    ({"pairs": ["15"]}, ["hi4d_pair15_dance", "hi4d_pair15_fight"]),
    ({"pairs": ["0", "15"]}, ["hi4d_pair00_dance", "hi4d_pair15_dance", "hi4d_pair15_fight"]),
    ({"name": "hi4d_pair15_fight"}, ["hi4d_pair15_fight"]),
    ({"name": "fight15"}, ["hi4d_pair15_fight"]),
    ({"name": "pair00/dance00"}, ["hi4d_pair00_dance"]),
]


def chosen(root: Path, **asked: Any) -> list[Hi4DAction]:
    defaults: dict[str, Any] = {"name": None, "pairs": [], "everything": False}
    return choose_actions(find_actions(root), root, **{**defaults, **asked})


@pytest.mark.parametrize(("asked", "names"), CHOICES)
def test_a_name_pairs_or_all_say_which_actions_are_meant(
    tmp_path: Path, asked: dict[str, Any], names: list[str]
) -> None:
    for place in ("pair15/fight15", "pair15/dance15", "pair00/dance00"):
        action_at(tmp_path, place)
    assert [action.scene_name for action in chosen(tmp_path, **asked)] == names


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({}, "2: hi4d_pair00"),
        ({"name": "fight"}, "fight"),
        ({"pairs": ["7"]}, "pair07"),
        ({"name": "x", "pairs": ["15"]}, "x"),
    ],
)
def test_what_is_not_there_or_not_said_is_refused_with_what_is(
    tmp_path: Path, asked: dict[str, Any], word: str
) -> None:
    action_at(tmp_path, "pair15/fight15")
    action_at(tmp_path, "pair00/dance00")
    with pytest.raises(InvalidScene) as caught:
        chosen(tmp_path, **asked)
    assert word in str(caught.value.found)
    assert "pair15" in str(caught.value)


def test_a_folder_without_actions_is_refused_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidScene, match="no action") as caught:
        chosen(tmp_path, everything=True)
    assert "meta.npz" in str(caught.value.wanted)


def test_a_dry_run_writes_nothing(roots: SceneRoots, form: Hi4DForm) -> None:
    outcome = imported(roots, form, dry_run=True)
    assert (outcome.state, outcome.cameras, outcome.n_frames, outcome.source_camera) == (
        "would be made",
        (4, 16),
        2,
        16,
    )
    assert not roots.canonical_gt.parent.exists()


def test_an_action_that_is_no_folder_of_files_ends_in_an_error_of_ours(roots: SceneRoots, tmp_path: Path) -> None:
    action_at(tmp_path, "pair15/fight15")
    with pytest.raises(InvalidFile, match="part of the action is missing"):
        import_action(Hi4DImport(roots, chosen(tmp_path)[0]))
