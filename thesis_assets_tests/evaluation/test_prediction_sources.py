"""Predictions that others made: the user's pipeline by its command, and a tree that was there."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import check_manifest, check_metrics_recompute, check_required_files
from thesis_assets.evaluation.manifest import write_manifest
from thesis_assets.evaluation.measured_tasks import measured_task
from thesis_assets.evaluation.metric_tables import IMPORTED, read_protocol, read_results, read_table
from thesis_assets.evaluation.pipeline_command import pipeline_unit
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.evaluation.scene_steps import units_of
from thesis_assets.evaluation.units import absent_tasks, prediction_place, prediction_unit
from thesis_assets.experiments.spec import EvaluationSpec
from thesis_assets.layout import TASKS, EvaluationTree
from thesis_assets.provenance import ask_anew, read_record
from thesis_assets.recordings.contract import check_recording_contract
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.reports.leaderboard import why_not_paired
from thesis_assets.scenes.bodies import read_bodies, write_bodies
from thesis_assets.schemas.evaluation import (
    NVS_FRAME_COLUMNS,
    NVS_RESULT_KEYS,
    POSE_FRAME_COLUMNS,
    POSE_METRICS,
    PredictionRecord,
)
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets_tests.evaluation import pipeline
from thesis_assets_tests.evaluation.tiny_cell import (
    CAMERAS,
    FRAMES,
    HEIGHT,
    SCENE,
    SOURCE,
    WIDTH,
    compare,
    compared_epoch,
    evaluate,
    open_cell,
    predict,
    predicted_epoch,
    true_image,
)

EPOCHS = (0, 30)


def commanded(folder: Path, epochs: tuple[int, ...] = EPOCHS, **more: Any) -> EvaluationCell:
    """A cell whose predictions the stand-in pipeline makes; its selected checkpoint is step 20."""
    words = f"python {pipeline.__file__} {folder}/renders/{{scene_name}} '{{checkpoint}}' {{output_dir}}/{{exp_name}}"
    predictions = {
        "source": "command",
        "command": f"{words} {' '.join(map(str, epochs))}",
        "python": sys.executable,
        **more.pop("predictions", {}),
    }
    cell = open_cell(folder, predictions=predictions, epochs=list(EPOCHS), cameras=[], **more)
    selected = SelectedCheckpoint(
        **{"exp_name": "demo", "run_name": "tiny_a", "rule": "last", "step": 20, "scores": [], "manifest_sha256": {}},
        path=str(cell.tuning_run.checkpoint(20)),
        sha256=storage.sha256_file(cell.tuning_run.checkpoint(20)),
        **{"selection_groups": [], "selection_sample_ids": [], "data_json_sha256": "", "scene_names": []},
    )
    storage.write_json(cell.tuning_run.selected_checkpoint, selected)
    return cell


def runs_of(cell: EvaluationCell) -> list[str]:
    return (cell.tree.pipeline.output_dir / "runs.txt").read_text().split("\n")[:-1]


def render(cell: EvaluationCell, epoch: int, cam_id: int = 28) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(cell.tree.task(epoch, "nvs").input_render(cam_id, FRAMES[0])))


def test_a_pipelines_tree_is_evaluated_with_the_selected_checkpoint(own_folder: Path) -> None:
    cell = commanded(own_folder)
    shutil.rmtree(cell.tree.epoch_dir(15))
    evaluate(cell)
    assert runs_of(cell) == [str(cell.tuning_run.checkpoint(20))]
    own = np.asarray(Image.open(cell.scene.tree.render(28, FRAMES[0])))
    np.testing.assert_array_equal(render(cell, 30), np.clip(own.astype(int) - 30, 0, 255))
    record = storage.read_json(cell.tree.task(30, "nvs").prediction_record, PredictionRecord)
    assert (record.prediction_source, record.step) == ("command", 20)
    assert record.checkpoint_sha256 == storage.sha256_file(cell.tuning_run.checkpoint(20))
    protocol = read_protocol(cell.tree.task(30, "nvs"))
    assert protocol is not None
    assert protocol.comparable["prediction_source"] == "command"
    manifest = write_manifest(cell)
    assert manifest.eval_epochs == ["epoch_0000", "epoch_0030"]
    assert manifest.nvs_cameras == list(CAMERAS)
    assert check_manifest(cell).passed
    assert all(check_required_files(cell, task).passed for task in TASKS)
    assert check_metrics_recompute(cell).passed


def test_rows_of_the_source_camera_stand_in_the_tables_and_not_in_the_mean(own_folder: Path) -> None:
    cell = commanded(own_folder)
    predicted_epoch(cell, 0)
    compared_epoch(cell, 0)
    task = cell.tree.task(0, "nvs")
    rows = read_table(task.nvs_per_frame, NVS_FRAME_COLUMNS)
    assert {row["camera_id"] for row in rows} == set(CAMERAS)
    counted = [row["psnr"] for row in rows if row["camera_id"] != SOURCE and row["psnr"] is not None]
    assert read_results(task.nvs_results, NVS_RESULT_KEYS)["psnr"] == pytest.approx(np.mean(counted), abs=1e-4)


def test_the_pipeline_runs_once_and_again_where_the_checkpoint_changed(own_folder: Path) -> None:
    cell = commanded(own_folder)
    first = predict([cell])
    before = cell.tree.task(0, "nvs").prediction_record.stat().st_mtime_ns
    predict([cell])
    assert len(runs_of(cell)) == 1
    assert cell.tree.task(0, "nvs").prediction_record.stat().st_mtime_ns == before
    selected = storage.read_json(cell.tuning_run.selected_checkpoint, SelectedCheckpoint)
    other = selected.model_copy(update={"step": 10, "sha256": "0" * 64})
    storage.write_json(cell.tuning_run.selected_checkpoint, other)
    again = predict([cell])
    assert runs_of(cell) == [str(cell.tuning_run.checkpoint(10))]  # What the other one had written is gone.
    assert again.records[SCENE, 30].checkpoint_sha256 != first.records[SCENE, 30].checkpoint_sha256
    version = read_record(prediction_place(cell, 30))
    assert version is not None
    assert version.inputs["tuned_checkpoint/model_10"] == "0" * 64


def looked_at(cell: EvaluationCell) -> dict[str, str]:
    units = [unit for asset in ("predictions", "nvs") for unit in units_of(asset, cell)]
    return {unit.name: unit.look().in_words for unit in units}


def test_a_pipelines_output_may_be_gone_and_an_edited_scene_makes_its_predictions_stale(own_folder: Path) -> None:
    cell = commanded(own_folder)
    evaluate(cell)
    assert set(looked_at(cell).values()) == {"made"}
    assert pipeline_unit(cell).look().in_words == "made"
    ran = cell.tree.pipeline.base
    shutil.move(ran, own_folder / "elsewhere")
    assert {text.partition(" ")[0] for text in looked_at(cell).values()} == {"made"}
    predict([cell])
    assert not ran.exists() or not (ran / "output").exists()
    shutil.move(own_folder / "elsewhere", ran)
    body = cell.scene.tree.estimated.body("smpl", FRAMES[0])
    body.unlink()
    shutil.copy(cell.scene.tree.estimated.body("smpl", FRAMES[1]), body)
    told = looked_at(cell)[f"predictions of {SCENE}, epoch_0000"]
    assert told == f"stale: `preprocessing/{SCENE}/smpl/{FRAMES[0]}.npz`: changed"
    predict([cell])
    assert len(runs_of(cell)) == 1  # What was written for the older files is gone.
    evaluate(cell)
    assert set(looked_at(cell).values()) == {"made"}


def test_lost_predictions_are_taken_again_and_a_lost_output_has_its_command_run_again_by_force_alone(
    own_folder: Path,
) -> None:
    cell = commanded(own_folder)
    predict([cell])
    prediction = next(cell.tree.task(0, "nvs").inputs_dir.rglob("*.png"))
    prediction.unlink()
    predict([cell])
    assert prediction.is_file()
    assert len(runs_of(cell)) == 1, "what it wrote was whole"
    written = sorted(cell.tree.pipeline.output_dir.rglob("*.png"))[0]
    for lost in (prediction, written):
        lost.unlink()
    refused = predict([cell])
    assert "--force predictions" in " ".join(refused.failed[SCENE])
    assert len(runs_of(cell)) == 1
    ask_anew(pipeline_unit(cell))
    assert not predict([cell]).failed
    assert len(runs_of(cell)) == 1, "in a folder of its own"
    assert written.is_file()


@pytest.mark.parametrize("why", ["asked for", "another command"])
def test_what_a_command_wrote_stays_until_the_new_output_is_whole(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    cell = commanded(own_folder)
    predict([cell])
    pipeline_tree = cell.tree.pipeline
    before = {path: path.read_bytes() for path in pipeline_tree.output_dir.rglob("*") if path.is_file()}
    if why == "asked for":
        ask_anew(pipeline_unit(cell))
        for epoch in EPOCHS:
            ask_anew(prediction_unit(cell, epoch))
    else:
        cell = commanded(own_folder, predictions={"env": {"QUALITY": "high"}})
    monkeypatch.setenv("PIPELINE_FAILS", "1")
    assert "out of memory" in " ".join(predict([cell]).failed[SCENE])
    assert {path: path.read_bytes() for path in pipeline_tree.output_dir.rglob("*") if path.is_file()} == before
    assert not pipeline_unit(cell).look().missing
    monkeypatch.delenv("PIPELINE_FAILS")
    assert not predict([cell]).failed
    assert len(runs_of(cell)) == 2, "the failed attempt and the one that went on from it"
    assert not pipeline_tree.next_output_dir.exists()
    assert set(looked_at(cell).values()) >= {"made"}


@pytest.mark.parametrize("record", [None, b"{"])
def test_a_whole_output_without_a_record_is_given_one_and_its_command_not_run(
    own_folder: Path, record: bytes | None
) -> None:
    cell = commanded(own_folder)
    predict([cell])
    cell.tree.pipeline.made_from.unlink()
    if record is not None:
        cell.tree.pipeline.made_from.write_bytes(record)
    next(cell.tree.task(0, "nvs").inputs_dir.rglob("*.png")).unlink()
    ran = (cell.tree.pipeline.output_dir / "runs.txt").stat().st_mtime_ns
    assert not predict([cell]).failed
    assert (cell.tree.pipeline.output_dir / "runs.txt").stat().st_mtime_ns == ran
    assert pipeline_unit(cell).look().is_made


def test_another_command_line_makes_predictions_stale(own_folder: Path) -> None:
    predict([commanded(own_folder)])
    other = commanded(own_folder, predictions={"env": {"QUALITY": "high"}})
    assert (
        "`evaluation.predictions.env.QUALITY` was not set, is high"
        in looked_at(other)[f"predictions of {SCENE}, epoch_0030"]
    )


def test_pictures_of_refined_samples_make_way_for_a_pipeline_that_has_none(own_folder: Path) -> None:
    predict([open_cell(own_folder)])
    cell = commanded(own_folder)
    assert any(cell.tree.training_artifacts(30, "rgb").iterdir())
    predict([cell])
    assert not cell.tree.training_artifacts(30, "rgb").exists()
    assert {unit.look().in_words for unit in units_of("predictions", cell)} == {"made"}


def test_pictures_of_another_source_do_not_stay_where_their_removal_was_ended(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict([open_cell(own_folder)])
    cell = commanded(own_folder)
    with monkeypatch.context() as ended:
        ended.setattr("thesis_assets.evaluation.training_artifacts.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict([cell])
    predict([cell])
    assert not cell.tree.training_artifacts(0, "rgb").exists()
    assert not cell.tree.training_artifacts(30, "rgb").exists()
    assert {unit.look().in_words for unit in units_of("predictions", cell)} == {"made"}


def interrupted(path: Path) -> None:
    del path
    raise KeyboardInterrupt


def test_an_older_pipelines_tree_is_taken_over_without_running_it(own_folder: Path) -> None:
    cell = commanded(own_folder)
    evaluate(cell)
    ran = (cell.tree.pipeline.output_dir / "runs.txt").stat().st_mtime_ns
    for path in (cell.tree.pipeline.made_from, *cell.tree.base.rglob("made_from*.json")):
        path.unlink()
    for path, key in [
        (cell.tree.pipeline.record, "command_digest"),
        *((path, "input_digest") for path in cell.tree.base.rglob("predictions.json")),
    ]:
        value = storage.read_json_value(path)
        value.pop("identity", None)
        storage.write_json(path, {**value, key: "0" * 64})
    cell = commanded(own_folder)
    predict([cell])
    assert (cell.tree.pipeline.output_dir / "runs.txt").stat().st_mtime_ns == ran
    assert pipeline_unit(cell).look().in_words in ("made", "made (not verified yet)")


def test_a_tree_that_was_taken_over_may_be_gone_and_an_edited_one_is_taken_again(
    own_folder: Path, moved_tree: Path
) -> None:
    cell = existing(own_folder, moved_tree)
    evaluate(cell)
    assert set(looked_at(cell).values()) == {"made"}
    moved = moved_tree.with_name("moved")
    shutil.move(moved_tree, moved)
    assert {text.partition(" ")[0] for text in looked_at(cell).values()} == {"made"}
    evaluate(cell)
    assert check_manifest(cell).passed
    assert write_manifest(cell).notes["epoch_steps"] == {"epoch_0000": None, "epoch_0015": 10, "epoch_0030": 20}
    cell = existing(own_folder, moved)  # The same tree at another place.
    assert set(looked_at(cell).values()) == {"made"}
    table = EvaluationTree(moved.parent, moved.name).task(15, "nvs").nvs_results
    content = table.read_bytes()
    table.unlink()
    table.write_bytes(content.replace(b"ssim", b" ssim"))
    assert looked_at(cell)[f"nvs of {SCENE}, epoch_0015"] == (
        f"stale: `tree/evaluation/epoch_0015/nvs/metrics/{table.name}`: changed"
    )


def test_an_untrained_run_gives_the_pipeline_no_checkpoint(own_folder: Path) -> None:
    from dataclasses import replace

    cell = commanded(own_folder)
    pretrained = cell.run.model_copy(update={"backend": "pretrained", "model": "nvidia/difix_ref"})
    untrained = replace(cell, experiment=cell.experiment.model_copy(update={"runs": {"tiny_a": pretrained}}))
    record = predicted_epoch(untrained, 0)
    assert runs_of(untrained) == ["base model"]
    assert (record.step, record.checkpoint_sha256) == (None, None)


def test_a_directory_is_made_of_difix_checkpoints_alone_and_before_anything_runs(own_folder: Path) -> None:
    from dataclasses import replace

    cell = commanded(own_folder)
    evaluation = cell.experiment.evaluation
    wanted = evaluation.predictions.command
    assert wanted is not None
    command = {"command": wanted.replace("{checkpoint}", "{model_dir}")}
    asked = evaluation.model_copy(update={"predictions": evaluation.predictions.model_copy(update=command)})
    refused = predict([replace(cell, experiment=cell.experiment.model_copy(update={"evaluation": asked}))])
    assert "only a DiFix checkpoint" in " ".join(refused.failed[SCENE])
    assert not cell.tree.pipeline.base.exists()


def test_without_a_selected_checkpoint_nothing_is_started(own_folder: Path) -> None:
    cell = commanded(own_folder)
    cell.tuning_run.selected_checkpoint.unlink()
    assert "no checkpoint of the run has been selected" in " ".join(predict([cell]).failed[SCENE])


def test_a_pipeline_that_fails_says_so_and_leaves_what_was_there(own_folder: Path) -> None:
    cell = commanded(own_folder)
    evaluate(cell)
    broken = commanded(own_folder, predictions={"env": {"PIPELINE_FAILS": "1"}})
    outcomes = predict([broken])
    assert "out of memory on the first Gaussian" in outcomes.failed[SCENE][0]
    assert outcomes.records == {}
    assert write_manifest(cell).eval_epochs == ["epoch_0000", "epoch_0030"]


def test_an_epoch_that_the_pipeline_left_out_is_named_with_what_it_left(own_folder: Path) -> None:
    cell = commanded(own_folder, epochs=(0, 15))
    with pytest.raises(ThesisAssetsError, match="no render of epoch_0030") as caught:
        predicted_epoch(cell, 30)
    assert "epoch_0000, epoch_0015" in str(caught.value)


def test_a_render_of_another_size_is_refused_by_name(own_folder: Path) -> None:
    cell = commanded(own_folder)
    Image.new("RGB", (20, 24)).save(cell.scene.tree.render(28, FRAMES[1]))
    with pytest.raises(ThesisAssetsError, match="another size") as caught:
        predicted_epoch(cell, 0)
    assert f"cam_28/render/{FRAMES[1]}.png" in str(caught.value)


def halved(folder: Path, parts: int = 2, **more: Any) -> EvaluationCell:
    """The pipeline leaves no render, but what its own metric was of: JPEG, smaller than the photographs."""
    return commanded(folder, predictions={"env": {"PIPELINE_PARTS": str(parts)}}, **more)


def test_half_size_jpeg_of_a_pipelines_own_metric_is_measured_against_the_photographs(own_folder: Path) -> None:
    cell = halved(own_folder)
    evaluate(cell)
    task, source = cell.tree.task(30, "nvs"), EvaluationTree(cell.tree.pipeline.output_dir, "demo").task(30, "nvs")
    jpeg = np.asarray(Image.open(source.metric_picture("pred", 28, FRAMES[0], ".jpg")))
    np.testing.assert_array_equal(render(cell, 30), jpeg)
    assert jpeg.shape == (HEIGHT // 2, WIDTH // 2, 3)
    inside = np.asarray(Image.open(task.input_mask(28, FRAMES[0])))[::2, ::2] > 0  # its edges are even
    truth = true_image(28, FRAMES[0]).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).astype(int).sum((1, 3))
    wanted = {"pred": jpeg, "gt_inputs": (truth + 2) // 4}
    images = {side: np.where(inside[..., None], pixels, 0) for side, pixels in wanted.items()}
    np.testing.assert_array_equal(np.asarray(Image.open(task.pred_image(28, FRAMES[0]))), images["pred"])
    np.testing.assert_array_equal(np.asarray(Image.open(task.gt_image(28, FRAMES[0]))), images["gt_inputs"])
    mse = np.square((images["pred"].astype(float) - images["gt_inputs"]) / 255).mean()
    (row,) = [
        row
        for row in read_table(task.nvs_per_frame, NVS_FRAME_COLUMNS)
        if (row["camera_id"], row["frame_id"]) == (28, 0)
    ]
    assert row["psnr"] == pytest.approx(10 * np.log10(1 / mse), abs=1e-5)
    assert all(check_required_files(cell, name).passed for name in TASKS)
    assert check_metrics_recompute(cell).passed
    assert set(looked_at(cell).values()) == {"made"}


def test_the_size_that_was_measured_stands_in_the_protocol_and_sizes_are_not_paired(own_folder: Path) -> None:
    sides = {}
    for name, cell in (("whole", commanded(own_folder)), ("half", halved(own_folder))):
        evaluate(cell)
        protocol = read_protocol(cell.tree.task(30, "nvs"))
        assert protocol is not None
        assert protocol.details["measured_size"] == {f"cam_{cam}": [HEIGHT // 2, WIDTH // 2] for cam in CAMERAS}
        measured = measured_task(cell.tree.task(30, "nvs"), 30, SOURCE)
        assert measured is not None
        sides[name] = measured
    assert sides["half"].comparable["render_size"] == "1/2 of the photographs'"
    assert why_not_paired(sides["half"], sides["half"]) is None
    assert why_not_paired(sides["half"], sides["whole"]) == (
        "the protocols differ: render_size is 1/2 of the photographs', and there absent"
    )


@pytest.mark.parametrize(("parts", "factor"), [(2, 1), (2, 3), (4, 2)])
def test_renders_that_the_protocol_would_have_to_enlarge_are_refused(own_folder: Path, parts: int, factor: int) -> None:
    cell = halved(own_folder, parts, nvs={"downscale_factor": factor})
    with pytest.raises(ThesisAssetsError, match=r"another size than its ground truth(?s:.*)metrics_input/000000.jpg"):
        predicted_epoch(cell, 0)


def test_a_protocol_that_changed_to_the_full_size_is_refused_on_half_size_renders(own_folder: Path) -> None:
    evaluate(halved(own_folder))
    cell = halved(own_folder, nvs={"downscale_factor": 1})
    reason = compare([cell]).failed[SCENE][0]
    assert "the renders have 1/2 of the photographs' size, and the experiment measures at 1/1" in reason
    assert "evaluation.nvs.downscale_factor" in reason


def test_bodies_of_the_pipelines_own_tree_are_the_predicted_ones(own_folder: Path) -> None:
    cell = commanded(own_folder)
    predicted_epoch(cell, 0)
    tree = EvaluationTree(cell.tree.pipeline.output_dir, "demo")
    for fname in FRAMES[:2]:
        estimate = read_bodies(cell.scene.tree.estimated.body("smplx", fname), "smplx")
        assert estimate.joints is not None
        moved = {"joints": estimate.joints + np.float32(0.5)}
        target = tree.task(30, "pose_smplx").input_body(fname)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bodies(target, type(estimate)("smplx", estimate.parameters, **{**vars_of(estimate), **moved}))
    estimated, own = evaluate_pose(cell, 0, "pose_smplx"), evaluate_pose(cell, 30, "pose_smplx")
    assert estimated.comparable["predicted_bodies"] != own.comparable["predicted_bodies"]
    assert own.details["frames"] == list(FRAMES[:2])
    assert "no predicted smplx file" in own.details["left_out"][FRAMES[3]]


def vars_of(bodies: Any) -> dict[str, Any]:
    return {name: getattr(bodies, name) for name in ("joints", "vertices", "faces", "contact")}


# --- a tree that was there -------------------------------------------------------------------------------------------


def existing(folder: Path, tree: Path, **more: Any) -> EvaluationCell:
    return open_cell(folder, predictions={"source": "existing", "tree": str(tree), **more})


@pytest.fixture
def moved_tree(own: EvaluationCell, tmp_path: Path) -> Path:
    """The whole evaluation of the scene, taken away from where this experiment would write it."""
    return Path(shutil.move(own.tree.base, tmp_path / "older"))


def test_a_tree_on_disk_is_taken_over_by_hard_links_and_nothing_is_computed(
    own_folder: Path, moved_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = existing(own_folder, moved_tree)
    monkeypatch.setattr("thesis_assets.evaluation.nvs.view_metrics", None)
    monkeypatch.setattr("thesis_assets.evaluation.pose.frame_metrics", None)
    evaluate(cell)
    older = EvaluationTree(moved_tree.parent, moved_tree.name)
    for task in TASKS:
        for name in ("pred", "gt_inputs", "metrics"):
            for path in (older.task(15, task).base / name).rglob("*"):
                if path.is_file() and path.name not in ("protocol.json", "made_from.json", "made_from.stats.json"):
                    assert path.samefile(cell.tree.base / path.relative_to(moved_tree))
    assert write_manifest(cell).eval_epochs == ["epoch_0000", "epoch_0015", "epoch_0030"]
    assert write_manifest(cell).notes["epoch_steps"] == {"epoch_0000": None, "epoch_0015": 10, "epoch_0030": 20}
    assert check_manifest(cell).passed
    assert all(check_required_files(cell, task).passed for task in TASKS)
    assert check_metrics_recompute(cell).passed


def test_numbers_of_other_scripts_never_stand_under_the_names_of_ours(own_folder: Path, moved_tree: Path) -> None:
    older = EvaluationTree(moved_tree.parent, moved_tree.name)
    rows = read_table(older.task(15, "nvs").nvs_per_frame, NVS_FRAME_COLUMNS)
    for task in (older.task(15, name) for name in TASKS):
        task.protocol.unlink()
        table = task.nvs_per_frame if task.task == "nvs" else task.pose_per_frame
        lines = [line.split(",")[:5] for line in table.read_text().splitlines()]
        table.write_text("\n".join(",".join(line) for line in lines) + "\n")
    cell = existing(own_folder, moved_tree)
    evaluate(cell)
    found = read_table(cell.tree.task(15, "nvs").nvs_per_frame, NVS_FRAME_COLUMNS)
    assert [row["psnr"] for row in found] == [None] * len(rows)
    assert [row["psnr_channel_sum"] for row in found] == [row["psnr"] for row in rows]
    assert [row["ssim"] for row in found] == [row["ssim"] for row in rows]
    poses = read_table(cell.tree.task(15, "pose_smpl").pose_per_frame, POSE_FRAME_COLUMNS)
    assert {row["pcdr"] for row in poses} == {None}
    assert {row["pcdr_legacy"] for row in poses} == {1.0}
    assert all(check_required_files(cell, task).passed for task in TASKS)
    recomputed = check_metrics_recompute(cell)
    assert recomputed.passed
    assert recomputed.counts["imported_rows"] == 8 + 4 + 4
    ours, theirs = (read_protocol(cell.tree.task(epoch, "nvs")) for epoch in (0, 15))
    assert ours is not None
    assert theirs is not None
    assert ours.comparable != theirs.comparable
    assert IMPORTED in theirs.details


def keep_what_was_measured(tree: EvaluationTree) -> None:
    """Make of a tree one as the thesis scripts leave: compared pictures as JPEG under `metrics_input`, no renders, no protocol."""
    for epoch in (0, 15, 30):
        task = tree.task(epoch, "nvs")
        shutil.rmtree(task.inputs_dir)
        task.protocol.unlink()
        lines = [line.split(",")[:5] for line in task.nvs_per_frame.read_text().splitlines()]
        task.nvs_per_frame.write_text("\n".join(",".join(line) for line in lines) + "\n")
        for side in ("pred", "gt_inputs"):
            for path in sorted((task.base / side).glob("cam_*/*.png")):
                target = path.parent / "metrics_input" / f"{path.stem}.jpg"
                target.parent.mkdir(exist_ok=True)
                Image.open(path).save(target, quality=100, subsampling=0)
                path.unlink()


def test_pictures_of_metrics_input_are_linked_with_their_numbers(own_folder: Path, moved_tree: Path) -> None:
    older = EvaluationTree(moved_tree.parent, moved_tree.name)
    keep_what_was_measured(older)
    cell = existing(own_folder, moved_tree)
    evaluate(cell)
    task = cell.tree.task(15, "nvs")
    for side in ("pred", "gt_inputs"):
        kept = older.task(15, "nvs").metric_picture(side, 4, FRAMES[0], ".jpg")
        for name in (task.metric_picture(side, 4, FRAMES[0], ".jpg"), task.base / side / "cam_4" / f"{FRAMES[0]}.jpg"):
            assert name.samefile(kept)
    protocol = read_protocol(task)
    assert protocol is not None
    assert protocol.comparable["render_size"] == "1/2 of the photographs'"
    assert check_required_files(cell, "nvs").passed
    assert set(looked_at(cell).values()) == {"made"}
    exports = TreeExports(cell.tree, run_name="tiny_a", scene_name=SCENE)
    exports.export_epoch(15, tasks=["nvs"])
    exports.export_input_data()
    assert check_recording_contract(cell.tree, epochs=[15], tasks=["nvs"]).offenders == []


def test_pictures_of_metrics_input_are_measured_again_where_that_is_asked(own_folder: Path, moved_tree: Path) -> None:
    older = EvaluationTree(moved_tree.parent, moved_tree.name)
    wanted = read_results(older.task(30, "nvs").nvs_results, NVS_RESULT_KEYS)["psnr"]
    keep_what_was_measured(older)
    cell = existing(own_folder, moved_tree, recompute=True)
    evaluate(cell)
    found = read_results(cell.tree.task(30, "nvs").nvs_results, NVS_RESULT_KEYS)["psnr"]
    assert found != wanted, "they are JPEG"
    assert found == pytest.approx(wanted, abs=0.2)
    protocol = read_protocol(cell.tree.task(30, "nvs"))
    assert protocol is not None
    assert protocol.comparable["render_size"] == "1/2 of the photographs'"


def test_older_results_that_a_tree_lacks_are_named(own_folder: Path, moved_tree: Path) -> None:
    task = EvaluationTree(moved_tree.parent, moved_tree.name).task(15, "nvs")
    task.nvs_per_frame.unlink()
    cell = existing(own_folder, moved_tree)
    outcomes = compare([cell])
    assert "metrics_all_cams_per_frame.csv" in outcomes.failed[SCENE][0]


def test_a_tree_is_measured_again_where_that_is_asked(own_folder: Path, moved_tree: Path) -> None:
    older = EvaluationTree(moved_tree.parent, moved_tree.name)
    wanted = read_results(older.task(30, "nvs").nvs_results, NVS_RESULT_KEYS)
    shutil.rmtree(older.task(30, "nvs").metrics_dir)
    cell = existing(own_folder, moved_tree, recompute=True)
    evaluate(cell)
    assert read_results(cell.tree.task(30, "nvs").nvs_results, NVS_RESULT_KEYS) == wanted
    assert read_results(cell.tree.task(30, "pose_smpl").pose_results, POSE_METRICS)["mpjpe_mm"] is not None


def test_an_epoch_and_a_task_that_a_tree_lacks_are_named(own_folder: Path, moved_tree: Path) -> None:
    shutil.rmtree(moved_tree / "evaluation" / "epoch_0015")
    for epoch in ("epoch_0000", "epoch_0030"):
        shutil.rmtree(moved_tree / "evaluation" / epoch / "pose_smpl")
    cell = existing(own_folder, moved_tree)
    assert "pose_smpl" in absent_tasks(cell)["pose_smpl"]
    outcomes = predict([cell])
    assert "epoch_0000, epoch_0030" in outcomes.failed[SCENE][0]


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"predictions": "existing"}, "`tree`"),
        ({"predictions": {"source": "existing", "tree": "/results/{scene}"}}, "unknown placeholder {scene}"),
        ({"predictions": {"source": "command"}}, "`command` is needed"),
        ({"predictions": {"source": "command", "command": "run.sh {scene_nam}"}}, "unknown placeholder {scene_nam}"),
        ({"predictions": {"source": "command", "command": "a.sh && b.sh"}}, "not a shell line"),
        ({"predictions": {"source": "refine", "tree": "/results"}}, "only there"),
        ({"predictions": {"recompute": True}}, "belongs to source `existing`"),
        (
            {"predictions": {"source": "command", "command": "run.sh"}, "epochs": {0: "unrefined", 30: {"step": 20}}},
            r"write `epochs: \[0, 30\]`",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused_when_the_file_is_read(
    evaluation: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationSpec.model_validate(evaluation)
