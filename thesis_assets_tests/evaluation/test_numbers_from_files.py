"""Every number in every required file comes out again of the saved images and arrays, by other libraries' formulas."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.layout import TASKS
from thesis_assets_tests.evaluation.from_saved_files import assert_task_is_reproduced
from thesis_assets_tests.evaluation.tiny_cell import (
    FRAMES,
    HEIGHT,
    WIDTH,
    compared_epoch,
    open_cell,
    predicted_epoch,
    reopened,
    write_png,
)

NVS_NUMBERS = 8 * 6 + 2 * 5 + 4
POSE_NUMBERS = 4 * 9 + 8


def test_all_numbers_of_a_scene_are_reproduced(evaluated: EvaluationCell) -> None:
    for epoch in (0, 15, 30):
        for task in TASKS:
            count = assert_task_is_reproduced(evaluated.tree.task(epoch, task).base)
            assert count == (NVS_NUMBERS if task == "nvs" else POSE_NUMBERS)


@pytest.mark.parametrize(("region", "background"), [("mask", "none"), ("bbox", "white"), ("full_frame", "none")])
def test_every_region_and_background_is_reproduced(own_folder: Path, region: str, background: str) -> None:
    cell = open_cell(own_folder, nvs={"region": region, "background": background, "downscale_factor": 1})
    write_png(cell.scene.tree.ground_truth.mask(4, FRAMES[1]), np.zeros((HEIGHT, WIDTH), np.uint8))
    predicted_epoch(cell, 15)
    compared_epoch(cell, 15)
    assert assert_task_is_reproduced(cell.tree.task(15, "nvs").base) == NVS_NUMBERS


def test_alignment_by_camera_is_reproduced(own_folder: Path) -> None:
    cell = open_cell(own_folder, pose={"world_alignment": "camera"})
    evaluate_pose(cell, 15, "pose_smplx")
    assert assert_task_is_reproduced(cell.tree.task(15, "pose_smplx").base) == POSE_NUMBERS


def test_one_other_pixel_is_noticed(own: EvaluationCell) -> None:
    path = own.tree.task(0, "nvs").pred_image(4, FRAMES[0])
    pixels = np.asarray(Image.open(path)).copy()
    pixels[12, 10] ^= 128
    path.unlink()
    Image.fromarray(pixels).save(path)
    with pytest.raises(AssertionError, match="psnr"):
        assert_task_is_reproduced(reopened(own).tree.task(0, "nvs").base)
