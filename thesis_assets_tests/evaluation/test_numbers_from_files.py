"""Every number in every required file comes out again of the saved images and arrays, by other libraries' formulas."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.pose import evaluate_pose
from thesis_assets.layout import TASKS
from thesis_assets.scenes.bodies import read_bodies
from thesis_assets.scenes.scene import write_registry
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

Arrays = dict[str, Any]


def of_people(order: list[int]) -> Callable[[str, Arrays], Arrays]:
    return lambda _, arrays: {name: array if name == "faces" else array[order] for name, array in arrays.items()}


def mirrored(_: str, arrays: Arrays) -> Arrays:
    return {**arrays, **{name: arrays[name] * np.float32([-1, 1, 1]) for name in ("joints", "vertices")}}


def close(_: str, arrays: Arrays) -> Arrays:
    """The second person's pelvis 5 cm beside the first's."""
    apart = arrays["joints"][1, 0] - arrays["joints"][0, 0] - np.float32([0.05, 0, 0])
    moved = {name: np.stack([arrays[name][0], arrays[name][1] - apart]) for name in ("joints", "vertices")}
    return {**arrays, **moved}


def not_finite(fname: str, arrays: Arrays) -> Arrays:
    """One vertex of one person at one frame, one joint at another."""
    for name, at in (("vertices", FRAMES[1]), ("joints", FRAMES[2])):
        if fname == at:
            arrays[name] = arrays[name].copy()
            arrays[name][1, 2, 0] = np.nan if name == "joints" else np.inf
    return arrays


def unchanged(_: str, arrays: Arrays) -> Arrays:
    return arrays


CASES: dict[str, Callable[[str, Arrays], Arrays]] = {
    "a mirror": mirrored,
    "permuted people": of_people([1, 0]),
    "one walker": of_people([0]),
    "a close pair": close,
    "a missing person": lambda fname, arrays: of_people([0] if fname == FRAMES[2] else [0, 1])(fname, arrays),
    "a frame with nobody": lambda fname, arrays: of_people([] if fname == FRAMES[1] else [0, 1])(fname, arrays),
    "numbers that are not finite": not_finite,
}

NVS_NUMBERS = 8 * 6 + 2 * 5 + 4
POSE_NUMBERS = 4 * 15 + 13


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


@pytest.mark.parametrize("alignment", ["all_joints", "pelvis_trajectory", "camera"])
@pytest.mark.parametrize("case", [*CASES, "as it is"])
def test_bodies_of_every_kind_are_reproduced_by_every_alignment(own_folder: Path, alignment: str, case: str) -> None:
    cell = open_cell(own_folder, pose={"world_alignment": alignment})
    registry = cell.scene.registry
    assert registry is not None
    write_registry(cell.scene.tree.registry_entry, registry.model_copy(update={"fps": 25.0}))
    for fname in FRAMES:
        path = cell.scene.tree.estimated.body("smplx", fname)
        arrays = read_bodies(path, "smplx").arrays
        np.savez(path, **CASES.get(case, unchanged)(fname, dict(arrays)))
    evaluate_pose(reopened(cell), 15, "pose_smplx")
    base = cell.tree.task(15, "pose_smplx").base
    assert assert_task_is_reproduced(base) == POSE_NUMBERS - 15 * (case == "a frame with nobody")


def test_one_other_pixel_is_noticed(own: EvaluationCell) -> None:
    path = own.tree.task(0, "nvs").pred_image(4, FRAMES[0])
    pixels = np.asarray(Image.open(path)).copy()
    pixels[12, 10] ^= 128
    path.unlink()
    Image.fromarray(pixels).save(path)
    with pytest.raises(AssertionError, match="psnr"):
        assert_task_is_reproduced(reopened(own).tree.task(0, "nvs").base)
