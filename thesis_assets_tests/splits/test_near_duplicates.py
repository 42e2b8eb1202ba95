"""One capture under two groups is seen; strangers in the same room are not taken for one."""

import io
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from thesis_assets.defs.metadata import PICTURE, check_result
from thesis_assets.layout import SampleId
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.matching import group_id
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.splits import leakage
from thesis_assets.splits.leakage import Photograph, check_near_duplicates, fingerprint
from thesis_assets_tests.worlds import SCENES

ORIGINAL, COPY = "studio_pair00_dance", "studio_pair09_again"


@pytest.fixture
def roots(tmp_path: Path, scene_home: Path) -> SceneRoots:
    """The small studio scenes, and a copy of one under another pair's name, its photographs encoded once more."""
    shutil.copytree(scene_home, tmp_path, dirs_exist_ok=True)
    where = SceneRoots(tmp_path / "canonical_gt", tmp_path / "preprocessing", tmp_path / "scenes", tmp_path / "renders")
    shutil.copytree(where.canonical_gt / ORIGINAL, where.canonical_gt / COPY)
    for path in where.tree(COPY).ground_truth.images_dir.rglob("*.jpg"):
        content = io.BytesIO()
        Image.open(path).save(content, "JPEG", quality=85)
        path.unlink()
        path.write_bytes(content.getvalue())
    return where


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


def test_strangers_in_the_same_room_are_no_near_duplicates(roots: SceneRoots) -> None:
    outcome = check_near_duplicates(rows_of(roots, *SCENES[:2]), rows_of(roots, *SCENES[2:]), roots)
    assert outcome.passed, outcome.offenders
    assert outcome.counts == {"photographs": 48, "unread": 0, "near duplicates": 0, "offenders": 0}
    assert outcome.picture is None


def test_a_capture_under_two_groups_is_named_with_both_scenes(roots: SceneRoots) -> None:
    outcome = check_near_duplicates(rows_of(roots, *SCENES), rows_of(roots, COPY), roots)
    assert not outcome.passed
    assert len(outcome.offenders) == 1
    assert f"{ORIGINAL}/" in outcome.offenders[0]
    assert f"{COPY}/" in outcome.offenders[0]
    assert "split.group_rules" in outcome.message
    assert outcome.counts["near duplicates"] >= 9  # of 12 photographs
    shown = check_result("split_manifests", "near_duplicates_across_splits", outcome).metadata[PICTURE]
    assert isinstance(shown, dg.MarkdownMetadataValue)
    assert len(shown.md_str or "") < 100_000
    sheet = np.asarray(Image.open(io.BytesIO(outcome.picture or b"")).convert("RGB"), np.int16)
    left, right = (sheet[-140:-12, right - 100 : right] for right in (sheet.shape[1] - 136, sheet.shape[1] - 4))
    assert left.std() > 10
    assert np.abs(left - right).mean() < 12  # the two photographs of a pair, side by side


def test_what_is_no_longer_there_is_counted_and_costs_nothing_else(roots: SceneRoots) -> None:
    train, test = rows_of(roots, ORIGINAL), rows_of(roots, COPY, SCENES[1])
    shutil.rmtree(roots.canonical_gt / SCENES[1])
    next(roots.tree(COPY).ground_truth.images_dir.rglob("*.jpg")).write_bytes(b"no image")
    outcome = check_near_duplicates(train, test, roots)
    assert not outcome.passed
    assert outcome.counts["unread"] == 13
    assert check_near_duplicates(train, [], roots).passed


def test_copies_meet_though_only_some_frames_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MAX_PHOTOGRAPHS", 80)
    sides = [
        leakage._chosen({Photograph(name, cam_id, f"{n:06d}") for cam_id in (4, 16) for n in range(900)})
        for name in (ORIGINAL, COPY)
    ]
    frames = [{(one.cam_id, one.fname) for one in side} for side in sides]
    assert frames[0] == frames[1]
    assert len(sides[0]) == 2 * leakage.MAX_FRAMES_A_CAMERA
    assert {(4, "000000"), (16, "000899")} <= frames[0]


def test_the_room_around_the_people_does_not_count() -> None:
    rng = np.random.default_rng(0)
    room, person = rng.integers(0, 255, (2, 64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[10:50, 20:40] = True
    here, there = (np.where(mask[..., None], person, around) for around in (room, 255 - room))
    assert np.array_equal(fingerprint(here, mask).bits, fingerprint(there, mask).bits)
    assert not np.array_equal(fingerprint(here, None).bits, fingerprint(there, None).bits)
