"""The 8-bit images that enter a metric, and the region they are compared in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.evaluation.nvs_metrics import (
    EMPTY_MASK,
    NO_WINDOW,
    NvsComparison,
    bounding_box,
    downscale,
    downscale_mask,
    metric_image,
    metric_region,
    view_metrics,
)


def image(height: int = 24, width: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.integers(0, 99))
def test_downscaling_is_the_mean_of_each_block(height: int, width: int, factor: int, seed: int) -> None:
    pixels = image(height, width, seed)
    small = downscale(pixels, factor)
    assert small.shape == (-(-height // factor), -(-width // factor), 3)
    for row, column in np.ndindex(small.shape[:2]):  # The last ones may be smaller blocks.
        block = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        np.testing.assert_array_equal(small[row, column], np.floor(block.reshape(-1, 3).mean(axis=0) + 0.5))


def test_a_masks_block_counts_from_half_on() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = mask[0, 2] = mask[1, 2] = True
    assert downscale_mask(mask, 2).tolist() == [[False, True], [False, False]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 5, 11, 12]), st.integers(0, 99))
def test_a_downscaled_mask_is_true_where_half_of_a_block_is(height: int, width: int, factor: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    small = downscale_mask(mask, factor)
    for row, column in np.ndindex(small.shape):
        block = mask[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        assert small[row, column] == (block.sum() * 2 >= block.size)


@pytest.mark.parametrize("factor", [11, 12, 64])
def test_the_sum_of_a_large_white_block_fits(factor: int) -> None:
    white = np.full((2 * factor + 1, factor, 3), 255, np.uint8)
    assert (downscale(white, factor) == 255).all()
    assert downscale_mask(white[..., 0] > 0, factor).all()


@pytest.mark.parametrize(("background", "value"), [("black", 0), ("white", 255)])
def test_the_background_covers_everything_outside_the_mask(background: str, value: int) -> None:
    mask = np.zeros((24, 20), bool)
    mask[4:12, 4:12] = True
    how = NvsComparison("full_frame", background, 2)
    inside = downscale_mask(mask, 2)
    pixels = metric_image(image(), inside, how)
    assert (pixels[~inside] == value).all()
    np.testing.assert_array_equal(pixels[inside], downscale(image(), 2)[inside])


def test_without_a_background_or_without_a_mask_the_image_stays() -> None:
    mask = np.zeros((24, 20), bool)
    np.testing.assert_array_equal(metric_image(image(), mask, NvsComparison("mask", "none", 1)), image())
    np.testing.assert_array_equal(metric_image(image(), None, NvsComparison("mask", "black", 1)), image())


def test_the_box_is_the_smallest_around_the_mask() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2, 5] = mask[6, 3] = True
    box = bounding_box(mask)
    assert box[2:7, 3:6].all()
    assert box.sum() == 15


def test_a_region_changes_what_is_compared() -> None:
    mask = np.zeros((24, 20), bool)
    mask[4:16, 4:16] = True
    damaged = image().copy()
    damaged[0, 0] ^= 255  # Outside the mask.
    inside = view_metrics(damaged, image(), mask, NvsComparison("mask", "none", 1)).values
    whole = view_metrics(damaged, image(), mask, NvsComparison("full_frame", "none", 1)).values
    assert inside["psnr"] == pytest.approx(120.0)  # The formula's ceiling.
    assert whole["psnr"] is not None
    assert whole["psnr"] < 60


@pytest.mark.parametrize(
    ("region", "background"), [("mask", "none"), ("bbox", "none"), ("full_frame", "black"), ("full_frame", "white")]
)
def test_an_empty_mask_gives_an_empty_value_not_zero(region: str, background: str) -> None:
    empty = np.zeros((24, 20), bool)
    measured = view_metrics(image(), image(seed=1), empty, NvsComparison(region, background, 1))
    assert set(measured.values.values()) == {None}
    assert measured.reasons == dict.fromkeys(("psnr", "ssim", "psnr_channel_sum"), EMPTY_MASK)


def test_an_empty_mask_that_nothing_needs_is_no_hindrance() -> None:
    assert metric_region(np.zeros((24, 20), bool), NvsComparison("full_frame", "none", 1)) == (None, True)


def test_images_below_eleven_pixels_have_no_ssim_and_say_why() -> None:
    measured = view_metrics(image(10, 20), image(10, 20, 1), None, NvsComparison("full_frame", "none", 1))
    assert measured.values["ssim"] is None
    assert measured.values["psnr"] is not None
    assert measured.reasons == {"ssim": NO_WINDOW}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.sampled_from(["full_frame", "mask", "bbox"]))
def test_the_older_psnr_is_4_771_decibel_lower(seed: int, region: str) -> None:
    mask = np.zeros((24, 20), bool)
    mask[3:20, 2:15] = True
    values = view_metrics(image(seed=seed), image(seed=seed + 100), mask, NvsComparison(region, "black", 1)).values
    assert values["psnr"] is not None
    assert values["psnr_channel_sum"] is not None
    assert values["psnr"] - values["psnr_channel_sum"] == pytest.approx(4.771, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    *(st.integers(11, 60), st.integers(11, 60), st.integers(0, 99)),
    *(st.sampled_from(["full_frame", "mask", "bbox"]), st.sampled_from(["black", "white", "none"])),
)
def test_the_numbers_are_those_of_plain_formulas_over_the_metric_images(
    height: int, width: int, seed: int, region: str, background: str
) -> None:
    rng = np.random.default_rng(seed)
    render, truth, how = (
        image(height, width, seed),
        image(height, width, seed + 100),
        NvsComparison(region, background, 2),
    )
    mask = np.zeros((height, width), bool)
    mask[2 : height // 2 + 4, 3 : width // 2 + 5] = True
    mask |= rng.random((height, width)) < 0.1
    inside = downscale_mask(mask, 2)
    fill = {"black": 0, "white": 255, "none": 0}[background]
    plain = [
        small if background == "none" else np.where(inside[..., None], small, np.uint8(fill))
        for small in (downscale(render, 2), downscale(truth, 2))
    ]
    pair = metric_image(render, inside, how), metric_image(truth, inside, how)
    for found, wanted in zip(pair, plain, strict=True):
        np.testing.assert_array_equal(found, wanted)
    counted, _ = metric_region(inside, how)
    chosen = [each.astype(np.float64) if counted is None else each[counted].astype(np.float64) for each in plain]
    error = ((chosen[0] - chosen[1]) ** 2).mean() / 255**2
    psnr = view_metrics(*pair, inside, how).values["psnr"]
    assert psnr == pytest.approx(10 * np.log10(1 / max(error, 1e-12)), abs=1e-9)
