"""A pose task over a scene's files: identity mapping, alignment, meshes, frames that cannot be compared, absent tasks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import check_metrics_recompute, check_required_files
from thesis_assets.evaluation.manifest import write_manifest
from thesis_assets.evaluation.measured_tasks import measured_task
from thesis_assets.evaluation.metric_tables import (
    frame_columns,
    mean_of,
    read_results,
    read_table,
    table_text,
    task_faults,
)
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.evaluation.pose_inputs import identity_pairs
from thesis_assets.evaluation.pose_metrics import mean_distance_mm, read_compared
from thesis_assets.evaluation.units import absent_tasks, task_unit
from thesis_assets.reports.leaderboard import why_not_paired
from thesis_assets.scenes.bodies import read_bodies, write_bodies
from thesis_assets.scenes.scene import write_registry
from thesis_assets.schemas.evaluation import POSE_FRAME_COLUMNS, POSE_METRICS, format_results, parse_results
from thesis_assets.schemas.scenes import IdentityAlignment
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, MOTION, SOURCE, bodies, open_cell, reopened, true_people
from thesis_assets_tests.reports.compared_trees import record_again


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


@pytest.mark.parametrize("alignment", ["all_joints", "pelvis_trajectory", "camera"])
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


def test_a_person_who_is_not_finite_is_missing_and_counted(own: EvaluationCell) -> None:
    write_estimates(own)
    path = own.scene.tree.estimated.body("smplx", FRAMES[1])
    estimate = read_bodies(path, "smplx")
    assert estimate.joints is not None
    joints = estimate.joints.copy()
    joints[0, 2] = np.nan  # the second true person
    np.savez(path, **{**estimate.arrays, "joints": joints})  # type: ignore[arg-type]
    cell = reopened(own)
    protocol = evaluate_pose(cell, 0, "pose_smplx")
    assert protocol.comparable["missing_people"] == {"1": FRAMES[1]}
    task = cell.tree.task(0, "pose_smplx")
    rows = read_table(task.pose_per_frame, frame_columns(task))
    assert [(row["n_people"], row["n_true"]) for row in rows] == [(2, 2), (1, 2), (2, 2), (2, 2)]
    assert [row["cd_mm"] is None for row in rows] == [True, True, False, True]
    assert parse_results(task.pose_results.read_text())["recall"] == 7 / 8
    other = replace(cell, experiment=open_cell(own.difix.root.parent, epochs=[0], tasks=["pose_smplx"]).experiment)
    assert check_required_files(other, "pose_smplx").passed
    assert check_metrics_recompute(other).passed


def test_a_frame_without_a_prediction_has_no_row_and_lowers_the_recall(own: EvaluationCell) -> None:
    write_estimates(own)
    own.scene.tree.estimated.body("smplx", FRAMES[0]).unlink()
    path = own.scene.tree.estimated.body("smplx", FRAMES[3])
    nobody = {name: array[:0] for name, array in read_bodies(path, "smplx").arrays.items()}
    np.savez(path, **nobody)  # type: ignore[arg-type]
    cell = reopened(own)
    protocol = evaluate_pose(cell, 0, "pose_smplx")
    assert protocol.details["frames"] == [FRAMES[1], FRAMES[2]]
    assert "no predicted smplx file" in protocol.details["left_out"][FRAMES[0]]
    assert "nobody" in protocol.details["left_out"][FRAMES[3]]
    assert protocol.comparable["missing_people"] == {str(person): f"{FRAMES[0]}, {FRAMES[3]}" for person in (0, 1)}
    assert parse_results(cell.tree.task(0, "pose_smplx").pose_results.read_text())["recall"] == 0.5


def test_one_right_person_of_two_is_not_paired_with_both(own: EvaluationCell) -> None:
    """The mean over whoever is there would be an error of 0."""
    write_estimates(own)
    whole = reopened(own)
    evaluate_pose(whole, 0, "pose_smplx")
    write_estimates(own, people=slice(0, 1))
    evaluate_pose(reopened(own), 15, "pose_smplx")
    one, both = (measured_task(own.tree.task(epoch, "pose_smplx"), epoch) for epoch in (15, 0))
    assert one is not None
    assert both is not None
    assert mean_of(one.rows.values(), "mpjpe_mm") == pytest.approx(0, abs=1e-2)
    assert "missing_people" in str(why_not_paired(one, both))
    assert one.table_digest == both.table_digest


def walk(cell: EvaluationCell) -> None:
    """One person walks straight ahead, half a metre a frame; the estimate is that, moved, in the numbers of its file exactly."""
    for fname in FRAMES:
        joints, vertices = (points[:1] + np.float32([0, 0, 0.5 * int(fname)]) for points in true_people(FRAMES[0]))
        joints[:, 0] = [0, 1, 0.5 * int(fname)]
        write_bodies(cell.scene.tree.ground_truth.body("smplx", fname), bodies("smplx", joints, vertices))
        turned = [points @ np.float32([[0, 0, -1], [0, 1, 0], [1, 0, 0]]) for points in (joints, vertices)]
        write_bodies(cell.scene.tree.estimated.body("smplx", fname), bodies("smplx", *turned))
    entry = cell.scene.registry
    assert entry is not None
    write_registry(cell.scene.tree.registry_entry, entry.model_copy(update={"identity_alignment": None}))


def test_a_straight_walk_has_no_rotation_by_its_pelvises_and_is_recovered_by_all_joints(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    walk(cell)
    by_joints = reopened(open_cell(own_folder, pose={"world_alignment": "all_joints"}))
    evaluate_pose(by_joints, 0, "pose_smplx")
    task = by_joints.tree.task(0, "pose_smplx")
    for row in read_table(task.pose_per_frame, frame_columns(task)):
        assert row["mpjpe_mm"] is not None
    saved = read_compared(task.input_body(FRAMES[2]), task.true_body(FRAMES[2]), "smplx")
    assert mean_distance_mm(saved.predicted.joints, saved.true.joints) == pytest.approx(0, abs=1e-6)

    by_pelvis = reopened(open_cell(own_folder, pose={"world_alignment": "pelvis_trajectory"}))
    protocol = evaluate_pose(by_pelvis, 0, "pose_smplx")
    task = by_pelvis.tree.task(0, "pose_smplx")
    rows = read_table(task.pose_per_frame, frame_columns(task))
    for metric in ("rr_mpjpe_mm", "rr_mve_mm", "mpjpe_mm", "mve_mm", "accel_mm"):
        assert [row[metric] for row in rows] == [None] * 4
        assert "all_joints" in protocol.empty_metrics[metric]
    for metric in ("pa_mpjpe_mm", "w_mpjpe_mm", "wa_mpjpe_mm"):
        assert [row[metric] for row in rows] == pytest.approx([0] * 4, abs=1e-3)
    assert protocol.details["alignment"]["second_to_first"] < 0.05
    assert len(protocol.details["alignment"]["singular_values_m2"]) == 3
    assert check_metrics_recompute(by_pelvis).passed
    only = open_cell(own_folder, pose={"world_alignment": "pelvis_trajectory"}, epochs=[0], tasks=["pose_smplx"])
    assert check_required_files(reopened(only), "pose_smplx").passed


def test_an_experiment_that_says_nothing_is_aligned_by_all_joints_and_what_was_made_keeps_its_own(
    own_folder: Path,
) -> None:
    shutil.rmtree(open_cell(own_folder).tree.evaluation_dir)
    by_pelvis = reopened(open_cell(own_folder, pose={"world_alignment": "pelvis_trajectory"}))
    evaluate_pose(by_pelvis, 0, "pose_smplx")
    said_nothing = reopened(open_cell(own_folder))
    assert task_unit(said_nothing, 0, "pose_smplx").look().in_words == "made"
    said_nothing.tree.task(0, "pose_smplx").pose_results.unlink()
    assert evaluate_pose(said_nothing, 0, "pose_smplx").comparable["world_alignment"] == "pelvis_trajectory"
    assert evaluate_pose(said_nothing, 15, "pose_smplx").comparable["world_alignment"] == "all_joints"


def test_numbers_of_an_older_version_stay_and_are_marked(own: EvaluationCell) -> None:
    task = own.tree.task(0, "pose_smplx")
    older = [
        {key: row[key] for key in POSE_FRAME_COLUMNS} for row in read_table(task.pose_per_frame, POSE_FRAME_COLUMNS)
    ]
    task.pose_per_frame.write_text(table_text(POSE_FRAME_COLUMNS, older))
    results = read_results(task.pose_results, POSE_METRICS)
    task.pose_results.write_text(format_results(results))
    protocol = storage.read_json_value(task.protocol)
    del protocol["comparable"]["conditioning"], protocol["details"]["missing_people"], protocol["details"]["alignment"]
    storage.write_json(task.protocol, protocol)
    record_again(task)
    assert list(task_faults(task)) == []
    assert check_metrics_recompute(own).passed
    found = measured_task(task, 0)
    assert found is not None
    assert found.metrics == POSE_METRICS
    assert mean_of(found.rows.values(), "mpjpe_mm") == pytest.approx(results["mpjpe_mm"], abs=1e-4)
    assert "not checked" in found.comparable["conditioning"]


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


def test_a_mapping_that_gives_two_people_one_partner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidScene, match="identity mapping"):
        identity_pairs(2, 2, {0: 1, 1: 1}, tmp_path / "000000.npz")


@pytest.mark.parametrize("mapping", [{5: 0}, {}])
def test_a_mapping_by_which_nobody_is_predicted_is_refused(own: EvaluationCell, mapping: dict[int, int]) -> None:
    entry = own.scene.registry
    assert entry is not None
    mapped = entry.model_copy(update={"identity_alignment": IdentityAlignment(manual_preproc_to_gt=mapping)})
    write_registry(own.scene.tree.registry_entry, mapped)
    with pytest.raises(InvalidScene, match="nobody of the ground truth at any frame") as caught:
        evaluate_pose(reopened(own), 0, "pose_smplx")
    assert "manual_preproc_to_gt" in str(caught.value)


def test_every_number_is_recomputed_from_the_saved_arrays(evaluated: EvaluationCell) -> None:
    outcome = check_metrics_recompute(evaluated)
    assert outcome.passed
    assert outcome.counts["rows"] == 3 * (8 + 4 + 4)


# --- numbers of joints: SMPL's 24, and the 45 that its library gives -------------------------------------------------


def write_joints(
    cell: EvaluationCell, predicted: int, true: int, model: str = "smpl", frames: tuple[str, ...] = FRAMES
) -> None:
    """Both sides of some frames, with so many joints each; the same joints come first whatever the number."""
    for fname in frames:
        rng = np.random.default_rng(int(fname))
        joints, (_, vertices) = rng.normal(size=(2, 45, 3)), true_people(fname)
        moved = MOTION.move(joints) + rng.normal(scale=0.02, size=joints.shape)
        truth = bodies(model, joints[:, :true].astype(np.float32), vertices)
        estimate = bodies(
            model, moved[::-1, :predicted].astype(np.float32), MOTION.move(vertices)[::-1].astype(np.float32)
        )
        write_bodies(cell.scene.tree.ground_truth.body(model, fname), truth)
        write_bodies(cell.scene.tree.estimated.body(model, fname), estimate)


@pytest.mark.parametrize(("predicted", "true"), [(24, 45), (45, 24)])
def test_smpl_with_24_joints_on_one_side_and_45_on_the_other_is_compared_by_the_first_24(
    own: EvaluationCell, own_folder: Path, predicted: int, true: int
) -> None:
    cell = open_cell(own_folder, epochs=[0], tasks=["pose_smpl"])
    task = cell.tree.task(0, "pose_smpl")
    write_joints(cell, 24, 24)
    plain = evaluate_pose(reopened(cell), 0, "pose_smpl")
    by_24 = read_results(task.pose_results, POSE_METRICS)
    write_joints(cell, predicted, true)

    protocol = evaluate_pose(reopened(cell), 0, "pose_smpl")

    assert read_results(task.pose_results, POSE_METRICS) == by_24
    assert protocol.comparable == plain.comparable
    assert protocol.comparable["joints"] == 24
    assert protocol.details["joints"].endswith(f"the files have {predicted} predicted and {true} true")
    assert "joints" not in plain.details
    write_manifest(reopened(cell))
    assert check_metrics_recompute(reopened(cell)).passed


def test_45_joints_on_both_sides_are_all_compared(own_folder: Path, own: EvaluationCell) -> None:
    cell = open_cell(own_folder, epochs=[0], tasks=["pose_smpl"])
    write_joints(cell, 45, 45)
    protocol = evaluate_pose(reopened(cell), 0, "pose_smpl")
    assert protocol.comparable["joints"] == 45
    assert "joints" not in protocol.details


@pytest.mark.parametrize(("model", "predicted", "true"), [("smpl", 24, 25), ("smpl", 5, 45), ("smplx", 24, 45)])
def test_any_other_difference_in_the_number_of_joints_is_refused(
    own: EvaluationCell, model: str, predicted: int, true: int
) -> None:
    write_joints(own, predicted, true, model)
    with pytest.raises(InvalidFile, match="differ in their number of points") as caught:
        evaluate_pose(reopened(own), 0, f"pose_{model}")
    assert (caught.value.key, caught.value.found) == ("joints", predicted)


def test_frames_that_differ_in_their_joints_in_common_are_refused(own: EvaluationCell) -> None:
    write_joints(own, 45, 45)
    write_joints(own, 24, 45, frames=FRAMES[2:3])
    with pytest.raises(InvalidFile, match="frames differ in the number of joints") as caught:
        evaluate_pose(reopened(own), 0, "pose_smpl")
    assert caught.value.found == f"45 at frame {FRAMES[0]}, 24 at frame {FRAMES[2]}"
    assert FRAMES[2] in str(caught.value.file)
