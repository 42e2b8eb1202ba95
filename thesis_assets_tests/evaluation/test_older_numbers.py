"""Trees of other scripts: their tables and their text file must agree, or nothing of them is taken."""

import shutil
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.metric_tables import older_faults
from thesis_assets.evaluation.source_trees import take_numbers
from thesis_assets.layout import EvaluationTree, TaskTree
from thesis_assets.reports.leaderboard import build_leaderboard
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets_tests.evaluation.tiny_cell import FRAMES, SCENE, SOURCE, open_cell

CAMERAS = (4, SOURCE, 28)


def write_older(folder: Path, *, source: float = 40.0, text: float | None = None, decimals: int = 4) -> EvaluationTree:
    """A tree as other scripts leave it: 18.x dB, and rows of the source camera, which is far better."""
    tree = EvaluationTree(folder, "old")
    task = tree.task(30, "nvs")
    psnr = {
        (cam, place): source if cam == SOURCE else 18 + 0.1 * place for cam in CAMERAS for place in range(len(FRAMES))
    }
    lines = [f"{cam},{place},{value},0.9,0.1" for (cam, place), value in psnr.items()]
    storage.write_text(task.nvs_per_frame, "\n".join(["camera_id,frame_id,psnr,ssim,lpips", *lines]) + "\n")
    mean = {cam: sum(psnr[cam, place] for place in range(len(FRAMES))) / len(FRAMES) for cam in CAMERAS}
    lines = [f"{cam},{value:.{decimals}f},0.9,0.1" for cam, value in mean.items()]
    storage.write_text(task.nvs_per_camera, "\n".join(["camera_id,psnr,ssim,lpips", *lines]) + "\n")
    said = (mean[4] + mean[28]) / 2 if text is None else text
    storage.write_text(task.nvs_results, f"psnr: {said:.{decimals}f}\nssim: 0.9\nlpips: 0.1\n")
    manifest = EvaluationManifest(
        output_layout_version="v1",
        exp_name="old",
        scene_name=SCENE,
        tasks=["nvs"],
        eval_epochs=["epoch_0030"],
        nvs_cameras=list(CAMERAS),
        source_camera_id=SOURCE,
        pose_eval_world_alignment_method=None,
        notes={},
    )
    storage.write_json(tree.manifest, manifest)
    return tree


def halved(task: TaskTree) -> None:
    lines = task.nvs_per_frame.read_text().splitlines(keepends=True)
    task.nvs_per_frame.write_text("".join(lines[:7]))


@pytest.mark.parametrize("decimals", [2, 4, 6])
def test_a_tree_that_agrees_counts_without_its_source_camera(tmp_path: Path, decimals: int) -> None:
    tree = write_older(tmp_path, decimals=decimals)
    (row,) = [each for each in build_leaderboard([("a", tree)]).rows if each.metric == "psnr_channel_sum"]
    assert (row.value, row.damaged) == (pytest.approx(18.15), "")


@pytest.mark.parametrize("said", [18.15, (18.15 * 2 + 40) / 3])
def test_the_text_may_be_over_all_rows_or_over_those_without_the_source_camera(tmp_path: Path, said: float) -> None:
    assert older_faults(write_older(tmp_path, text=said).task(30, "nvs"), SOURCE) == []


def test_half_a_table_and_a_text_that_its_table_does_not_give_count_nowhere(tmp_path: Path) -> None:
    for name, text in (("half", None), ("text", 99.0)):
        tree = write_older(tmp_path / name, text=text)
        if text is None:
            halved(tree.task(30, "nvs"))
        rows = build_leaderboard([("a", tree)]).rows
        assert {row.value for row in rows} == {None}, name
        assert all("damaged: `metrics/" in row.damaged for row in rows)


@pytest.mark.parametrize("spoil", ["half", "text", "per_camera", "no_text"])
def test_a_tree_whose_files_do_not_agree_is_not_taken_over(own: EvaluationCell, tmp_path: Path, spoil: str) -> None:
    source = write_older(tmp_path / "older", text=99.0 if spoil == "text" else None)
    task = source.task(30, "nvs")
    if spoil == "half":
        halved(task)
    elif spoil == "per_camera":
        task.nvs_per_camera.write_text(task.nvs_per_camera.read_text().replace("18.15", "28.15", 1))
    elif spoil == "no_text":
        task.nvs_results.unlink()
    cell = existing(own, source)
    with pytest.raises(InvalidFile, match="do not agree"):
        take_numbers(cell, 30, "nvs")
    assert not cell.tree.base.exists()


def test_what_was_taken_over_before_is_held_against_the_text_that_came_with_it(
    own: EvaluationCell, tmp_path: Path
) -> None:
    """A text file of 99 dB over a table of 18: both stood on the board."""
    from thesis_assets_tests.reports.compared_trees import record_again

    cell = existing(own, write_older(tmp_path / "older"))
    take_numbers(cell, 30, "nvs")
    task = cell.tree.task(30, "nvs")
    storage.write_json(cell.tree.manifest, storage.read_json(source_manifest(tmp_path), EvaluationManifest))
    (row,) = [each for each in build_leaderboard([("a", cell.tree)]).rows if each.metric == "psnr_channel_sum"]
    assert row.value == pytest.approx(18.15)
    protocol = storage.read_json_value(task.protocol)
    protocol["details"]["its own results"] = "psnr: 99.0\n"
    storage.write_json(task.protocol, protocol)
    record_again(task)
    rows = build_leaderboard([("a", cell.tree)]).rows
    assert {each.value for each in rows} == {None}
    assert "psnr is 99.0" in rows[0].damaged


def source_manifest(tmp_path: Path) -> Path:
    return EvaluationTree(tmp_path / "older", "old").manifest


def existing(own: EvaluationCell, source: EvaluationTree) -> EvaluationCell:
    """The cell with numbers that are taken from a tree."""
    shutil.rmtree(own.tree.base)
    predictions = {"source": "existing", "tree": str(source.base)}
    return open_cell(own.difix.base.parents[1], epochs=[30], tasks=["nvs"], predictions=predictions)
