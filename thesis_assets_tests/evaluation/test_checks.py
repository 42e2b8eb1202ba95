"""Spoiling an evaluated tree: the right check fails, names the file, and the others stay silent."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import (
    check_input_data_clean,
    check_layout_version,
    check_lpips,
    check_manifest,
    check_metrics_recompute,
    check_required_files,
)
from thesis_assets.evaluation.manifest import write_manifest
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.images.codecs import encode_png
from thesis_assets.layout import TASKS
from thesis_assets.scenes.bodies import read_bodies, write_bodies
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, compared_epoch, evaluate, open_cell, predicted_epoch

CHECKS: dict[str, Callable[[EvaluationCell], CheckOutcome]] = {
    **{f"{task}_required_files": lambda cell, task=task: check_required_files(cell, task) for task in TASKS},
    "manifest_matches_disk": check_manifest,
    "layout_version_is_v1": check_layout_version,
    "input_data_clean": check_input_data_clean,
    "metrics_recompute": check_metrics_recompute,
}
REQUIRED = (
    ("nvs", "novel_view_results.txt"),
    ("nvs", "metrics_avg_per_camera.csv"),
    ("nvs", "metrics_all_cams_per_frame.csv"),
    ("pose_smplx", "smplx_pose_estimation_overall_results.txt"),
    ("pose_smplx", "smplx_pose_estimation_metrics_per_frame.csv"),
    ("pose_smpl", "smpl_pose_estimation_overall_results.txt"),
    ("pose_smpl", "smpl_pose_estimation_metrics_per_frame.csv"),
)


def failing(cell: EvaluationCell) -> dict[str, CheckOutcome]:
    return {name: outcome for name, check in CHECKS.items() if not (outcome := check(cell)).passed}


def manifest_of(cell: EvaluationCell) -> EvaluationManifest:
    return storage.read_json(cell.tree.manifest, EvaluationManifest)


def test_a_whole_tree_passes_every_check_with_counts(evaluated: EvaluationCell) -> None:
    assert failing(evaluated) == {}
    assert check_required_files(evaluated, "nvs").counts == {"epochs": 3, "files": 9, "offenders": 0}


@pytest.fixture(scope="module")
def mended(evaluated_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationCell:
    """One copy for the tests that put back what they spoil."""
    return open_cell(Path(shutil.copytree(evaluated_folder, tmp_path_factory.mktemp("mended") / "own")))


@contextlib.contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """The file with other content, or without any (None), for a while. A linked file's other names keep theirs."""
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(before)


def damages(content: bytes) -> dict[str, bytes | None]:
    return {
        "removed": None,
        "emptied": b"",
        "halved": content[: len(content) // 2],
        "last row gone": b"".join(content.splitlines(keepends=True)[:-1]),
        "not text": b"\x00\xff" * 40,
    }


@pytest.mark.parametrize(("task", "name"), REQUIRED)
def test_a_damaged_required_file_fails_exactly_its_tasks_check(
    mended: EvaluationCell, evaluated: EvaluationCell, task: str, name: str
) -> None:
    path = mended.tree.task(15, task).metrics_dir / name
    for damage, content in damages(path.read_bytes()).items():
        with replaced(path, content):
            found = failing(mended)
        assert set(found) == {f"{task}_required_files"}, damage
        offenders = found[f"{task}_required_files"].offenders
        assert all(f"evaluation/epoch_0015/{task}/metrics/{name}" in line for line in offenders), damage
    with replaced(path, None):
        assert check_required_files(evaluated, task).passed  # Of another partition, with the same content.
    assert failing(mended) == {}


@pytest.mark.parametrize(
    ("task", "name", "old", "new"),
    [
        ("nvs", "metrics_all_cams_per_frame.csv", "camera_id,frame_id", "frame_id,camera_id"),
        ("nvs", "metrics_avg_per_camera.csv", "psnr", "PSNR"),
        ("nvs", "novel_view_results.txt", "psnr: ", "psnr: 1"),
        ("pose_smplx", "smplx_pose_estimation_metrics_per_frame.csv", "1.000000", "nan"),
        ("pose_smplx", "smplx_pose_estimation_metrics_per_frame.csv", "1.000000", ""),
        ("pose_smpl", "smpl_pose_estimation_overall_results.txt", "pcdr: 1", "pcdr: 2"),
        ("pose_smpl", "smpl_pose_estimation_overall_results.txt", "mve_mm", "mve_cm"),
    ],
)
def test_other_columns_or_numbers_fail_the_tasks_check(
    mended: EvaluationCell, task: str, name: str, old: str, new: str
) -> None:
    path = mended.tree.task(0, task).metrics_dir / name
    with replaced(path, path.read_text().replace(old, new, 1).encode()):
        outcome = check_required_files(mended, task)
    assert not outcome.passed
    assert outcome.offenders[0].startswith(f"evaluation/epoch_0000/{task}/metrics/{name}: ")


def test_another_image_fails_the_recomputation_and_its_tasks_check_and_nothing_else(mended: EvaluationCell) -> None:
    path = mended.tree.task(30, "nvs").pred_image(4, FRAMES[1])
    with replaced(path, encode_png(np.zeros((24, 20, 3), np.uint8))):
        found = failing(mended)
    assert set(found) == {"metrics_recompute", "nvs_required_files"}
    assert found["nvs_required_files"].offenders == [
        f"evaluation/epoch_0030/nvs/pred/cam_4/{FRAMES[1]}.png: other bytes than were recorded"
    ]
    assert "evaluation/epoch_0030/nvs/cam_4/000001: psnr is written as" in found["metrics_recompute"].offenders[0]


@pytest.mark.parametrize("region", ["mask", "bbox"])
def test_numbers_of_a_region_come_out_again_at_every_scale(own_folder: Path, region: str) -> None:
    cell = open_cell(own_folder, nvs={"region": region, "downscale_factor": 3})
    compared_epoch(cell, 0)
    assert check_metrics_recompute(cell).passed


def test_a_lost_body_fails_the_recomputation_and_is_named(mended: EvaluationCell) -> None:
    with replaced(mended.tree.task(30, "pose_smpl").true_body(FRAMES[2]), None):
        found = failing(mended)
    assert set(found) == {"metrics_recompute", "pose_smpl_required_files"}
    assert "000002.npz" in found["metrics_recompute"].offenders[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eval_epochs", ["epoch_0000", "epoch_0015", "epoch_0030", "epoch_0099"]),
        ("eval_epochs", ["epoch_0000", "epoch_0015"]),
        ("tasks", ["nvs"]),
        ("nvs_cameras", [4]),
        ("source_camera_id", 4),
        ("exp_name", "other"),
        ("pose_eval_world_alignment_method", "camera"),
        ("notes", {}),
    ],
)
def test_a_manifest_that_says_something_else_than_the_disk_fails_its_check(
    mended: EvaluationCell, key: str, value: object
) -> None:
    content = storage.read_json_value(mended.tree.manifest)
    with replaced(mended.tree.manifest, storage.to_json_bytes({**content, key: value})):
        found = failing(mended)
    assert set(found) == {"manifest_matches_disk"}
    wanted = "epoch_steps" if key == "notes" else key
    assert any(wanted in line for line in found["manifest_matches_disk"].offenders)


def test_an_epoch_that_is_gone_from_the_disk_fails_the_manifest(own: EvaluationCell) -> None:
    shutil.rmtree(own.tree.epoch_dir(15))
    assert any("epoch_0015 is listed" in line for line in check_manifest(own).offenders)


def test_another_layout_version_or_folder_fails_its_check(own: EvaluationCell) -> None:
    content = storage.read_json_value(own.tree.manifest)
    storage.write_json(own.tree.manifest, {**content, "output_layout_version": "v2"})
    (own.tree.base / "debug").mkdir()
    (own.tree.evaluation_dir / "epoch_30").mkdir()
    offenders = check_layout_version(own).offenders
    assert [line.split(":")[0] for line in offenders] == [
        "manifest.json, output_layout_version",
        "debug",
        "evaluation/epoch_30",
    ]


@pytest.mark.parametrize("place", ["est_images_debug", "images/est_0", "misc/other", "seg/4"])
def test_anything_else_among_the_input_data_fails_its_check(mended: EvaluationCell, place: str) -> None:
    folder = mended.tree.input_data("train").base / place
    folder.mkdir(parents=True)
    found = failing(mended)
    folder.rmdir()
    assert set(found) == {"input_data_clean"}
    assert f"input_data/train/{place}" in found["input_data_clean"].offenders[0]


def test_a_missing_documented_folder_fails_the_input_data_check(own: EvaluationCell) -> None:
    shutil.rmtree(own.tree.input_data("test").base / "smplx")
    folder, *files = check_input_data_clean(own).offenders
    assert folder == "input_data/test/smplx: the folder is missing"
    assert files == [f"input_data/test/smplx/{fname}.npz: the file is missing" for fname in FRAMES]


def test_absent_weights_of_lpips_are_a_warning_of_their_own(evaluated: EvaluationCell) -> None:
    outcome = check_lpips(evaluated)
    n = len(evaluated.epoch_steps())
    assert n > 1
    assert not outcome.passed
    assert outcome.message == f"the column lpips is empty in {n} of {n} epochs"
    (reason,) = outcome.offenders
    assert reason.startswith(f"{evaluated.scene.name}, every epoch: LPIPS is not measured")


def test_an_epoch_that_alone_has_no_lpips_is_named(own: EvaluationCell) -> None:
    path = own.tree.task(0, "nvs").protocol
    protocol = json.loads(path.read_text())
    protocol["empty_metrics"]["lpips"] = "another reason"
    path.write_text(json.dumps(protocol))
    assert check_lpips(own).offenders[0] == f"{own.scene.name}, epoch_0000: another reason"


def test_the_manifest_names_only_what_is_whole(own: EvaluationCell) -> None:
    own.tree.task(15, "nvs").nvs_per_camera.unlink()
    manifest = write_manifest(own)
    assert manifest.eval_epochs == ["epoch_0000", "epoch_0030"]
    assert "metrics_avg_per_camera.csv" in manifest.notes["incomplete_epochs"]["epoch_0015"]


@pytest.mark.parametrize("lost", ["pred_image", "gt_image", "input_render"])
def test_an_epoch_without_the_images_of_its_numbers_is_not_whole(own: EvaluationCell, lost: str) -> None:
    path: Path = getattr(own.tree.task(15, "nvs"), lost)(28, FRAMES[1])
    path.unlink()
    assert "epoch_0015" not in write_manifest(own).eval_epochs


def test_an_epoch_is_taken_back_before_its_files_change(own: EvaluationCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moment the work is cut off at, no manifest names an epoch whose files are on their way."""
    from thesis_assets.evaluation.outputs import Staging

    class CutError(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise CutError

    epochs = {0: "unrefined", 15: {"step": 10}, 30: {"step": 10}}
    for epoch, work in ((30, predicted_epoch), (15, compared_epoch), (0, compared_epoch)):
        cell = open_cell(own.difix.root.parent, nvs={"region": "mask"}, epochs={epoch: epochs[epoch]})
        with monkeypatch.context() as patch:
            patch.setattr(Staging, "publish", cut)
            with pytest.raises(CutError):
                work(cell, epoch)
    assert manifest_of(own).eval_epochs == []
    evaluate(open_cell(own.difix.root.parent))
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", cut)
        for fname in FRAMES:
            body = own.scene.tree.estimated.body("smplx", fname)
            edited = read_bodies(body, "smplx")
            body.unlink()  # its other names, in the tree, keep what they have
            write_bodies(body, replace(edited, joints=None if edited.joints is None else edited.joints + 0.1))
        with pytest.raises(CutError):
            evaluate_pose(open_cell(own.difix.root.parent), 15, "pose_smplx")
    assert manifest_of(own).eval_epochs == ["epoch_0000", "epoch_0030"]
    assert not list(own.tree.base.rglob(".tmp-*"))
