"""What is broken in a scene is found file by file, and told apart from what is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thesis_assets.errors import InvalidScene
from thesis_assets.scenes.bodies import BodyModel, write_bodies
from thesis_assets.scenes.camera import Camera, share_in_view, write_camera
from thesis_assets.scenes.catalog import Finding, check_scene
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets_tests.scenes.tiny_scene import (
    HEIGHT,
    WIDTH,
    put,
    roots_in,
    tiny_bodies,
    tiny_camera,
    write_body,
    write_image,
    write_scene,
)

NAME = "hi4d_pair01_hug"


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    roots = roots_in(tmp_path)
    write_scene(roots, NAME)
    return roots


def findings(roots: SceneRoots, severity: str) -> list[Finding]:
    return [finding for finding in check_scene(roots, NAME).findings if finding.severity == severity]


def test_a_whole_scene_has_no_findings(roots: SceneRoots) -> None:
    report = check_scene(roots, NAME)
    assert report.findings == ()
    assert not report.broken
    assert not report.summary.missing["export"]
    assert not report.summary.missing["nvs"]
    assert report.summary.missing["pose_smplx"]


def test_a_truncated_image_and_one_of_another_size_are_named(roots: SceneRoots) -> None:
    truth = roots.tree(NAME).ground_truth
    whole = truth.image(4, "000001").read_bytes()
    truth.image(4, "000001").write_bytes(whole[:-10])
    write_image(truth.image(16, "000002"), (HEIGHT + 1, WIDTH))
    found = findings(roots, "error")
    assert [(each.place, each.count) for each in found] == [("images/4", 1), ("images/16", 1)]
    assert "000001.jpg" in found[0].message
    assert check_scene(roots, NAME).broken


def test_a_broken_calibration_is_an_error_and_a_far_principal_point_a_warning(roots: SceneRoots) -> None:
    truth = roots.tree(NAME).ground_truth
    truth.camera(4, "000000").write_bytes(b"no archive")
    shifted = np.array([[10.0, 0, 50], [0, 10, 4], [0, 0, 1]])
    moved = Camera(16, shifted, tiny_camera(16).extrinsics, HEIGHT, WIDTH)
    for fname in ("000000", "000001"):
        write_camera(truth.camera(16, fname), moved)
    assert [(each.place, each.count) for each in findings(roots, "error")] == [("all_cameras/4", 1)]
    (warning,) = findings(roots, "warning")
    assert (warning.place, warning.count) == ("all_cameras/16", 2)


def test_a_mask_of_another_size_is_an_error_and_a_missing_one_a_warning(roots: SceneRoots) -> None:
    truth = roots.tree(NAME).ground_truth
    for fname, size in (("000000", (WIDTH, HEIGHT)), ("000001", (WIDTH, HEIGHT + 1))):
        path = truth.mask(4, fname)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
    assert [(each.place, each.count) for each in findings(roots, "error")] == [("seg/img_seg_mask/4/all", 1)]
    assert [(each.place, each.count) for each in findings(roots, "warning")] == [("seg/img_seg_mask/4/all", 1)]


def test_broken_bodies_and_numbers_of_people_that_differ_are_found(roots: SceneRoots) -> None:
    tree = roots.tree(NAME)
    write_body(tree.ground_truth.body("smplx", "000000"), "smplx", 2)
    write_body(tree.estimated.body("smplx", "000000"), "smplx", 1)
    put(tree.estimated.body("smplx", "000001"), b"no archive")
    put(tree.estimated.body("smplx", "000002"))
    assert [(each.place, each.count) for each in findings(roots, "error")] == [("smplx (estimates)", 1)]
    warnings = findings(roots, "warning")
    assert [each.place for each in warnings] == ["smplx (estimates)", "smplx"]
    assert "empty" in warnings[0].message
    assert "[1]" in warnings[1].message


def test_renders_of_another_size_are_found(roots: SceneRoots) -> None:
    path = roots.tree(NAME).render(16, "000000")
    path.parent.mkdir(parents=True)
    Image.new("RGB", (WIDTH + 2, HEIGHT)).save(path)
    assert [each.place for each in findings(roots, "error")] == ["renders/16"]


def test_two_cameras_of_one_pose_and_cameras_of_two_sizes_are_worth_a_look(roots: SceneRoots) -> None:
    truth = roots.tree(NAME).ground_truth
    for fname in ("000000", "000001", "000002"):
        write_camera(truth.camera(16, fname), tiny_camera(4))
        write_image(truth.image(16, fname), (2 * HEIGHT, 2 * WIDTH))
    assert [each.place for each in findings(roots, "warning")] == ["all_cameras", "images"]


def test_a_scene_that_is_not_there_is_an_error_and_an_unreadable_one_a_report(roots: SceneRoots) -> None:
    with pytest.raises(InvalidScene):
        check_scene(roots, "hi4d_pair01_hugs")
    roots.tree(NAME).ground_truth.skip_frames.write_text("five")
    report = check_scene(roots, NAME)
    assert report.broken
    assert "skip_frames" in str(report.summary.problem)


def test_progress_is_said_while_a_large_scene_is_read(roots: SceneRoots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thesis_assets.scenes.catalog._PROGRESS_EVERY_S", -1.0)
    lines: list[str] = []
    check_scene(roots, NAME, on_progress=lines.append)
    assert NAME in lines[0]


def test_the_share_in_view_counts_points_before_a_camera_and_inside_its_image() -> None:
    camera = tiny_camera(0)  # at (0, 0, -2), looking along z
    points = np.array([[0, 0, 0], [0, 0, -5], [100, 0, 0], [0.1, 0.1, 8]], np.float32)
    assert share_in_view(points, [camera]) == 0.5
    assert share_in_view(points, []) == 0.0
    assert share_in_view(points[:0], [camera]) == 0.0


@pytest.mark.parametrize(
    ("depth", "remedy"),
    [
        (np.full((HEIGHT, WIDTH), 2000, np.uint16), "/ 1000"),
        (np.ones((1, HEIGHT, WIDTH), np.float32), "squeeze"),
        (np.ones((HEIGHT // 2, WIDTH // 2), np.float32), "photograph's size"),
    ],
)
def test_depths_of_other_units_shapes_and_sizes_are_found(roots: SceneRoots, depth: np.ndarray, remedy: str) -> None:
    path = roots.tree(NAME).ground_truth.depth(4, "000001")
    path.parent.mkdir(parents=True)
    np.save(path, depth)
    (finding,) = findings(roots, "error")
    assert finding.place == "depths/4 (ground truth)"
    assert remedy in finding.message


def test_a_mask_of_numbers_of_people_is_found(roots: SceneRoots) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:, :2], values[:, 3:] = 80, 160
    path = roots.tree(NAME).ground_truth.mask(4, "000000")
    path.parent.mkdir(parents=True)
    Image.fromarray(values).save(path)
    (finding,) = findings(roots, "error")
    assert "0, 80, 160" in finding.message


def test_a_grey_photograph_is_said_to_be_converted(roots: SceneRoots) -> None:
    Image.new("L", (WIDTH, HEIGHT), 90).save(roots.tree(NAME).ground_truth.image(4, "000002"))
    (finding,) = findings(roots, "warning")
    assert (finding.place, finding.count) == ("images/4", 1)
    assert "grey" in finding.message


@pytest.mark.parametrize("model", ["smpl", "smplx"])
@pytest.mark.parametrize("absent", [("joints",), ("vertices",), ("joints", "vertices")])
def test_body_files_without_points_are_told_with_what_they_lack(
    roots: SceneRoots, model: BodyModel, absent: tuple[str, ...]
) -> None:
    tree = roots.tree(NAME)
    bodies = tiny_bodies(model)
    write_bodies(tree.ground_truth.body(model, "000000"), bodies)
    write_bodies(tree.estimated.body(model, "000000"), bodies)
    write_bodies(tree.estimated.body(model, "000001"), replace(bodies, contact=None, **dict.fromkeys(absent)))
    (finding,) = findings(roots, "warning")
    assert (finding.place, finding.count) == (f"{model} (estimates)", 1)
    assert f"000001.npz has no {' and no '.join(absent)}; pose_{model} computes them" in finding.message
