"""LPIPS in the tables of novel views: filled where its weights are, computed once more, explained where it is empty."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.evaluation.metric_tables import read_protocol, task_faults
from thesis_assets.evaluation.nvs_metrics import EMPTY_MASK, TOO_SMALL, NvsComparison, view_metrics
from thesis_assets.evaluation.required_files import check_lpips, check_metrics_recompute
from thesis_assets.evaluation.units import task_unit
from thesis_assets.images.codecs import read_rgb
from thesis_assets.images.perceptual import load_lpips
from thesis_assets.schemas.evaluation import parse_results
from thesis_assets_tests.evaluation.tiny_cell import compared_epoch, make_cell, predicted_epoch
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


def test_only_the_region_enters_the_distance_and_an_empty_value_has_its_reason(tmp_path: Path) -> None:
    lpips = load_lpips(write_lpips_weights(tmp_path))
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    mask = np.zeros((40, 50), bool)
    mask[4:30, 10:40] = True
    outside = np.where(mask[..., None], a, np.uint8(255) - a)
    how = NvsComparison("bbox", "none", 1)
    inside = view_metrics(a, b, mask, how, lpips).values["lpips"]
    assert inside == view_metrics(outside, b, mask, how, lpips).values["lpips"]
    assert inside == pytest.approx(lpips.distance(a[4:30, 10:40], b[4:30, 10:40]))

    narrow = np.zeros_like(mask)
    narrow[4:18, 10:40] = True
    assert view_metrics(a, b, narrow, how, lpips).reasons["lpips"] == TOO_SMALL
    assert view_metrics(a, b, np.zeros_like(mask), how, lpips).reasons["lpips"] == EMPTY_MASK
    assert "lpips" not in view_metrics(a, b, np.zeros_like(mask), how).reasons
