"""The leaderboard: values and paired differences from trees, and its pages."""

import csv
import io
from pathlib import Path

import pytest
from PIL import Image

from thesis_assets import storage
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.leaderboard import build_leaderboard, paired_difference, write_leaderboard
from thesis_assets.evaluation.leaderboard_pages import markdown_text
from thesis_assets.evaluation.leaderboard_plot import plotted_bars, value_range
from thesis_assets.evaluation.metric_tables import read_results, read_table
from thesis_assets.layout import ReportsTree
from thesis_assets.schemas.evaluation import NVS_FRAME_COLUMNS, NVS_RESULT_KEYS, POSE_METRICS, LeaderboardRow


def row(run: str = "a", scene: str = "s_1", epoch: int = 15, **more: object) -> LeaderboardRow:
    values: dict[str, object] = {
        "exp_name": "demo",
        "run_name": run,
        "scene_name": scene,
        "epoch": epoch,
        "step": 10,
        "task": "nvs",
        "metric": "psnr",
        "value": 20.0,
        "difference_to_unrefined": 0.1,
        "n_frames": 4,
        "protocol_digest": "0" * 64,
    }
    return LeaderboardRow.model_validate({**values, **more})


def test_every_metric_of_every_task_and_epoch_has_a_row(evaluated: EvaluationCell) -> None:
    rows = build_leaderboard([("tiny_a", evaluated.tree)])
    assert len(rows) == 3 * (len(NVS_RESULT_KEYS) + 2 * len(POSE_METRICS))
    results = read_results(evaluated.tree.task(30, "nvs").nvs_results, NVS_RESULT_KEYS)
    by_metric = {each.metric: each for each in rows if (each.epoch, each.task) == (30, "nvs")}
    for metric, value in results.items():
        assert by_metric[metric].value == (None if value is None else pytest.approx(value, abs=1e-4))
    assert (by_metric["psnr"].step, by_metric["psnr"].n_frames, by_metric["lpips"].n_frames) == (20, 8, 0)


def test_a_difference_is_paired_by_frame(evaluated: EvaluationCell) -> None:
    tables = [read_table(evaluated.tree.task(epoch, "nvs").nvs_per_frame, NVS_FRAME_COLUMNS) for epoch in (0, 15)]
    by_hand = [(after["psnr"] or 0) - (before["psnr"] or 0) for before, after in zip(*tables, strict=True)]
    found = {
        (each.epoch, each.metric): each.difference_to_unrefined for each in build_leaderboard([("a", evaluated.tree)])
    }
    assert found[15, "psnr"] == pytest.approx(sum(by_hand) / 8)
    assert found[0, "psnr"] is None
    assert found[15, "lpips"] is None


def test_only_frames_that_both_have_are_paired() -> None:
    after = {"000000": {"psnr": 21.0}, "000001": {"psnr": 40.0}, "000002": {"psnr": None}, "000003": {"psnr": 20.0}}
    before = {"000000": {"psnr": 20.0}, "000002": {"psnr": 20.0}, "000003": {"psnr": 20.5}}
    assert paired_difference(after, before, "psnr") == pytest.approx((1.0 - 0.5) / 2)
    assert paired_difference(after, {}, "psnr") is None


def test_other_protocols_are_never_paired(own: EvaluationCell) -> None:
    protocol = storage.read_json_value(own.tree.task(0, "nvs").protocol)
    protocol["comparable"]["downscale_factor"] = 1
    storage.write_json(own.tree.task(0, "nvs").protocol, protocol)
    rows = build_leaderboard([("a", own.tree)])
    assert {each.difference_to_unrefined for each in rows if each.task == "nvs"} == {None}
    assert len({each.protocol_digest for each in rows if each.task == "nvs"}) == 2


def test_what_is_not_evaluated_gives_no_row_and_what_is_damaged_gives_no_value(own: EvaluationCell) -> None:
    own.tree.task(15, "nvs").nvs_per_frame.write_text("")
    rows = build_leaderboard([("a", own.tree)])
    assert {each.value for each in rows if (each.epoch, each.task) == (15, "nvs")} == {None}
    own.tree.manifest.unlink()
    assert build_leaderboard([("a", own.tree)]) == []


def test_the_pages_hold_every_row_and_a_picture(evaluated: EvaluationCell, tmp_path: Path) -> None:
    rows = build_leaderboard([("tiny_a", evaluated.tree)])
    reports = ReportsTree(tmp_path)
    write_leaderboard(reports, rows)
    back = list(csv.DictReader(io.StringIO(reports.leaderboard_csv.read_text())))
    assert [LeaderboardRow.model_validate({k: v or None for k, v in line.items()}) for line in back] == rows
    text = reports.leaderboard_markdown.read_text()
    assert "| demo | tiny_a | studio_pair03_dance | 30 | 20 |" in text
    assert "leaderboard.png" in text
    with Image.open(reports.leaderboard_plot) as picture:
        assert picture.size[0] >= 600
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20


def test_without_any_row_the_pages_say_so(tmp_path: Path) -> None:
    write_leaderboard(ReportsTree(tmp_path), [])
    assert "Nothing is evaluated yet" in ReportsTree(tmp_path).leaderboard_markdown.read_text()
    assert ReportsTree(tmp_path).leaderboard_plot.stat().st_size > 500


def test_scenes_of_a_run_are_averaged_only_under_one_protocol() -> None:
    two = [row(value=20.0), row(scene="s_2", value=21.0, difference_to_unrefined=0.3)]
    assert "| demo | a | avg | 15 | 10 | 20.500 | +0.200 |" in markdown_text(two, plot_name="p.png")
    other = [two[0], two[1].model_copy(update={"protocol_digest": "1" * 64})]
    assert "avg | 15" not in markdown_text(other, plot_name="p.png")


def test_the_plot_has_a_bar_a_run_and_epoch_with_a_dot_a_scene() -> None:
    rows = [row(), row(scene="s_2", difference_to_unrefined=0.3), row(epoch=30), row("b"), row(metric="ssim")]
    bars = plotted_bars([*rows, row(epoch=0, difference_to_unrefined=None)])
    assert [(bar.run, bar.epoch, bar.differences) for bar in bars] == [
        ("demo / a", 15, (0.1, 0.3)),
        ("demo / a", 30, (0.1,)),
        ("demo / b", 15, (0.1,)),
    ]
    assert bars[0].mean == pytest.approx(0.2)


@pytest.mark.parametrize("values", [[0.0], [0.1, -0.05], [1e-6], [3.0, 20.0], [-7.0], [1234.5, -0.01]])
def test_the_ticks_hold_zero_and_every_value(values: list[float]) -> None:
    low, high, step = value_range(values)
    assert low <= min(0.0, *values)
    assert high >= max(0.0, *values)
    assert 2 <= round((high - low) / step) <= 12
