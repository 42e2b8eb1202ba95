"""What an evaluated scene's outputs are made from: its bytes and options, never times and places; older trees are taken over."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.checks import (
    check_input_data_clean,
    check_layout_version,
    check_manifest,
    check_required_files,
)
from thesis_assets.evaluation.lineage import evaluation_lineage
from thesis_assets.evaluation.manifest import manifest_unit
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.evaluation.scene_steps import units_of
from thesis_assets.evaluation.units import absent_tasks, prediction_unit, task_unit
from thesis_assets.images.codecs import pixel_digest, read_rgb
from thesis_assets.layout import TASKS
from thesis_assets.provenance import Contents, Output, Unit, ask_anew, examine, take_over
from thesis_assets.scenes.scene import Scene
from thesis_assets.schemas.lineage import LineageLink
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets_tests.evaluation.tiny_cell import (
    FRAMES,
    HEIGHT,
    SCENE,
    WIDTH,
    compared_epoch,
    evaluate,
    open_cell,
    predicted_epoch,
    reopened,
    true_image,
    write_png,
)

ASSETS = ("input_data", "predictions", *TASKS, "evaluation_manifest")


def all_units(cell: EvaluationCell) -> list[Unit]:
    return [unit for asset in ASSETS for unit in units_of(asset, cell)]


def words(cell: EvaluationCell) -> dict[str, str]:
    """What a look says of every unit that is not simply made, by its name."""
    contents = Contents()
    found = {unit.name: unit.look(contents).in_words for unit in all_units(cell)}
    return {name: text for name, text in found.items() if text != "made"}


def test_every_asset_of_a_whole_scene_is_made_and_names_all_its_files(evaluated: EvaluationCell) -> None:
    units = all_units(evaluated)
    assert len(units) == 1 + 2 * 3 + 3 * 3 + 1
    assert words(evaluated) == {}
    named = {unit.place.base / name for unit in units for name in unit.look().record.outputs}  # type: ignore[union-attr]
    there = {path for path in evaluated.tree.base.rglob("*") if path.is_file()}
    assert {path.name for path in there - named} == {
        "made_from.json",
        "made_from.stats.json",
        "manifest.made_from.json",
        "manifest.made_from.stats.json",
    }


def test_inputs_are_named_by_root_and_path(evaluated: EvaluationCell) -> None:
    record = prediction_unit(evaluated, 15).look().record
    assert record is not None
    assert {f"canonical_gt/{SCENE}/images/16/000000.png", f"renders/{SCENE}/28/000000.png"} <= record.inputs.keys()
    assert f"canonical_gt/{SCENE}/images/28/000000.png" not in record.inputs  # The truth shapes no prediction.
    info = storage.read_json(evaluated.tuning_run.checkpoint_info(10), CheckpointInfo)
    assert record.inputs["tuned_checkpoint/model_10"] == info.sha256
    nvs, pose = (task_unit(evaluated, 15, task).look().record for task in ("nvs", "pose_smplx"))
    assert nvs is not None
    assert nvs.inputs["predictions"] == record.data_version
    assert f"canonical_gt/{SCENE}/images/28/000000.png" in nvs.inputs
    assert pose is not None
    assert {f"preprocessing/{SCENE}/smplx/000000.npz", f"canonical_gt/{SCENE}/smplx/000000.npz"} <= pose.inputs.keys()


def test_images_that_are_encoded_here_have_the_digest_of_their_pixels(evaluated: EvaluationCell) -> None:
    for unit, name in (
        (prediction_unit(evaluated, 0), "cam_4/render/000000.png"),  # encoded by the export of its sample
        (prediction_unit(evaluated, 0), "cam_28/render/000000.png"),
        (prediction_unit(evaluated, 30), "cam_4/render/000000.png"),
        (task_unit(evaluated, 30, "nvs"), "pred/cam_4/000000.png"),
        (task_unit(evaluated, 30, "nvs"), "viz/cam_28/render_white_bg/000001.png"),
    ):
        record, path = unit.look().record, unit.place.base / name
        assert record is not None
        pixels = pixel_digest(read_rgb(path))
        assert record.output(name) == Output(path.stat().st_size, storage.sha256_file(path), pixels)
    assert {examine(unit).in_words for unit in all_units(evaluated)} == {"made"}


def test_touching_every_file_makes_no_work(own: EvaluationCell) -> None:
    for path in own.difix.root.parent.rglob("*"):
        if path.is_file():
            os.utime(path)
    assert words(reopened(own)) == {}


def test_a_moved_home_is_made(own: EvaluationCell, tmp_path: Path) -> None:
    moved = Path(shutil.move(own.difix.root.parent, tmp_path / "moved"))
    cell = open_cell(moved)
    assert words(cell) == {}
    assert check_manifest(cell).passed


def rewritten(path: Path, content: bytes) -> None:
    """The file with other bytes; its other names keep theirs."""
    path.unlink()
    path.write_bytes(content)


def test_an_edited_input_makes_stale_what_is_made_of_it_and_is_named(own: EvaluationCell) -> None:
    truth = own.scene.tree.ground_truth.image(28, FRAMES[0], ".png")
    truth.unlink()
    write_png(truth, 255 - true_image(28, FRAMES[0]))
    changed = f"stale: `canonical_gt/{SCENE}/images/28/{FRAMES[0]}.png`: changed"
    found = words(reopened(own))
    assert found == {
        f"input_data of {SCENE}": changed,
        **{f"nvs of {SCENE}, epoch_{epoch}": changed for epoch in ("0000", "0015", "0030")},
    }
    evaluate(reopened(own))
    assert words(reopened(own)) == {}


def test_an_edited_mask_makes_predictions_and_views_stale(own: EvaluationCell) -> None:
    mask = own.scene.tree.ground_truth.mask(28, FRAMES[0])
    mask.unlink()
    write_png(mask, np.full((HEIGHT, WIDTH), 255, np.uint8))
    found = words(reopened(own))
    assert f"predictions of {SCENE}, epoch_0015" in found
    assert f"nvs of {SCENE}, epoch_0015" in found
    assert not any("pose" in name for name in found)


def test_an_option_of_the_file_makes_stale_and_is_told(own_folder: Path) -> None:
    cell = open_cell(own_folder, nvs={"background": "white"})
    assert words(cell)[f"nvs of {SCENE}, epoch_0030"] == "stale: `evaluation.nvs.background` was black, is white"
    cell = open_cell(own_folder, epochs={0: "unrefined", 30: {"step": 10}})
    told = words(cell)[f"predictions of {SCENE}, epoch_0030"]
    assert "`evaluation.epochs.30.step` was 20, is 10" in told
    fewer = words(open_cell(own_folder, frames={"stride": 2}))
    assert fewer[f"predictions of {SCENE}, epoch_0030"] == "stale: `evaluation.frames.stride` was 1, is 2"


def test_what_is_made_anew_keeps_the_options_that_the_file_does_not_set(own_folder: Path) -> None:
    evaluate(open_cell(own_folder, nvs={"background": "white"}, pose={"world_alignment": "camera"}))
    cell = open_cell(own_folder)  # its file says nothing of either
    assert words(cell) == {}
    cell.tree.task(15, "nvs").nvs_results.unlink()
    cell.tree.task(15, "pose_smpl").pose_results.unlink()
    assert compared_epoch(cell, 15).comparable["background"] == "white"
    assert evaluate_pose(cell, 15, "pose_smpl").comparable["world_alignment"] == "camera"
    cell = open_cell(own_folder, nvs={"region": "mask"})
    assert compared_epoch(cell, 15).comparable["background"] == "white"


def test_what_is_asked_for_anew_is_made_by_todays_defaults(own_folder: Path) -> None:
    compared_epoch(open_cell(own_folder, nvs={"background": "white"}), 15)
    cell = open_cell(own_folder)
    assert task_unit(cell, 15, "nvs").look().is_made
    ask_anew(task_unit(cell, 15, "nvs"))
    assert compared_epoch(cell, 15).comparable["background"] == "black"


def spoilt() -> Iterator[tuple[str, str]]:
    yield "evaluation/epoch_0015/nvs/inputs/cam_4/render/000000.png", f"predictions of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/inputs/predictions.json", f"predictions of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/pred/cam_4/000000.png", f"nvs of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/gt_inputs/cam_4/000000.png", f"nvs of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/viz/cam_4/render_vs_gt/000000.png", f"nvs of {SCENE}, epoch_0015"
    for name in ("metrics_all_cams_per_frame.csv", "metrics_avg_per_camera.csv", "novel_view_results.txt"):
        yield f"evaluation/epoch_0015/nvs/metrics/{name}", f"nvs of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/pose_smplx/metrics/protocol.json", f"pose_smplx of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/viz/cam_4/render_vs_gt.mp4", f"nvs of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/metrics/protocol.json", f"nvs of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/nvs/inputs/cam_28/mask/000000.png", f"predictions of {SCENE}, epoch_0015"
    yield "evaluation/epoch_0015/pose_smplx/viz/000000.png", f"pose_smplx of {SCENE}, epoch_0015"
    yield (
        "evaluation/epoch_0015/pose_smplx/pred/world_aligned/posed_smplx_meshes_per_frame/00/000000.obj",
        f"pose_smplx of {SCENE}, epoch_0015",
    )
    yield "input_data/test/images/28/000000.png", f"input_data of {SCENE}"
    yield "training_artifacts/epoch_0015/rgb/contact_sheet.png", f"training artifacts of {SCENE}, epoch_0015"
    yield "manifest.json", f"manifest of {SCENE}"


@pytest.mark.parametrize(("file", "unit"), list(spoilt()))
def test_an_emptied_or_deleted_output_is_found_and_made_again(own: EvaluationCell, file: str, unit: str) -> None:
    path = own.tree.base / file
    if path.suffix == ".mp4" and shutil.which("ffmpeg") is None:
        pytest.skip("needs the program ffmpeg")
    before = path.read_bytes()
    path.unlink()
    assert words(own)[unit].startswith("missing: ")
    path.touch()
    told = words(own)[unit]
    assert told.startswith("damaged: ")
    assert f"{path.name}` (0 bytes, was {len(before)})" in told
    others = {other: stamp for other, stamp in written(own.tree.base).items() if other != path}
    evaluate(reopened(own))
    assert words(reopened(own)) == {}
    assert path.read_bytes() == before or path.name == "protocol.json"  # It names the folder of LPIPS: this is a copy.
    assert {other: stamp for other, stamp in written(own.tree.base).items() if other != path} == others


def test_a_prediction_that_comes_out_otherwise_has_its_numbers_measured_anew(own: EvaluationCell) -> None:
    task, unit = own.tree.task(15, "nvs"), prediction_unit(own, 15)
    lost = task.input_render(4, FRAMES[0])
    record = json.loads(unit.place.record.read_bytes())
    record["outputs"][unit.place.name(lost)] = [1, "0" * 64, "0" * 64]  # as another device drew it
    unit.place.record.write_bytes(json.dumps(record).encode())
    lost.unlink()
    others = written(task.inputs_dir)
    predicted_epoch(own, 15)
    assert {path: stamp for path, stamp in written(task.inputs_dir).items() if path in others} == others
    assert not task.metrics_dir.exists()
    evaluate(reopened(own))
    assert words(reopened(own)) == {}


def test_a_lost_prediction_whose_render_is_gone_is_refused_and_nothing_else_is_lost(own: EvaluationCell) -> None:
    own.tree.task(15, "nvs").input_render(28, FRAMES[0]).unlink()
    own.scene.tree.render(28, FRAMES[0]).unlink()
    before = written(own.tree.base)
    with pytest.raises(ThesisAssetsError, match=r"cannot be made again(.|\n)*cam_28/000000(.|\n)*--force predictions"):
        predicted_epoch(reopened(own), 15)
    assert written(own.tree.base) == before


def test_numbers_that_cannot_come_out_as_they_were_are_written_as_a_whole(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    unit = task_unit(cell, 15, "nvs")
    record = json.loads(unit.place.record.read_bytes())
    for name in ("metrics/metrics_avg_per_camera.csv", "metrics/novel_view_results.txt"):
        record["outputs"][name] = [1, "0" * 64, None]  # by other code
    unit.place.record.write_bytes(json.dumps(record).encode())
    told = words(cell)[f"nvs of {SCENE}, epoch_0015"]
    assert "metrics_avg_per_camera.csv" in told
    assert "novel_view_results.txt" in told
    compared_epoch(cell, 15)
    assert task_unit(cell, 15, "nvs").look().in_words == "made"
    manifest = json.loads(cell.tree.manifest.read_text())
    assert manifest["eval_epochs"] == ["epoch_0000", "epoch_0030"], "an epoch that changes is taken out first"


def written(folder: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of every file below a folder but the records."""
    files = [path for path in folder.rglob("*") if path.is_file() and "made_from" not in path.name]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_an_edited_number_is_found_by_its_check(own: EvaluationCell) -> None:
    table = own.tree.task(0, "nvs").nvs_per_frame
    rewritten(table, table.read_bytes().replace(b"1", b"2", 1))
    assert check_required_files(own, "nvs").offenders
    assert words(own)[f"nvs of {SCENE}, epoch_0000"].startswith("damaged: `metrics/metrics_all_cams_per_frame.csv")


def test_samples_that_come_later_are_shown(own: EvaluationCell) -> None:
    stats = own.difix.scene_run(SCENE).run_stats
    away = stats.rename(stats.with_suffix(".away"))
    shard = own.difix.scene_run(SCENE).made_from.rename(own.difix.base / "away.json")
    shutil.rmtree(own.tree.training_artifacts_dir)
    evaluate(own)
    assert set(words(own)) == set()
    away.rename(stats)
    shard.rename(own.difix.scene_run(SCENE).made_from)
    told = words(own)[f"training artifacts of {SCENE}, epoch_0015"]
    assert f"`scene_runs/{SCENE}`: made anew" in told
    evaluate(own)
    assert any(own.tree.training_artifacts(15, "rgb").iterdir())


def test_a_damaged_sample_is_no_render(own: EvaluationCell) -> None:
    task = own.tree.task(0, "nvs")
    before = task.input_render(4, FRAMES[0]).read_bytes()
    (sample,) = own.difix.samples_dir.glob(f"*__tcam4__*__tf{FRAMES[0]}__*/image.png")
    rewritten(sample, own.scene.tree.render(28, FRAMES[0]).read_bytes())
    task.input_render(4, FRAMES[0]).unlink()
    predicted_epoch(reopened(own), 0)
    assert task.input_render(4, FRAMES[0]).read_bytes() == before


def purged(cell: EvaluationCell) -> EvaluationCell:
    """The cell after its scratch was purged: scene, registry, renders, samples, checkpoints and weights are gone."""
    folder = cell.difix.root.parent
    for name in ("gt", "estimated", "registry", "renders", "difix"):
        shutil.rmtree(folder / name)
    roots = cell.scene.roots
    return replace(cell, scene=Scene(roots=roots, tree=roots.tree(SCENE)))


def test_a_purged_scene_makes_no_work(own: EvaluationCell) -> None:
    cell = purged(own)
    found = words(cell)
    assert {text.partition(" ")[0] for text in found.values()} <= {"made"}
    assert len(all_units(cell)) == 1 + 2 * 3 + 3 * 3 + 1
    before = {path: path.stat().st_mtime_ns for path in cell.tree.base.rglob("*.csv")}
    evaluate(cell)
    assert {path: path.stat().st_mtime_ns for path in cell.tree.base.rglob("*.csv")} == before
    assert absent_tasks(cell) == {}
    assert check_manifest(cell).passed


def test_parts_that_are_purged_make_no_work(own: EvaluationCell) -> None:
    shutil.rmtree(own.scene.tree.estimated.base)
    shutil.rmtree(own.scene.tree.ground_truth.bodies_dir("smpl"))
    cell = reopened(own)
    assert absent_tasks(cell) == {}
    assert words(cell) == {}


def test_nothing_of_a_purged_scene_can_be_made_anew_and_that_is_missing(own: EvaluationCell) -> None:
    cell = purged(own)
    shutil.rmtree(cell.tree.base)
    assert {unit.look().state for unit in all_units(cell)} == {"missing"}


def as_older(cell: EvaluationCell) -> None:
    """The tree as the version before records left it."""
    for path in list(cell.tree.base.rglob("*made_from*.json")):
        path.unlink()
    for name in ("protocol.json", "predictions.json", "input_data.json", "artifacts.json"):
        for path in cell.tree.base.rglob(name):
            rewritten(path, json.dumps({**json.loads(path.read_text()), "input_digest": "0" * 64}, indent=2).encode())


def test_an_older_tree_works_and_is_taken_over_without_being_made_again(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    as_older(cell)
    before = {path: path.stat().st_mtime_ns for path in cell.tree.base.rglob("*") if path.is_file()}
    assert set(words(cell).values()) == {"made (not verified yet)"}
    for asset in ASSETS:
        for unit in units_of(asset, cell):
            assert take_over(unit) is not None
    assert words(cell) == {}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for check in (check_layout_version, check_input_data_clean, check_manifest):
        assert check(cell).passed
    told = words(open_cell(own_folder, nvs={"background": "white"}, pose={"world_alignment": "camera"}))
    assert told[f"nvs of {SCENE}, epoch_0000"] == "stale: `evaluation.nvs.background` was black, is white"
    assert "`evaluation.pose.world_alignment` was" in told[f"pose_smpl of {SCENE}, epoch_0000"]


def test_an_older_tree_may_be_taken_over_in_any_order(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    as_older(cell)
    for unit in reversed(all_units(cell)):
        assert take_over(unit) is not None
    assert words(cell) == {}


def test_evaluating_an_older_tree_takes_it_over(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    as_older(cell)
    before = {path: path.stat().st_mtime_ns for path in cell.tree.base.rglob("*") if path.is_file()}
    evaluate(cell)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert words(cell) == {}


def test_an_older_tree_that_is_not_whole_or_of_another_checkpoint_is_work(own_folder: Path) -> None:
    cell = open_cell(own_folder)
    as_older(cell)
    cell.tree.task(0, "nvs").nvs_results.unlink()
    cell.tree.task(0, "pose_smpl").true_body(FRAMES[0]).unlink()
    info = storage.read_json(cell.tuning_run.checkpoint_info(20), CheckpointInfo)
    storage.write_json(cell.tuning_run.checkpoint_info(20), info.model_copy(update={"sha256": "1" * 64}))
    assert {name for name, text in words(cell).items() if text.startswith("missing")} == {
        f"nvs of {SCENE}, epoch_0000",
        f"pose_smpl of {SCENE}, epoch_0000",
        f"predictions of {SCENE}, epoch_0030",
    }


def test_what_a_killed_process_left_without_a_record_is_missing(own: EvaluationCell) -> None:
    for unit in all_units(own):
        unit.place.record.unlink()
    own.tree.manifest.unlink()
    assert set(words(own).values()) == {"missing: it was not made yet"}
    evaluate(own)
    assert words(own) == {}


def test_bodies_that_are_measured_again_are_linked_from_an_equal_epoch(own: EvaluationCell) -> None:
    task, other = (own.tree.task(epoch, "pose_smplx") for epoch in (30, 0))
    shutil.rmtree(task.base)
    evaluate_pose(own, 30, "pose_smplx")
    assert task.true_body(FRAMES[0]).samefile(other.true_body(FRAMES[0]))
    assert task.pose_per_frame.read_bytes() == other.pose_per_frame.read_bytes()
    assert json.loads(task.protocol.read_text())["epoch"] == 30


def test_the_manifest_follows_the_numbers(own: EvaluationCell) -> None:
    version = manifest_unit(own).look().data_version
    shutil.rmtree(own.tree.task(15, "nvs").metrics_dir)
    compared_epoch(own, 15)
    assert manifest_unit(own).look().state == "missing"  # The epoch was taken back.
    evaluate(own)
    assert manifest_unit(own).look().data_version == version  # The same numbers of the same files.


# --- lineage: what it ticks ---------------------------------------------------------------------------------------------


def chain(cell: EvaluationCell, **chosen: Any) -> LineageLink:
    return evaluation_lineage(cell.tree, cell.difix, "tiny_a", cell.scene.roots, **chosen)


def links(link: LineageLink) -> Iterator[LineageLink]:
    yield link
    for below in link.made_from:
        yield from links(below)


def states(cell: EvaluationCell, **chosen: Any) -> dict[str, str]:
    """State of the links above the checkpoint, by kind and name."""
    kinds = ("evaluation", "numbers", "predictions")
    return {f"{each.kind} {each.name}": each.state for each in links(chain(cell, **chosen)) if each.kind in kinds}


def test_lineage_ticks_what_it_compared_with_a_record(own: EvaluationCell) -> None:
    assert set(states(own).values()) == {"verified"}
    for task in TASKS:
        own.tree.task(15, task).made_from.unlink()
    assert states(own, epochs=[15])["numbers nvs"] == "recorded"
    own.tree.task(15, "nvs").predictions_made_from.unlink()
    assert states(own, epochs=[15])["predictions predictions.json"] == "recorded"


def test_lineage_reads_what_kept_its_size_and_time(own: EvaluationCell) -> None:
    table = own.tree.task(0, "nvs").nvs_per_frame
    before = table.stat()
    rewritten(table, table.read_bytes().replace(b"1", b"2", 1))
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    (numbers,) = [each for each in links(chain(own, epochs=[0], tasks=["nvs"])) if each.kind == "numbers"]
    assert numbers.state == "broken"
    assert f"`metrics/{table.name}` (" in numbers.note
    render = own.tree.task(30, "nvs").input_render(4, FRAMES[0])
    rewritten(render, render.read_bytes()[:-1])
    (predictions,) = [each for each in links(chain(own, epochs=[30])) if each.kind == "predictions"]
    assert predictions.state == "broken"
    assert "cam_4/render/000000.png" in predictions.note


def test_lineage_says_that_predictions_are_others_than_the_numbers_are_of(own: EvaluationCell) -> None:
    record = own.tree.task(0, "nvs").predictions_made_from
    rewritten(record, record.read_bytes().replace(b'"data_version": "', b'"data_version": "f'))
    (numbers,) = [each for each in links(chain(own, epochs=[0], tasks=["nvs"])) if each.kind == "numbers"]
    assert numbers.note == "`predictions`: made anew"
