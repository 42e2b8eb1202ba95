"""The leaderboard: values and paired differences from trees, and what may not be paired."""

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.measured_tasks import MeasuredRun
from thesis_assets.evaluation.metric_tables import read_results, read_table
from thesis_assets.layout import ReportsTree
from thesis_assets.reports.leaderboard import (
    Baselines,
    build_leaderboard,
    frame_differences,
    run_differences,
    why_not_paired,
)
from thesis_assets.reports.leaderboard_pages import write_leaderboard
from thesis_assets.reports.leaderboard_tables import score_tables
from thesis_assets.schemas.evaluation import (
    NVS_CAMERA_COLUMNS,
    NVS_FRAME_COLUMNS,
    NVS_RESULT_KEYS,
    POSE_METRICS,
    POSE_MOTION_METRICS,
    DifferenceRow,
    LeaderboardRow,
)
from thesis_assets_tests.evaluation.measured import PROTOCOL, measured, run, single_spaced
from thesis_assets_tests.reports.compared_trees import record_again


def test_every_metric_of_every_task_and_epoch_has_a_row(evaluated: EvaluationCell) -> None:
    rows = build_leaderboard([("tiny_a", evaluated.tree)]).rows
    assert len(rows) == 3 * (len(NVS_RESULT_KEYS) + 2 * len(POSE_METRICS + POSE_MOTION_METRICS))
    results = read_results(evaluated.tree.task(30, "nvs").nvs_results, NVS_RESULT_KEYS)
    by_metric = {each.metric: each for each in rows if (each.epoch, each.task) == (30, "nvs")}
    for metric, value in results.items():
        assert by_metric[metric].value == (None if value is None else pytest.approx(value, abs=1e-4))
    assert (by_metric["psnr"].step, by_metric["psnr"].n_frames, by_metric["lpips"].n_frames) == (20, 8, 0)


def test_a_difference_is_paired_by_frame(evaluated: EvaluationCell) -> None:
    tables = [read_table(evaluated.tree.task(epoch, "nvs").nvs_per_frame, NVS_FRAME_COLUMNS) for epoch in (0, 15)]
    by_hand = [(after["psnr"] or 0) - (before["psnr"] or 0) for before, after in zip(*tables, strict=True)]
    board = build_leaderboard([("a", evaluated.tree)])
    found = {(each.epoch, each.metric): each for each in board.rows}
    assert found[15, "psnr"].difference_to_unrefined == pytest.approx(sum(by_hand) / 8)
    assert found[0, "psnr"].difference_to_unrefined is None
    assert found[15, "lpips"].difference_to_unrefined is None
    over_scenes = next(each for each in board.differences if (each.epoch, each.metric) == (15, "psnr"))
    assert over_scenes.difference == pytest.approx(sum(by_hand) / 8)
    assert (over_scenes.n_scenes, over_scenes.interval_over) == (
        1,
        None,
    )  # two cameras' four frames: two blocks of time


def test_a_run_is_compared_with_its_baseline_at_the_same_epoch(evaluated: EvaluationCell) -> None:
    trees = [("tiny_a", evaluated.tree), ("tiny_b", evaluated.tree)]
    board = build_leaderboard(trees, Baselines({("demo", "tiny_a"): ("demo", "tiny_b")}))
    of_a = [each for each in board.rows if (each.run_name, each.task, each.metric) == ("tiny_a", "nvs", "psnr")]
    assert [(each.baseline, each.difference_to_baseline) for each in of_a] == [("demo/tiny_b", 0.0)] * 3
    assert {each.baseline for each in board.rows if each.run_name == "tiny_b"} == {None}
    assert {each.against for each in board.differences if each.run_name == "tiny_a"} == {"unrefined", "demo/tiny_b"}


def test_a_frame_without_a_value_on_one_side_is_left_out_of_the_mean() -> None:
    assert frame_differences(measured([21.0, None, 20.0]), measured([20.0, 20.0, 20.5]), "psnr") == {
        "cam_4/000000": pytest.approx(1.0),
        "cam_4/000002": pytest.approx(-0.5),
    }


def test_a_difference_that_may_not_be_taken_says_why() -> None:
    here = measured([20.0, 21.0])
    assert why_not_paired(here, measured([19.0, 20.0])) is None
    assert "the frames differ: 1" in (why_not_paired(here, measured([19.0])) or "")
    other = measured([19.0, 20.0], comparable={**PROTOCOL, "region": "mask"})
    assert "region is full_frame, and there mask" in (why_not_paired(here, other) or "")
    cameras = measured([19.0, 20.0], comparable={**PROTOCOL, "cameras": [5]})
    assert "cameras" in (why_not_paired(here, cameras) or "")
    assert "not measured" in (why_not_paired(here, None) or "")


def test_predictions_refined_at_other_sizes_are_never_paired() -> None:
    small, large = (measured([20.0], comparable={**PROTOCOL, "refiner_size": size}) for size in (320, 512))
    assert "refiner_size is 320, and there 512" in (why_not_paired(small, large) or "")
    assert "refiner_size is 320, and there absent" in (why_not_paired(small, measured([20.0])) or "")
    unrefined = measured([19.0], epoch=0)
    assert why_not_paired(small, unrefined) is None  # refined at no size
    assert small.table_digest == unrefined.table_digest


def to_baseline(tuned: MeasuredRun, baseline: MeasuredRun) -> DifferenceRow:
    return next(each for each in run_differences(tuned, baseline) if each.against == "demo/baseline")


def test_runs_over_other_scenes_have_no_difference_over_scenes_and_say_why() -> None:
    one, two = {"d_a": measured([20.0])}, {"d_a": measured([20.1]), "d_b": measured([21.0])}
    found = to_baseline(run("tuned", one), run("baseline", two))
    assert (found.difference, found.n_scenes, found.by_scene) == (None, 0, {})
    assert found.reason == "the scenes differ: demo/baseline is measured also d_b"


def test_of_many_scenes_that_differ_some_are_named_and_the_others_counted() -> None:
    many = {f"d_{letter}": measured([20.0]) for letter in "abcdef"}
    found = to_baseline(run("tuned", {"d_a": measured([20.0])}), run("baseline", many))
    assert found.reason == "the scenes differ: demo/baseline is measured also d_b, d_c, d_d and 2 more"


def test_one_scene_that_may_not_be_paired_leaves_no_difference_over_the_others() -> None:
    tuned = {"d_a": measured([20.0]), "d_b": measured([20.0, 20.0])}
    baseline = {"d_a": measured([19.0]), "d_b": measured([20.0])}
    found = to_baseline(run("tuned", tuned), run("baseline", baseline))
    assert found.difference is None
    assert (found.reason or "").startswith("d_b: the frames differ")


def test_scenes_with_other_cameras_are_averaged_and_with_another_region_are_not() -> None:
    for comparable, averaged in (({**PROTOCOL, "cameras": [9]}, True), ({**PROTOCOL, "region": "mask"}, False)):
        unrefined = {"d_a": measured([19.0], epoch=0), "d_b": measured([20.0], epoch=0, comparable=comparable)}
        tuned = {"d_a": measured([20.0]), "d_b": measured([21.0], comparable=comparable)}
        found = next(run_differences(run("a", tuned, unrefined)))
        assert (found.difference is not None) == averaged


def test_other_protocols_are_never_paired(own: EvaluationCell) -> None:
    protocol = storage.read_json_value(own.tree.task(0, "nvs").protocol)
    protocol["comparable"]["downscale_factor"] = 1
    storage.write_json(own.tree.task(0, "nvs").protocol, protocol)
    record_again(own.tree.task(0, "nvs"))
    board = build_leaderboard([("a", own.tree)])
    of_nvs = [each for each in board.rows if each.task == "nvs"]
    assert {each.difference_to_unrefined for each in of_nvs} == {None}
    assert {each.unrefined_reason for each in of_nvs if each.epoch} == {
        "the protocols differ: downscale_factor is 2, and there 1"
    }
    assert len({each.protocol_digest for each in of_nvs}) == 2


def test_what_is_not_evaluated_gives_no_row_and_what_is_damaged_gives_no_value(own: EvaluationCell) -> None:
    own.tree.task(15, "nvs").nvs_per_frame.write_text("")
    rows = build_leaderboard([("a", own.tree)]).rows
    assert {each.value for each in rows if (each.epoch, each.task) == (15, "nvs")} == {None}
    own.tree.manifest.unlink()
    own.tree.manifest_made_from.unlink()
    assert build_leaderboard([("a", own.tree)]).rows == []


TEXTS = ("damaged", "moved", "leaked", "seeds_of", "seeds_left_out")


def as_older(cell: EvaluationCell) -> None:
    """Make the tree what older scripts wrote: five columns, their PSNR, no protocol."""
    cell.tree.manifest_made_from.unlink()
    for epoch in cell.epoch_steps():
        task = cell.tree.task(epoch, "nvs")
        task.protocol.unlink()
        task.made_from.unlink()
        rows = read_table(task.nvs_per_frame, NVS_FRAME_COLUMNS)
        lines = [
            f"{row['camera_id']:.0f},{row['frame_id']:.0f},{row['psnr_channel_sum']},{row['ssim']}," for row in rows
        ]
        task.nvs_per_frame.write_text("\n".join(["camera_id,frame_id,psnr,ssim,lpips", *lines]) + "\n")
        means = read_table(task.nvs_per_camera, NVS_CAMERA_COLUMNS)
        lines = [f"{row['camera_id']:.0f},{row['psnr_channel_sum']},{row['ssim']}," for row in means]
        task.nvs_per_camera.write_text("\n".join(["camera_id,psnr,ssim,lpips", *lines]) + "\n")
        overall = read_results(task.nvs_results, NVS_RESULT_KEYS)
        task.nvs_results.write_text(f"psnr: {overall['psnr_channel_sum']}\nssim: {overall['ssim']}\nlpips: nan\n")


def test_the_psnr_of_an_older_tree_enters_as_the_channel_sum_and_never_as_psnr(
    own: EvaluationCell, evaluated: EvaluationCell
) -> None:
    as_older(own)
    board = build_leaderboard([("older", own.tree), ("tiny_a", evaluated.tree)])
    found = {(each.run_name, each.epoch, each.metric): each for each in board.rows if each.task == "nvs"}
    assert found["older", 30, "psnr"].value is None
    same, ours = found["older", 30, "psnr_channel_sum"], found["tiny_a", 30, "psnr_channel_sum"]
    assert same.value == pytest.approx(ours.value, abs=1e-5)
    assert (ours.value or 0) - (found["tiny_a", 30, "psnr"].value or 0) == pytest.approx(-4.771, abs=1e-3)
    # Within the one tree the script was the same.
    assert same.difference_to_unrefined == pytest.approx(ours.difference_to_unrefined, abs=1e-5)


def test_an_older_tree_never_shares_a_table_or_a_difference_with_one_of_ours(
    own: EvaluationCell, evaluated: EvaluationCell
) -> None:
    as_older(own)
    board = build_leaderboard(
        [("older", own.tree), ("tiny_a", evaluated.tree)], Baselines({("demo", "tiny_a"): ("demo", "older")})
    )
    tables = [table for table in score_tables(board) if table.task == "nvs"]
    assert [(table.stated, list(table.runs)) for table in tables] == [
        (True, [("demo", "tiny_a")]),
        (False, [("demo", "older")]),
    ]
    to_older = [each for each in board.differences if (each.against, each.task) == ("demo/older", "nvs")]
    assert {each.difference for each in to_older} == {None}
    assert {each.reason for each in to_older} == {
        f"{own.scene.name}: the protocol of at least one is not stated",
    }


def test_a_tree_of_ours_that_lost_its_protocol_is_not_taken_for_an_older_one(own: EvaluationCell) -> None:
    own.tree.task(30, "nvs").protocol.unlink()
    rows = [each for each in build_leaderboard([("a", own.tree)]).rows if each.task == "nvs"]
    assert {each.epoch for each in rows if each.value is not None} == {0, 15}
    assert {each.damaged for each in rows if each.epoch == 30} == {"damaged: `metrics/protocol.json` (missing)"}


def test_the_files_hold_every_row_and_a_picture(evaluated: EvaluationCell, tmp_path: Path) -> None:
    board = build_leaderboard([("tiny_a", evaluated.tree)])
    reports = ReportsTree(tmp_path)
    write_leaderboard(reports, board)
    back = list(csv.DictReader(io.StringIO(reports.leaderboard_csv.read_text())))
    assert [
        LeaderboardRow.model_validate({k: v or (None if k not in TEXTS else "") for k, v in line.items()})
        for line in back
    ] == board.rows
    assert len(reports.leaderboard_differences.read_text().splitlines()) == 1 + len(board.differences)
    text = single_spaced(reports.leaderboard_markdown.read_text())
    assert "| demo | tiny_a | studio_pair03_dance | 30 | 20 |" in text
    assert "leaderboard.png" in text
    with Image.open(reports.leaderboard_plot) as picture:
        assert picture.size[0] >= 600
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
