"""LPIPS in the tables of novel views: filled where its weights are, computed once more, explained where it is empty."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.evaluation.checks import check_lpips, check_metrics_recompute
from thesis_assets.evaluation.measured_tasks import measured_task
from thesis_assets.evaluation.metric_tables import frame_columns, read_protocol, read_table, task_faults
from thesis_assets.evaluation.nvs_metrics import EMPTY_MASK, TOO_SMALL, NvsComparison, view_metrics
from thesis_assets.evaluation.units import task_unit
from thesis_assets.images.codecs import read_rgb
from thesis_assets.images.perceptual import load_lpips
from thesis_assets.schemas.evaluation import NVS_FRAME_COLUMNS, NVS_RESULT_KEYS, parse_results
from thesis_assets_tests.evaluation.tiny_cell import compared_epoch, make_cell, open_cell, predicted_epoch
from thesis_assets_tests.images.lpips_weights import write_lpips_weights


def test_weights_that_come_later_make_no_work_and_fill_the_column_where_it_is_made_anew(tmp_path: Path) -> None:
    cell = make_cell(tmp_path, tasks=["nvs"], epochs=[0])
    predicted_epoch(cell, 0)
    said: list[str] = []
    compared_epoch(cell, 0, said.append)
    (why,) = check_lpips(cell).offenders
    assert "vgg16-397923af.pth" in why
    assert "THESIS_LPIPS_WEIGHTS" in why
    assert "`make lpips`" in why
    assert f"put vgg16-397923af.pth and vgg.pth into {cell.lpips_weights}" in why
    assert not [line for line in said if "vgg16" in line], "what a machine lacks is said once, at the end of a command"

    write_lpips_weights(tmp_path / "lpips")
    task = cell.tree.task(0, "nvs")
    table = task.nvs_per_frame.read_bytes()
    compared_epoch(cell, 0)
    assert task.nvs_per_frame.read_bytes() == table
    assert task_unit(cell, 0, "nvs").look().in_words == "made (without lpips, which is here)"
    task.nvs_results.unlink()
    compared_epoch(cell, 0)
    lpips = load_lpips(cell.lpips_weights)
    rows = list(csv.DictReader(task.nvs_per_frame.open()))
    for row in rows:
        key = (int(row["camera_id"]), f"{int(row['frame_id']):06d}")
        wanted = lpips.distance(read_rgb(task.pred_image(*key)), read_rgb(task.gt_image(*key)))
        assert float(row["lpips"]) == pytest.approx(wanted, abs=2e-6)
        assert float(row["lpips"]) > 0
    cameras = list(csv.DictReader(task.nvs_per_camera.open()))
    for camera in cameras:
        own = [float(row["lpips"]) for row in rows if row["camera_id"] == camera["camera_id"]]
        assert float(camera["lpips"]) == pytest.approx(np.mean(own), abs=2e-6)
    overall = parse_results(task.nvs_results.read_text())["lpips"]
    assert overall == pytest.approx(np.mean([float(row["lpips"]) for row in rows]), abs=1e-4)
    assert lpips.digest in json.loads(task.protocol.read_text())["comparable"]["lpips"]
    assert list(task_faults(task)) == []
    assert check_lpips(cell).passed
    assert check_metrics_recompute(cell).passed

    text = task.nvs_per_frame.read_text()
    task.nvs_per_frame.write_text(text.replace(rows[0]["lpips"], f"{float(rows[0]['lpips']) + 0.01:.6f}"))
    assert "lpips" in check_metrics_recompute(cell).offenders[0]
    # Where the weights are gone, or others, the written value cannot be checked, and is not called wrong.
    task.nvs_per_frame.write_text(text)
    without = replace(cell, lpips_weights=tmp_path / "nowhere")
    assert check_metrics_recompute(without).passed
    compared_epoch(without, 0)
    assert task.nvs_per_frame.read_text() == text
    assert "which is not here" in task_unit(without, 0, "nvs").look().in_words
    protocol = read_protocol(task)
    assert protocol is not None
    assert protocol.empty_metrics == {}


def test_every_convention_has_a_column_of_its_own(tmp_path: Path) -> None:
    cell = make_cell(
        tmp_path, tasks=["nvs"], epochs=[0], nvs={"lpips": ["vgg", "alex", "vgg_3dgs"], "downscale_factor": 1}
    )
    folder = write_lpips_weights(tmp_path / "lpips")
    predicted_epoch(cell, 0)
    protocol = compared_epoch(cell, 0)
    task = cell.tree.task(0, "nvs")
    columns = (*NVS_FRAME_COLUMNS, "lpips_alex", "lpips_vgg_3dgs")
    assert frame_columns(task) == columns
    assert "alexnet" in protocol.empty_metrics["lpips_alex"]
    assert {row["lpips_alex"] for row in read_table(task.nvs_per_frame, columns)} == {None}
    assert "`make lpips-alex`" in check_lpips(cell).offenders[0]
    assert "lpips_alex: nan" in task.nvs_results.read_text()

    write_lpips_weights(folder, network="alex")
    task.nvs_results.unlink()
    protocol = compared_epoch(cell, 0)
    rows = read_table(task.nvs_per_frame, columns)
    for convention, column in (("vgg", "lpips"), ("alex", "lpips_alex"), ("vgg_3dgs", "lpips_vgg_3dgs")):
        lpips = load_lpips(folder, convention=convention)
        assert protocol.comparable[column] == lpips.in_words
        for row in rows:
            key = (int(row["camera_id"] or 0), f"{int(row['frame_id'] or 0):06d}")
            wanted = lpips.distance(read_rgb(task.pred_image(*key)), read_rgb(task.gt_image(*key)))
            assert row[column] == pytest.approx(wanted, abs=2e-6)
        mean = np.mean([row[column] for row in rows])  # type: ignore[arg-type]
        assert parse_results(task.nvs_results.read_text())[column] == pytest.approx(mean, abs=1e-4)
    assert list(task_faults(task)) == []
    assert check_metrics_recompute(cell).passed
    found = measured_task(task, 0)
    assert found is not None
    assert found.metrics == (*NVS_RESULT_KEYS, "lpips_alex", "lpips_vgg_3dgs")
    text = task.nvs_per_frame.read_text()
    for column in ("lpips_alex", "lpips_vgg_3dgs"):
        value = f"{rows[0][column]:.6f}"
        task.nvs_per_frame.write_text(text.replace(value, f"{float(value) + 0.01:.6f}"))
        assert column in check_metrics_recompute(cell).offenders[0]


def test_naming_the_one_that_was_measured_before_makes_no_work(own_folder: Path) -> None:
    """A record of before has no such option: it means VGG16."""
    task = open_cell(own_folder).tree.task(0, "nvs")
    record = storage.read_json_value(task.made_from)
    del record["options"]["evaluation"]["nvs"]["lpips"]
    storage.write_json(task.made_from, record)
    look = task_unit(open_cell(own_folder, nvs={"lpips": ["vgg"]}), 0, "nvs").look()
    assert look.in_words == "made"
    more = task_unit(open_cell(own_folder, nvs={"lpips": ["vgg", "alex"]}), 0, "nvs").look()
    assert "`evaluation.nvs.lpips` was ['vgg'], is ['vgg', 'alex']" in more.in_words


def test_only_the_region_enters_the_distance_and_an_empty_value_has_its_reason(tmp_path: Path) -> None:
    lpips = load_lpips(write_lpips_weights(tmp_path))
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    mask = np.zeros((40, 50), bool)
    mask[4:30, 10:40] = True
    outside = np.where(mask[..., None], a, np.uint8(255) - a)
    how = NvsComparison("bbox", "none", 1)
    by_column = {"lpips": lpips}
    inside = view_metrics(a, b, mask, how, by_column).values["lpips"]
    assert inside == view_metrics(outside, b, mask, how, by_column).values["lpips"]
    assert inside == pytest.approx(lpips.distance(a[4:30, 10:40], b[4:30, 10:40]))

    narrow = np.zeros_like(mask)
    narrow[4:18, 10:40] = True
    assert view_metrics(a, b, narrow, how, by_column).reasons["lpips"] == TOO_SMALL.format(16)
    assert view_metrics(a, b, np.zeros_like(mask), how, by_column).reasons["lpips"] == EMPTY_MASK
    assert "lpips" not in view_metrics(a, b, np.zeros_like(mask), how).reasons
