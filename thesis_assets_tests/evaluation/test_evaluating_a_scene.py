"""A whole scene: predictions, tasks, artifacts; what is current stays, what changed is made again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.comparison_video import NO_FFMPEG
from thesis_assets.evaluation.input_data import documented_folders
from thesis_assets.evaluation.metric_tables import read_results, read_table
from thesis_assets.evaluation.units import absent_tasks
from thesis_assets.evaluation.views import View, evaluated_views
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.provenance import Place, read_record
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.evaluation import NVS_FRAME_COLUMNS, NVS_RESULT_KEYS, InputDataRecord, PredictionRecord
from thesis_assets_tests.evaluation.tiny_cell import (
    FRAMES,
    HEIGHT,
    SCENE,
    SOURCE,
    TARGETS,
    WIDTH,
    compared_epoch,
    evaluate,
    open_cell,
    predicted_epoch,
    reopened,
    true_image,
    write_png,
)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened)


def test_the_unrefined_epoch_is_the_render_itself(evaluated: EvaluationCell) -> None:
    task = evaluated.tree.task(0, "nvs")
    for cam_id in TARGETS:  # Camera 4 comes from a sample, camera 28 is rendered.
        render = pixels(evaluated.scene.tree.render(cam_id, FRAMES[1]))
        np.testing.assert_array_equal(pixels(task.input_render(cam_id, FRAMES[1])), render)
    record = storage.read_json(task.prediction_record, PredictionRecord)
    assert (record.step, record.checkpoint_sha256, record.n_images) == (None, None, 8)
    assert record.renderer == "precomputed, samples"


def test_an_unrefined_render_of_the_samples_is_their_file_and_a_drawn_one_has_the_same_bytes(
    evaluated: EvaluationCell,
) -> None:
    task, difix = evaluated.tree.task(0, "nvs"), evaluated.difix
    samples = [row for row in read_rows(difix.scene_run(SCENE).all_samples) if row.target_cam_id == 4]
    assert samples
    for row in samples:
        file = difix.base / row.image_path
        render = task.input_render(4, row.target_fname)
        assert render.samefile(file)
        assert render.read_bytes() == encode_png(read_rgb(file))
    drawn = task.input_render(28, FRAMES[1])
    assert drawn.read_bytes() == encode_png(pixels(evaluated.scene.tree.render(28, FRAMES[1])))
    made = read_record(Place(task.inputs_dir, task.predictions_made_from))
    assert made is not None
    for path in (task.input_render(4, samples[0].target_fname), drawn):
        said = made.output(path.relative_to(task.inputs_dir).as_posix())
        assert said is not None
        assert said.sha256 == storage.sha256_file(path)


def test_a_refined_epoch_is_what_the_checkpoint_makes_of_render_and_masked_reference(evaluated: EvaluationCell) -> None:
    import torch

    from thesis_assets.images.quantise import quantise
    from thesis_assets.tuning.refine import load_refiner

    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255

    fname = FRAMES[2]
    mask = pixels(evaluated.scene.tree.ground_truth.mask(SOURCE, fname)) > 0
    reference = np.where(mask[..., None], true_image(SOURCE, fname), np.uint8(0))
    refiner = load_refiner(evaluated.tuning_run.checkpoint(20))
    render = pixels(evaluated.scene.tree.render(28, fname))
    wanted = quantise(refiner.refine(tensor(render), tensor(reference)))[0].numpy()

    found = pixels(evaluated.tree.task(30, "nvs").input_render(28, fname))
    assert np.abs(found.astype(int) - wanted).max() <= 1  # Other batch sizes sum in another order.
    assert np.abs(found.astype(int) - render).max() > 1


def test_the_refiners_size_stands_in_the_protocol_of_what_was_refined(evaluated: EvaluationCell) -> None:
    said = {
        epoch: storage.read_json_value(evaluated.tree.task(epoch, "nvs").protocol)["comparable"].get("refiner_size")
        for epoch in (0, 15, 30)
    }
    assert said == {0: None, 15: 48, 30: 48}


def test_no_row_is_of_the_source_camera(evaluated: EvaluationCell) -> None:
    rows = read_table(evaluated.tree.task(0, "nvs").nvs_per_frame, NVS_FRAME_COLUMNS)
    assert {row["camera_id"] for row in rows} == set(TARGETS)
    assert [(row["camera_id"], row["frame_id"]) for row in rows] == [
        (cam, frame) for cam in TARGETS for frame in range(4)
    ]


def test_saved_images_are_the_downscaled_and_masked_ones(evaluated: EvaluationCell) -> None:
    task = evaluated.tree.task(15, "nvs")
    for path in (task.pred_image(4, FRAMES[0]), task.gt_image(4, FRAMES[0])):
        saved = pixels(path)
        assert saved.shape == (HEIGHT // 2, WIDTH // 2, 3)
        assert (saved[:4] == 0).all()  # Above the people.


def test_pictures_show_render_beside_truth_and_the_people_on_white(evaluated: EvaluationCell) -> None:
    task = evaluated.tree.task(30, "nvs")
    beside, white = (pixels(task.viz_image(4, kind, FRAMES[0])) for kind in ("render_vs_gt", "render_white_bg"))
    inside = pixels(task.input_mask(4, FRAMES[0])) > 0
    np.testing.assert_array_equal(beside[:, :WIDTH][inside], pixels(task.input_render(4, FRAMES[0]))[inside])
    np.testing.assert_array_equal(beside[:, -WIDTH:][inside], true_image(4, FRAMES[0])[inside])
    assert (white[~inside] == 255).all()
    np.testing.assert_array_equal(white[inside], beside[:, :WIDTH][inside])


def test_a_camera_has_a_video_of_its_comparisons_where_ffmpeg_is(evaluated: EvaluationCell) -> None:
    import cv2

    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    video = cv2.VideoCapture(str(evaluated.tree.task(30, "nvs").viz_video(4)))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == len(FRAMES)
    _, first = video.read()
    beside = pixels(evaluated.tree.task(30, "nvs").viz_image(4, "render_vs_gt", FRAMES[0]))
    assert first.shape[0] == HEIGHT
    assert np.abs(first[..., ::-1].astype(int)[:, :WIDTH] - beside[:, :WIDTH]).mean() < 12  # H.264 with halved colours.


def test_without_ffmpeg_the_protocol_says_why_there_is_no_video(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thesis_assets.evaluation.nvs.shutil.which", lambda _: None)
    cell = open_cell(own_folder, nvs={"region": "mask"})
    protocol = compared_epoch(cell, 0)
    assert protocol.details["no_video"] == {"cam_4": NO_FFMPEG, "cam_28": NO_FFMPEG}
    assert not cell.tree.task(0, "nvs").viz_video(4).exists()


def test_equal_ground_truth_is_one_file_over_the_epochs(evaluated: EvaluationCell) -> None:
    files = [evaluated.tree.task(epoch, "nvs").gt_image(28, FRAMES[3]) for epoch in (0, 15, 30)]
    assert files[0].samefile(files[1])
    assert files[0].samefile(files[2])
    bodies = [evaluated.tree.task(epoch, "pose_smplx").true_body(FRAMES[3]) for epoch in (0, 30)]
    assert bodies[0].samefile(bodies[1])


def test_the_older_convention_of_the_results_file_is_4_771_lower(own_folder: Path) -> None:
    before = read_results(open_cell(own_folder).tree.task(0, "nvs").nvs_results, NVS_RESULT_KEYS)
    cell = open_cell(own_folder, nvs={"results_convention": "channel_sum"})
    compared_epoch(cell, 0)
    older = read_results(cell.tree.task(0, "nvs").nvs_results, NVS_RESULT_KEYS)
    assert older["psnr"] == older["psnr_channel_sum"] == before["psnr_channel_sum"]
    assert before["psnr"] is not None
    assert older["psnr"] == pytest.approx(before["psnr"] - 4.771, abs=2e-4)


def written(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written, but for the caches beside records."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".stats.json")]
    return {path: path.stat().st_mtime_ns for path in files}


def test_again_nothing_is_written(own: EvaluationCell) -> None:
    before = written(own.tree.base)
    evaluate(own)  # A copy has new times: its files are read, and found to be what was recorded.
    evaluate(reopened(own))
    assert written(own.tree.base) == before


def test_only_what_changed_is_made_again(own: EvaluationCell) -> None:
    def stamps() -> dict[str, dict[Path, int]]:
        tasks = [own.tree.task(epoch, task) for epoch in (0, 15, 30) for task in ("nvs", "pose_smplx")]
        return {str(task.base): written(task.base) for task in tasks}

    before = stamps()
    own.tree.task(30, "nvs").input_render(4, FRAMES[0]).unlink()
    evaluate(reopened(own))
    changed = {Path(base).parts[-2:] for base, stamp in stamps().items() if stamp != before[base]}
    assert changed == {("epoch_0030", "nvs")}


def test_a_checkpoint_is_verified_before_it_is_used(own: EvaluationCell) -> None:
    own.tuning_run.checkpoint(20).write_bytes(own.tuning_run.checkpoint(10).read_bytes())
    own.tree.task(30, "nvs").input_render(4, FRAMES[0]).unlink()
    with pytest.raises(ThesisAssetsError, match="not the one that was written"):
        predicted_epoch(own, 30)


def test_a_changed_image_makes_its_scene_stale(own: EvaluationCell) -> None:
    before = own.tree.task(0, "nvs").nvs_results.read_text()
    write_png(own.scene.tree.ground_truth.image(28, FRAMES[0], ".png"), 255 - true_image(28, FRAMES[0]))
    evaluate(reopened(own))
    assert own.tree.task(0, "nvs").nvs_results.read_text() != before


def test_a_lost_table_is_computed_again(own: EvaluationCell) -> None:
    for task in ("nvs", "pose_smplx"):
        table = own.tree.task(15, task).required_files[0]
        content = table.read_bytes()
        table.unlink()
        evaluate(own)
        assert table.read_bytes() == content


def test_views_without_a_reference_or_a_mask_are_left_out_with_the_reason(own: EvaluationCell) -> None:
    own.scene.tree.ground_truth.image(SOURCE, FRAMES[1], ".png").unlink()
    own.scene.tree.ground_truth.mask(4, FRAMES[2]).unlink()
    own.scene.tree.ground_truth.camera(28, FRAMES[3]).write_bytes(b"")
    chosen = evaluated_views(reopened(own))
    assert View(4, FRAMES[0]) in chosen.views
    assert set(chosen.left_out) == {"cam_4/000001", "cam_28/000001", "cam_4/000002", "cam_28/000003"}
    assert "reference" in chosen.left_out["cam_28/000001"]
    assert "mask" in chosen.left_out["cam_4/000002"]
    assert "calibration" in chosen.left_out["cam_28/000003"]


def test_a_missing_render_leaves_out_its_view_only(own: EvaluationCell) -> None:
    own.scene.tree.render(28, FRAMES[1]).unlink()
    shutil.rmtree(own.tree.base)
    record = predicted_epoch(reopened(own), 0)
    assert record.n_images == 7
    assert list(record.left_out) == ["cam_28/000001"]


def test_stride_and_cap_choose_the_same_moments_for_every_camera(own_folder: Path) -> None:
    cell = open_cell(own_folder, frames={"stride": 2, "max_per_camera": 1}, cameras=[28])
    assert evaluated_views(cell).views == (View(28, FRAMES[0]),)
    assert evaluated_views(open_cell(own_folder, frames={"stride": 3})).views == tuple(
        View(cam, fname) for cam in TARGETS for fname in (FRAMES[0], FRAMES[3])
    )


def test_the_source_camera_cannot_be_evaluated(own_folder: Path) -> None:
    with pytest.raises(InvalidExperiment, match="cannot be evaluated"):
        evaluated_views(open_cell(own_folder, cameras=[SOURCE]))


def test_metrics_without_predictions_are_refused(own: EvaluationCell) -> None:
    own.tree.task(15, "nvs").prediction_record.unlink()
    with pytest.raises(ThesisAssetsError, match="no whole predictions"):
        compared_epoch(own, 15)


def test_an_empty_mask_leaves_its_row_empty_and_the_task_whole(own: EvaluationCell) -> None:
    from thesis_assets.evaluation.checks import check_metrics_recompute, check_required_files

    write_png(own.scene.tree.ground_truth.mask(4, FRAMES[0]), np.zeros((HEIGHT, WIDTH), np.uint8))
    cell = reopened(own)
    evaluate(cell)
    rows = read_table(cell.tree.task(15, "nvs").nvs_per_frame, NVS_FRAME_COLUMNS)
    assert [row["psnr"] is None for row in rows] == [True] + [False] * 7
    assert check_required_files(cell, "nvs").passed
    assert check_metrics_recompute(cell).passed


def test_without_masks_the_whole_image_counts_and_the_protocol_says_so(own: EvaluationCell) -> None:
    from thesis_assets.evaluation.metric_tables import read_protocol

    shutil.rmtree(own.scene.tree.ground_truth.seg_dir)
    shutil.rmtree(own.tree.base)
    cell = reopened(own)
    evaluate(cell)
    task = cell.tree.task(0, "nvs")
    assert (pixels(task.pred_image(4, FRAMES[0]))[:4] != 0).any()
    protocol = read_protocol(task)
    assert protocol is not None
    assert protocol.comparable["mask"].startswith("none")


def test_input_data_are_links_in_every_documented_folder(evaluated: EvaluationCell) -> None:
    tree, scene = evaluated.tree, evaluated.scene.tree
    assert all(folder.is_dir() for folder in documented_folders(tree))
    assert (
        tree.input_data("test").image(28, FRAMES[0], ".png").samefile(scene.ground_truth.image(28, FRAMES[0], ".png"))
    )
    assert tree.input_data("train").body("smplx", FRAMES[0]).samefile(scene.estimated.body("smplx", FRAMES[0]))
    assert tree.input_data("train").camera(SOURCE, FRAMES[0]).samefile(scene.estimated.camera(SOURCE, FRAMES[0]))
    record = storage.read_json(tree.input_data_record, InputDataRecord)
    assert (record.cameras, record.frames, record.source_camera_id) == ([4, 16, 28], list(FRAMES), SOURCE)
    ours = ("input_data.json", "made_from.json", "made_from.stats.json")
    linked = [path for path in tree.input_data_dir.rglob("*") if path.is_file() and path.name not in ours]
    assert sum(record.link_modes.values()) == len(linked)
    assert any(line.startswith("train/seg") for line in record.missing)


def test_debug_pictures_of_novel_views_stand_apart(own: EvaluationCell) -> None:
    from thesis_assets.evaluation.checks import check_input_data_clean

    write_png(own.scene.tree.estimated.nv_generation_debug("images") / "4" / "000000.png", true_image(4, FRAMES[0]))
    evaluate(reopened(own))
    assert (own.tree.input_data("train").nv_generation_debug("images") / "4" / "000000.png").is_file()
    assert check_input_data_clean(own).passed


def test_training_artifacts_show_the_scenes_samples(evaluated: EvaluationCell) -> None:
    for kind in ("rgb", "depth", "gt_input"):
        names = sorted(path.name for path in evaluated.tree.training_artifacts(15, kind).iterdir())
        assert names == ["contact_sheet.png", *(f"{SCENE}__tcam4__rccam16__tf{f}__rf{f}.png" for f in FRAMES)]
    first = f"{SCENE}__tcam4__rccam16__tf{FRAMES[0]}__rf{FRAMES[0]}.png"
    shown = [pixels(evaluated.tree.training_artifacts(epoch, "rgb") / first) for epoch in (0, 30)]
    assert shown[0].shape == (48, 48, 3)  # The training size: the long side at 48, both snapped to 16.
    assert (shown[0] != shown[1]).any()


def test_a_scene_outside_the_snapshot_has_empty_artifact_folders_and_says_why(own: EvaluationCell) -> None:
    from thesis_assets.evaluation.training_artifacts import write_training_artifacts

    own.difix.scene_run(SCENE).run_stats.unlink()
    shutil.rmtree(own.tree.training_artifacts_dir)
    record = write_training_artifacts(own, 15)
    assert set(record.absent) == {"rgb", "depth", "gt_input"}
    assert all(not any(own.tree.training_artifacts(15, kind).iterdir()) for kind in ("rgb", "depth", "gt_input"))


def test_every_enabled_task_can_be_done_here(evaluated: EvaluationCell) -> None:
    assert absent_tasks(evaluated) == {}
