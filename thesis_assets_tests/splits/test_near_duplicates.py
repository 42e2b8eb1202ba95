"""One capture under two groups is seen, changed as it may be; strangers in the same room are not taken for one."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from thesis_assets import storage
from thesis_assets.demo import studio_people
from thesis_assets.demo.studio import film, make_studio, write_scene
from thesis_assets.demo.studio_motion import CHOREOGRAPHIES
from thesis_assets.demo.studio_people import Individual, Outfit, Pattern, StudioScene
from thesis_assets.graph.check_history import PICTURE
from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb
from thesis_assets.layout import SampleId
from thesis_assets.operations.metadata import check_result
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.matching import group_id
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits import near_duplicates
from thesis_assets.splits.near_duplicates import LEAST_ALIKE, Photograph, check_near_duplicates, pictures_of
from thesis_assets_tests.worlds import SCENES

ORIGINAL, COPY = "studio_pair00_dance", "studio_pair09_again"
DANCE = next(scene for scene in studio_people.SCENES if scene.name == ORIGINAL)
Pixels = NDArray[np.uint8]


def home(base: Path) -> SceneRoots:
    return SceneRoots(base / "canonical_gt", base / "preprocessing", base / "scenes", base / "renders")


@pytest.fixture
def roots(tmp_path: Path, scene_home: Path) -> SceneRoots:
    """The small studio scenes, and a copy of one under another pair's name."""
    where = home(tmp_path)
    shutil.copytree(scene_home / "canonical_gt", where.canonical_gt)
    shutil.copytree(scene_home / "scenes", where.registry)
    shutil.copytree(where.canonical_gt / ORIGINAL, where.canonical_gt / COPY)
    return where


def change(folder: Path, pattern: str, to: Callable[[Pixels], Pixels], *, png: bool = False) -> None:
    """Every image below a folder, encoded anew."""
    for path in folder.rglob(pattern):
        pixels = np.ascontiguousarray(to(read_rgb(path)))
        storage.write_bytes(path, encode_png(pixels) if png else encode_jpeg(pixels, quality=85))


def rows_of(roots: SceneRoots, *names: str) -> list[SampleRow]:
    rows = []
    for name in names:
        scene = open_scene(roots, name)
        source, *targets = scene.camera_ids()
        rows += [
            row_of(SampleId(name, cam_id, source, fname, fname), group_id(name, {}))
            for cam_id in targets
            for fname in scene.frames()
        ]
    return rows


def brighter(image: Pixels) -> Pixels:
    return np.clip(image.astype(int) + 12, 0, 255).astype(np.uint8)


def smaller(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((image.shape[1] * 7 // 10, image.shape[0] * 7 // 10)))


def cropped(image: Pixels) -> Pixels:
    return image[2:-2, 2:-2]


def mirrored(image: Pixels) -> Pixels:
    return image[:, ::-1]


def grown(mask: Pixels) -> Pixels:
    return np.where(binary_dilation(mask[..., 0] > 127, iterations=4), 255, 0).astype(np.uint8)


WAYS: dict[str, tuple[Callable[[Pixels], Pixels], Callable[[Pixels], Pixels] | None]] = {
    "encoded anew": (lambda image: image, lambda mask: mask),
    "mirrored": (mirrored, mirrored),
    "brighter": (brighter, lambda mask: mask),
    "darker": (lambda image: image // 2, lambda mask: mask),
    "gamma": (lambda image: (255 * (image / 255) ** 1.5).astype(np.uint8), lambda mask: mask),
    "smaller": (smaller, smaller),
    "cropped": (cropped, cropped),
    "grown masks": (brighter, grown),
    "without masks": (brighter, None),
    "mirrored, brighter, without masks": (lambda image: mirrored(brighter(image)), None),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_copy_is_named_with_both_scenes(roots: SceneRoots, way: str) -> None:
    to, of_masks = WAYS[way]
    truth = roots.tree(COPY).ground_truth
    change(truth.images_dir, "*.jpg", to)
    if of_masks is None:
        shutil.rmtree(truth.seg_dir)
    else:
        change(truth.masks_dir, "*.png", of_masks, png=True)
    outcome = check_near_duplicates(rows_of(roots, *SCENES), rows_of(roots, COPY), roots)
    assert not outcome.passed
    assert len(outcome.offenders) == 1, outcome.offenders
    assert f"{ORIGINAL}/" in outcome.offenders[0]
    assert f"{COPY}/" in outcome.offenders[0]
    assert ("mirrored" in outcome.offenders[0]) == way.startswith("mirrored")


def test_half_of_the_picture_is_not_seen_as_the_docs_say(roots: SceneRoots) -> None:
    truth = roots.tree(COPY).ground_truth
    change(truth.images_dir, "*.jpg", lambda image: image[:, : image.shape[1] // 2])
    change(truth.masks_dir, "*.png", lambda mask: mask[:, : mask.shape[1] // 2], png=True)
    assert check_near_duplicates(rows_of(roots, *SCENES), rows_of(roots, COPY), roots).passed


def test_a_pair_of_offenders_stands_side_by_side(roots: SceneRoots) -> None:
    change(roots.tree(COPY).ground_truth.images_dir, "*.jpg", lambda image: image)
    outcome = check_near_duplicates(rows_of(roots, *SCENES), rows_of(roots, COPY), roots)
    assert outcome.counts["near duplicates"] >= 9  # of 12 photographs
    shown = check_result("split_manifests", "near_duplicates_across_splits", outcome).metadata[PICTURE]
    assert isinstance(shown, dg.MarkdownMetadataValue)
    assert len(shown.md_str or "") < 100_000
    sheet = np.asarray(Image.open(io.BytesIO(outcome.picture or b"")).convert("RGB"), np.int16)
    left, right = (sheet[-140:-12, right - 100 : right] for right in (sheet.shape[1] - 136, sheet.shape[1] - 4))
    assert left.std() > 10
    assert np.abs(left - right).mean() < 12


def test_strangers_in_the_same_room_are_no_near_duplicates(roots: SceneRoots) -> None:
    outcome = check_near_duplicates(rows_of(roots, *SCENES[:2]), rows_of(roots, *SCENES[2:]), roots)
    assert outcome.passed, outcome.offenders
    assert outcome.counts == {"photographs": 48, "unread": 0, "near duplicates": 0, "offenders": 0}
    assert outcome.picture is None


def someone(random: np.random.Generator) -> Individual:
    def pattern() -> Pattern:
        first, second = (tuple(map(float, random.uniform(0.05, 0.95, 3))) for _ in range(2))
        return Pattern(("plain", "stripes", "checks", "dots")[random.integers(4)], first, second)

    skin = ((0.9, 0.75, 0.65), (0.75, 0.55, 0.42), (0.45, 0.3, 0.22))[random.integers(3)]
    hair = tuple(map(float, random.uniform(0.05, 0.9, 3)))
    outfit = Outfit(skin, hair, pattern(), pattern(), (0.2, 0.2, 0.2), sleeves=float(random.uniform(0.2, 1)))
    return Individual("male", tuple(map(float, random.normal(0, 0.7, 10))), outfit)


@pytest.mark.soak
def test_twenty_pairs_in_one_room_four_of_each_in_the_same_movement_are_no_near_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(7)
    actions = list(CHOREOGRAPHIES)
    scenes = [StudioScene(f"pair{n}", actions[n % 5], actions[n % 5], 0.0, n) for n in range(20, 40)]
    for scene in scenes:
        monkeypatch.setitem(studio_people.PAIRS, scene.pair, (someone(random), someone(random)))
    names = make_studio(home(tmp_path), lambda _: None, scenes=scenes, size=48, n_frames=3)
    for n_apart in (1, 5):  # neighbours in the list, then those in the same movement
        train = [name for place, name in enumerate(names) if place // n_apart % 2]
        test = sorted(set(names) - set(train))
        outcome = check_near_duplicates(rows_of(home(tmp_path), *train), rows_of(home(tmp_path), *test), home(tmp_path))
        assert outcome.passed, outcome.offenders
        assert outcome.counts["photographs"] == 20 * 4 * 3


def test_different_photographs_of_a_library_are_no_near_duplicates() -> None:
    data = pytest.importorskip("skimage.data")
    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field", "motorcycle_left")
    folder = Path(data.__file__).parent
    paths = [path for name in names for path in folder.glob(f"{name}.*") if path.suffix in (".png", ".jpg")]
    assert len(paths) >= 4
    images = [np.asarray(Image.open(path).convert("RGB").resize((96, 64)), np.float32) for path in paths]
    mask = np.zeros((64, 96), np.float32)
    mask[6:60, 20:70] = 1
    for kind, pictures in pictures_of(images, [mask] * len(images)).items():
        flat = pictures.reshape(len(images), -1)
        both = np.maximum(flat @ flat.T, pictures[:, :, ::-1].reshape(len(images), -1) @ flat.T)
        assert np.max(both - 2 * np.eye(len(images))) < LEAST_ALIKE[kind]
        assert np.allclose(np.diag(flat @ flat.T), 1, atol=1e-4)


def test_a_video_that_is_cut_in_two_where_people_move_slowly_is_seen_by_its_neighbouring_frames(tmp_path: Path) -> None:
    roots = home(tmp_path)
    whole = film(DANCE, 48, 48)
    around_the_cut = slice(18, 30)
    estimate = replace(whole.estimate, motion=whole.estimate.motion[around_the_cut])
    write_scene(roots.tree(ORIGINAL), replace(whole, motion=whole.motion[around_the_cut], estimate=estimate), "cut")
    rows = rows_of(roots, ORIGINAL)
    halves = [[row for row in rows if (row.target_fname < "000006") is first] for first in (True, False)]
    outcome = check_near_duplicates(halves[0], halves[1], roots)
    assert [offender.count(ORIGINAL) for offender in outcome.offenders] == [2]
    assert outcome.counts["near duplicates"] >= 2


def test_the_next_frame_of_a_fast_movement_is_not_seen_as_the_docs_say(tmp_path: Path) -> None:
    roots = home(tmp_path)
    (name,) = make_studio(roots, lambda _: None, scenes=[DANCE], size=48, n_frames=6)
    rows = rows_of(roots, name)
    halves = [[row for row in rows if (row.target_fname < "000003") is first] for first in (True, False)]
    assert check_near_duplicates(halves[0], halves[1], roots).passed


def test_a_moving_camera_without_masks_encoded_anew_is_named(roots: SceneRoots) -> None:
    for name in (ORIGINAL, COPY):
        truth = roots.tree(name).ground_truth
        for path in sorted(truth.images_dir.rglob("*.jpg")):
            turned = np.roll(read_rgb(path), 5 * int(path.stem), axis=1)
            storage.write_bytes(path, encode_jpeg(np.ascontiguousarray(turned), quality=95 if name == ORIGINAL else 80))
        shutil.rmtree(truth.seg_dir)
    outcome = check_near_duplicates(rows_of(roots, *SCENES), rows_of(roots, COPY), roots)
    assert len(outcome.offenders) == 1, outcome.offenders
    assert f"{ORIGINAL}/" in outcome.offenders[0]


def test_the_same_people_in_another_movement_or_other_clothes_are_not_seen_as_the_docs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots, random = home(tmp_path), np.random.default_rng(3)
    people = studio_people.PAIRS["pair00"]
    clothed_anew = tuple(replace(each, outfit=someone(random).outfit) for each in people)
    monkeypatch.setitem(studio_people.PAIRS, "pair50", people)
    monkeypatch.setitem(studio_people.PAIRS, "pair51", clothed_anew)
    others = [
        replace(DANCE, pair="pair50", action="fight", choreography="boxing", seed=150),
        replace(DANCE, pair="pair51", seed=151),
    ]
    first, *names = make_studio(roots, lambda _: None, scenes=[DANCE, *others], size=48, n_frames=3)
    for name in names:
        outcome = check_near_duplicates(rows_of(roots, first), rows_of(roots, name), roots)
        assert outcome.passed, outcome.offenders


def test_what_is_no_longer_there_is_counted_and_costs_nothing_else(roots: SceneRoots) -> None:
    train, test = rows_of(roots, ORIGINAL), rows_of(roots, COPY, SCENES[1])
    shutil.rmtree(roots.canonical_gt / SCENES[1])
    next(roots.tree(COPY).ground_truth.images_dir.rglob("*.jpg")).write_bytes(b"no image")
    outcome = check_near_duplicates(train, test, roots)
    assert not outcome.passed
    assert outcome.counts["unread"] == 13
    assert check_near_duplicates(train, [], roots).passed


def test_copies_meet_though_only_some_frames_and_cameras_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(name: str, first: int) -> list[tuple[int, int]]:
        cameras = near_duplicates._chosen(
            {Photograph(name, cam_id, f"{first + n:06d}") for cam_id in (4, 16, 28) for n in range(900)}
        )
        return [(each.cam_id, int(each.fname) - first) for camera in cameras for each in camera]

    assert len(chosen(ORIGINAL, 0)) == 3 * near_duplicates.MAX_FRAMES_A_CAMERA
    monkeypatch.setattr(near_duplicates, "MAX_PHOTOGRAPHS", 24)
    original, copy, renumbered = chosen(ORIGINAL, 0), chosen(COPY, 0), chosen(COPY, 1)
    assert original == copy
    assert {cam_id for cam_id, _ in original} == {4, 28}
    assert len(original) == 2 * near_duplicates.MIN_FRAMES_A_CAMERA
    assert len(set(original) & set(renumbered)) >= len(original) // 2
    assert {(4, 0), (28, 899)} <= set(original)


def test_the_room_around_the_people_does_not_count() -> None:
    random = np.random.default_rng(0)
    room, person = (np.repeat(np.repeat(random.integers(0, 255, (8, 8, 3)), 8, 0), 8, 1) for _ in range(2))
    mask = np.zeros((64, 64), np.float32)
    mask[10:50, 20:40] = 1
    here, there = (np.where(mask[..., None] > 0, person, around).astype(np.float32) for around in (room, 255 - room))
    one, other = (pictures_of([image], [mask])["cut out"][0] for image in (here, there))
    assert float((one * other).sum()) > 0.99
    alone = pictures_of([here], [None])
    assert not alone["cut out"].any()
    assert not alone["moving"].any(), "of one frame nobody knows what moves"
