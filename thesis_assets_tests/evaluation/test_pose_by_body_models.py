"""Pose tasks of scenes whose files hold parameters alone: points by the body models, genders, and absent models."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import check_metrics_recompute, check_required_files
from thesis_assets.evaluation.metric_tables import read_results
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.evaluation.pose_inputs import read_points
from thesis_assets.evaluation.units import absent_tasks, task_unit
from thesis_assets.scenes.bodies import Bodies, BodyModel, read_bodies, write_bodies
from thesis_assets.scenes.scene import write_genders
from thesis_assets.schemas.evaluation import POSE_METRICS
from thesis_assets.schemas.scenes import BODY_ARRAYS
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, open_cell, reopened
from thesis_assets_tests.scenes.generated_models import model_arrays, write_model

pytest.importorskip("smplx", reason="needs the extra `body`")

SHIFT = 0.02


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The female model is the neutral one; the male one is that, `SHIFT` metres aside."""
    folder = tmp_path_factory.mktemp("models")
    template = model_arrays("smpl")["v_template"]
    write_model(folder, "smpl", "neutral")
    write_model(folder, "smpl", "female")
    write_model(folder, "smpl", "male", v_template=template + np.array([SHIFT, 0, 0]))
    write_model(folder, "smplx", "neutral")
    return folder


def with_parameters(cell: EvaluationCell, models: Path | None, model: BodyModel = "smpl") -> EvaluationCell:
    """The cell with bodies that hold parameters alone: both roots the same, but the two people swapped in the estimates."""
    for fname in FRAMES[:2]:
        rng = np.random.default_rng(int(fname))
        shapes = BODY_ARRAYS[model].items()
        parameters = {name: rng.normal(scale=0.1, size=(2, *shape)).astype(np.float32) for name, shape in shapes}
        parameters["transl" if model == "smpl" else "trans"] += np.float32([[0, 0, 2], [1, 0, 3]])
        contact = np.zeros((2, 6890 if model == "smpl" else 10475), np.int32)
        contact[0, 5] = 7
        write_bodies(cell.scene.tree.ground_truth.body(model, fname), Bodies(model, parameters, contact=contact))
        swapped = Bodies(model, {name: array[::-1].copy() for name, array in parameters.items()})
        write_bodies(cell.scene.tree.estimated.body(model, fname), swapped)
    for fname in FRAMES[2:]:
        cell.scene.tree.ground_truth.body(model, fname).unlink()
    if model == "smpl":
        write_genders(cell.scene.tree.ground_truth.meta, ["female", "male"])
    folder = cell.difix.root.parent
    return replace(reopened(open_cell(folder, epochs=[0], tasks=[f"pose_{model}"])), body_models=models)


def test_ground_truth_is_posed_by_gender_and_predictions_are_neutral(own: EvaluationCell, models: Path) -> None:
    cell = with_parameters(own, models)
    protocol = evaluate_pose(cell, 0, "pose_smpl")
    assert protocol.comparable["joints"] == 24
    assert protocol.comparable["vertices"] == 6890
    assert protocol.comparable["body_models"] == ["SMPL_FEMALE.npz", "SMPL_MALE.npz", "SMPL_NEUTRAL.npz"]
    found = read_results(cell.tree.task(0, "pose_smpl").pose_results, POSE_METRICS)
    # The woman is posed as predicted. The man's template lies SHIFT aside, and so do his root and all else: rigid on his own.
    assert found["rr_mpjpe_mm"] == pytest.approx(0, abs=1.0)
    assert found["mpjpe_mm"] is not None
    assert found["mpjpe_mm"] > 3  # One motion for both people cannot take his shift away.
    assert found["cd_mm"] is not None


def test_smplx_is_neutral_on_both_sides(own: EvaluationCell, models: Path) -> None:
    cell = with_parameters(own, models, "smplx")
    protocol = evaluate_pose(cell, 0, "pose_smplx")
    assert (protocol.comparable["joints"], protocol.comparable["vertices"]) == (55, 10475)
    found = read_results(cell.tree.task(0, "pose_smplx").pose_results, POSE_METRICS)
    for metric in ("rr_mpjpe_mm", "rr_mve_mm", "mpjpe_mm", "mve_mm", "pa_mpjpe_mm"):
        assert found[metric] == pytest.approx(0, abs=1e-2)
    mesh = cell.tree.task(0, "pose_smplx").mesh("pred", "world_aligned", FRAMES[0]).read_text()
    assert mesh.count("\nf ") == 2 * 20908


def test_the_tree_recomputes_without_any_body_model(own: EvaluationCell, models: Path) -> None:
    cell = with_parameters(own, models)
    evaluate_pose(cell, 0, "pose_smpl")
    saved = read_bodies(cell.tree.task(0, "pose_smpl").input_body(FRAMES[0]), "smpl")
    posed = read_points(cell, cell.scene.tree.estimated.body("smpl", FRAMES[0]), "smpl", predicted=True)
    assert saved.vertices is not None
    np.testing.assert_array_equal(saved.vertices, posed.vertices)
    alone = replace(cell, body_models=None)
    outcome = check_metrics_recompute(alone)
    assert outcome.passed
    assert outcome.counts["rows"] == 2


def test_without_models_the_task_is_absent_and_says_where_they_go(own: EvaluationCell, tmp_path: Path) -> None:
    cell = with_parameters(own, tmp_path / "nowhere")
    reason = absent_tasks(cell)["pose_smpl"]
    assert f"{tmp_path}/nowhere/smpl/SMPL_NEUTRAL.npz" in reason
    assert "THESIS_BODY_MODELS_DIR" in reason
    assert check_required_files(cell, "pose_smpl").passed
    assert "THESIS_BODY_MODELS_DIR" in absent_tasks(replace(cell, body_models=None))["pose_smpl"]


@pytest.mark.parametrize("genders", [["female"], ["female", "robot"]])
def test_genders_that_do_not_fit_are_named(own: EvaluationCell, models: Path, genders: list[str]) -> None:
    cell = with_parameters(own, models)
    write_genders(own.scene.tree.ground_truth.meta, genders)
    reason = absent_tasks(replace(reopened(cell), body_models=models))["pose_smpl"]
    assert "meta.npz" in reason or "robot" in reason


def test_models_that_come_later_make_the_task_possible(own: EvaluationCell, models: Path) -> None:
    without = with_parameters(own, None)
    assert absent_tasks(without).keys() == {"pose_smpl"}
    assert absent_tasks(replace(without, body_models=models)) == {}


def test_a_changed_model_file_is_told_and_makes_no_work(own: EvaluationCell, models: Path, tmp_path: Path) -> None:
    for gender in ("neutral", "female", "male"):
        target = tmp_path / "smpl" / f"SMPL_{gender.upper()}.npz"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((models / "smpl" / target.name).read_bytes())
    cell = with_parameters(own, tmp_path)
    evaluate_pose(cell, 0, "pose_smpl")
    table = cell.tree.task(0, "pose_smpl").pose_per_frame.read_bytes()
    assert task_unit(cell, 0, "pose_smpl").look().in_words == "made"
    content = io.BytesIO()
    np.savez(content, **{**model_arrays("smpl"), "v_template": model_arrays("smpl")["v_template"] * 1.1})  # type: ignore[arg-type]
    (tmp_path / "smpl" / "SMPL_NEUTRAL.npz").write_bytes(content.getvalue())
    evaluate_pose(cell, 0, "pose_smpl")
    assert cell.tree.task(0, "pose_smpl").pose_per_frame.read_bytes() == table
    (note,) = task_unit(cell, 0, "pose_smpl").look().notes
    assert note.startswith("with body_models/smpl/SMPL_NEUTRAL.npz")
    (without,) = {len(task_unit(replace(cell, body_models=None), 0, "pose_smpl").look().notes)}
    assert without == 3
