"""A pose task over a scene's files: identity mapping, alignment, meshes, frames that cannot be compared, absent tasks."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.manifest import write_manifest
from thesis_assets.evaluation.metric_tables import read_results, read_table
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.evaluation.pose_inputs import identity_pairs
from thesis_assets.evaluation.required_files import check_metrics_recompute, check_required_files
from thesis_assets.evaluation.units import absent_tasks
from thesis_assets.scenes.bodies import read_bodies, write_bodies
from thesis_assets.scenes.scene import write_registry
from thesis_assets.schemas.evaluation import POSE_FRAME_COLUMNS, POSE_METRICS
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, MOTION, SOURCE, bodies, open_cell, reopened, true_people


def write_estimates(cell: EvaluationCell, move: np.ndarray | None = None, people: slice = slice(None)) -> None:
    """Estimates that are exactly the moved ground truth, the two people swapped; `move` is applied to each point first."""
    for fname in FRAMES:
        joints, vertices = (
            MOTION.move(points @ (np.eye(3) if move is None else move))[::-1][people] for points in true_people(fname)
        )
        estimate = bodies("smplx", joints.astype(np.float32), vertices.astype(np.float32))
        write_bodies(cell.scene.tree.estimated.body("smplx", fname), estimate)


def results(cell: EvaluationCell) -> dict[str, float | None]:
    cell = reopened(cell)
    evaluate_pose(cell, 0, "pose_smplx")
    return read_results(cell.tree.task(0, "pose_smplx").pose_results, POSE_METRICS)


@pytest.mark.parametrize("alignment", ["pelvis_trajectory", "camera"])
def test_estimates_that_are_the_moved_truth_have_no_error(own: EvaluationCell, own_folder, alignment: str) -> None:  # type: ignore[no-untyped-def]
    write_estimates(own)
    found = results(open_cell(own_folder, pose={"world_alignment": alignment}))
    for metric in ("rr_mpjpe_mm", "rr_mve_mm", "mpjpe_mm", "mve_mm", "pa_mpjpe_mm"):
        assert found[metric] == pytest.approx(0, abs=1e-2)  # Files hold float32.
    assert found["pcdr"] == 1.0


def test_without_the_identity_mapping_swapped_people_are_taken_for_each_other(own: EvaluationCell) -> None:
    write_estimates(own)
    entry = own.scene.registry
    assert entry is not None
    write_registry(own.scene.tree.registry_entry, entry.model_copy(update={"identity_alignment": None}))
    found = results(own)
    assert found["rr_mpjpe_mm"] is not None
    assert found["rr_mpjpe_mm"] > 100


def test_mirrored_estimates_do_not_align(own: EvaluationCell) -> None:
    write_estimates(own, np.diag([-1.0, 1, 1]))
    found = results(own)
    for metric in ("mpjpe_mm", "pa_mpjpe_mm"):
        assert found[metric] is not None
        assert found[metric] > 30


def test_one_person_has_empty_contact_and_order_and_the_protocol_says_why(own: EvaluationCell) -> None:
    write_estimates(own, people=slice(0, 1))  # The first estimate is the second true person.
    found = results(own)
    assert (found["cd_mm"], found["pcdr"], found["pcdr_legacy"]) == (None, None, None)
    assert found["mpjpe_mm"] == pytest.approx(0, abs=1e-2)
    protocol = storage.read_json_value(own.tree.task(0, "pose_smplx").protocol)
    assert "two people" in protocol["empty_metrics"]["cd_mm"]
    assert "two people" in protocol["empty_metrics"]["pcdr"]
    only = replace(own, experiment=open_cell(own.difix.root.parent, epochs=[0], tasks=["pose_smplx"]).experiment)
    assert check_required_files(reopened(only), "pose_smplx").passed


def test_contact_is_read_from_the_ground_truth_and_measured_on_the_prediction(own: EvaluationCell) -> None:
    write_estimates(own)
    rows = [] if not results(own) else read_table(own.tree.task(0, "pose_smplx").pose_per_frame, POSE_FRAME_COLUMNS)
    assert [row["cd_mm"] is None for row in rows] == [True, True, False, True]  # Frame 2 alone has a touch.
    _, vertices = true_people(FRAMES[2])
    assert rows[2]["cd_mm"] == pytest.approx(1000 * np.linalg.norm(vertices[0, 3] - vertices[1, 7]), abs=0.01)


def test_a_frame_with_joints_that_are_not_finite_is_left_out_and_named(own: EvaluationCell) -> None:
    write_estimates(own)
    path = own.scene.tree.estimated.body("smplx", FRAMES[1])
    estimate = read_bodies(path, "smplx")
    assert estimate.joints is not None
    joints = estimate.joints.copy()
    joints[0, 2] = np.nan
    np.savez(path, **{**estimate.arrays, "joints": joints})  # type: ignore[arg-type]
    cell = reopened(own)
    protocol = evaluate_pose(cell, 0, "pose_smplx")
    assert protocol.details["frames"] == [FRAMES[0], FRAMES[2], FRAMES[3]]
    assert "not finite" in protocol.details["left_out"][FRAMES[1]]


def test_the_older_order_skips_the_move(own: EvaluationCell) -> None:
    """Seen by the predicted camera, unmoved ground truth has other depths than moved one."""
    rows = read_table(own.tree.task(0, "pose_smplx").pose_per_frame, POSE_FRAME_COLUMNS)
    assert [row["pcdr"] for row in rows] == [1.0] * 4
    assert [row["pcdr_legacy"] for row in rows] != [1.0] * 4


def test_without_an_estimated_camera_the_true_one_moves_with_the_ground_truth(own: EvaluationCell) -> None:
    write_estimates(own)
    shutil.rmtree(own.scene.tree.estimated.cameras_dir)
    assert results(own)["pcdr"] == 1.0
    protocol = storage.read_json_value(own.tree.task(0, "pose_smplx").protocol)
    assert protocol["comparable"]["depth_camera"].startswith("the true source camera")


def test_meshes_stand_in_the_common_world_and_at_the_root(evaluated: EvaluationCell) -> None:
    task = evaluated.tree.task(0, "pose_smplx")
    for side in ("pred", "gt_inputs"):
        for alignment in ("world_aligned", "root_aligned"):
            both = task.mesh(side, alignment, FRAMES[0]).read_text().splitlines()
            one = task.person_mesh(side, alignment, 1, FRAMES[0]).read_text().splitlines()
            assert [line[0] for line in both] == ["v"] * 24 + ["f"] * 4
            assert both[12:24] == one[:12]  # The ground truth's numbers: person 1 stands second.
            assert both[26:] == ["f 13 14 15", "f 16 17 18"]
    pred = np.array(
        [line.split()[1:] for line in task.mesh("pred", "world_aligned", FRAMES[0]).read_text().splitlines()[:24]]
    )
    true = np.array(
        [line.split()[1:] for line in task.mesh("gt_inputs", "world_aligned", FRAMES[0]).read_text().splitlines()[:24]]
    )
    assert np.abs(pred.astype(float) - true.astype(float)).max() < 0.15


def test_inputs_are_the_predicted_files_themselves(evaluated: EvaluationCell) -> None:
    for task in ("pose_smplx", "pose_smpl"):
        model = task.removeprefix("pose_")
        linked = evaluated.tree.task(30, task).input_body(FRAMES[0])
        assert linked.samefile(evaluated.scene.tree.estimated.body(model, FRAMES[0]))
        assert evaluated.tree.task(30, task).pose_overlay(FRAMES[0]).is_file()


def test_a_scene_without_bodies_lacks_the_task_with_a_reason_in_the_manifest(own: EvaluationCell) -> None:
    shutil.rmtree(own.scene.tree.estimated.bodies_dir("smpl"))
    for fname in FRAMES:
        write_bodies(
            own.scene.tree.ground_truth.body("smplx", fname),
            replace(read_bodies(own.scene.tree.ground_truth.body("smplx", fname), "smplx"), joints=None),
        )
    shutil.rmtree(own.tree.evaluation_dir)
    cell = reopened(own)
    absent = absent_tasks(cell)
    assert absent.keys() == {"pose_smplx", "pose_smpl"}
    assert "no joints" in absent["pose_smplx"]
    assert "no predicted smpl file" in absent["pose_smpl"]
    assert write_manifest(cell).notes["absent_tasks"] == absent
    assert write_manifest(cell).tasks == ["nvs"]
    assert check_required_files(cell, "pose_smpl").passed
    with pytest.raises(InvalidScene, match="no frame"):
        evaluate_pose(cell, 0, "pose_smplx")


def test_alignment_by_camera_needs_both_cameras(own: EvaluationCell, own_folder) -> None:  # type: ignore[no-untyped-def]
    shutil.rmtree(own.scene.tree.estimated.cameras_dir)
    shutil.rmtree(own.tree.evaluation_dir)
    absent = absent_tasks(open_cell(own_folder, pose={"world_alignment": "camera"}))
    assert f"all_cameras/{SOURCE}" in absent["pose_smplx"]


@pytest.mark.parametrize("mapping", [{0: 1, 1: 1}, {5: 0}, {}])
def test_a_mapping_that_gives_nobody_one_partner_is_refused(mapping: dict[int, int], tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidScene, match="identity mapping"):
        identity_pairs(2, 2, mapping, tmp_path / "000000.npz")


def test_every_number_is_recomputed_from_the_saved_arrays(evaluated: EvaluationCell) -> None:
    outcome = check_metrics_recompute(evaluated)
    assert outcome.passed
    assert outcome.counts["rows"] == 3 * (8 + 4 + 4)
