"""Novel views: the 8-bit images that enter a metric, the region they are compared in, and the numbers of one view.

The formulas are those of `images.metrics`. Pure: arrays in, arrays out. The same functions make the saved images, fill the tables,
and recompute the numbers from what was saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import a_channel, on_background
from thesis_assets.images.lpips_files import COLUMNS, find_lpips, network_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.perceptual import Lpips

BACKGROUND_VALUES = {"black": 0, "white": 255}
EMPTY_MASK = "the union mask is empty"
NO_WINDOW = "no whole 11-pixel window lies in the image, or in the region"
TOO_SMALL = "a side of the compared part is below the {} pixels that this LPIPS needs"
LPIPS_REASON = "LPIPS is not measured, and no other metric stands in for it: its weights are not there"


@dataclass(frozen=True)
class NvsComparison:
    """How two images are compared: the keys of `evaluation.nvs` that change a number."""

    region: str
    background: str
    downscale_factor: int

    def needs_mask(self) -> bool:
        return self.region != "full_frame" or self.background != "none"


def metric_image(
    image: NDArray[np.uint8], inside: NDArray[np.bool_] | None, how: NvsComparison, scale: int = 1
) -> NDArray[np.uint8]:
    """The image that enters the metric.

    Args:
        image: (ceil(H / scale), ceil(W / scale), 3) uint8 RGB.
        inside: (H', W') bool, True on people: the mask by `downscale_mask`; None counts as one whole mask.
        scale: of a render that was written smaller than the photographs; divides the factor by which these are made smaller.

    Returns:
        (ceil(H / f), ceil(W / f), 3) uint8; outside the mask the background's value, unless the background is `none`.
    """
    small = downscale(image, how.downscale_factor // scale)
    if inside is None or how.background == "none":
        return small
    return on_background(small, a_channel(inside), BACKGROUND_VALUES[how.background])


def smaller(size: tuple[int, ...], factor: int) -> tuple[int, int]:
    """The (height, width) that `downscale` leaves."""
    return -(-size[0] // factor), -(-size[1] // factor)


def scale_of(small: tuple[int, int], whole: tuple[int, int], factor: int) -> int | None:
    """By which divisor of `factor` an image was made smaller (1: by none); None: by none of them."""
    return next((n for n in range(1, factor + 1) if factor % n == 0 and smaller(whole, n) == small), None)


def metric_region(inside: NDArray[np.bool_] | None, how: NvsComparison) -> tuple[NDArray[np.bool_] | None, bool]:
    """The pixels that are compared, and whether there are any.

    Args:
        inside: as of `metric_image`.

    Returns:
        (H', W') bool at metric size, or None for the full frame; and False where an empty mask leaves nothing to compare.
    """
    if inside is None or not how.needs_mask():
        return None, True
    if not inside.any():
        return None, False
    if how.region == "full_frame":
        return None, True
    return (inside if how.region == "mask" else bounding_box(inside)), True


def bounding_box(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The smallest rectangle around the True pixels, as a mask of the same shape. `mask` is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def downscale(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Mean of each `factor` x `factor` block, rounded half up; blocks at the right and lower edge may be smaller.

    Args:
        image: (H, W, 3) or (H, W) uint8.

    Returns:
        (ceil(H / f), ceil(W / f), ...) uint8.
    """
    if factor == 1:
        return image
    sums = _block_sums(np.atleast_3d(image), factor)
    means = np.empty(sums.shape, np.uint8)
    for block, size in _blocks_by_size(image.shape, factor):
        means[block] = (2 * sums[block] + size) // (2 * size)  # whole numbers: rounded once
    return means.reshape(*means.shape[:2], *image.shape[2:])


def downscale_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """True where at least half of the block is. Same blocks as `downscale`."""
    if factor == 1:
        return mask
    sums = _block_sums(mask[..., None], factor)[..., 0]
    inside = np.empty(sums.shape, np.bool_)
    for block, size in _blocks_by_size(mask.shape, factor):
        inside[block] = 2 * sums[block] >= size
    return inside


def _block_sums(image: NDArray[Any], factor: int) -> NDArray[np.unsignedinteger[Any]]:
    """Sum of each block of an (H, W, C) image: (ceil(H / f), ceil(W / f), C), with room for twice the sum.

    Whole rows are added, also across: what is no block's sum is left behind. numpy adds short runs of pixels many times slower.
    """
    height, width, channels = image.shape
    rows, columns = -(-height // factor), -(-width // factor)
    lines = image.reshape(height, width * channels)
    bands = np.zeros((rows, columns * factor * channels), np.uint16 if 2 * 256 * factor**2 < 2**16 else np.uint32)
    for y in range(factor):
        part = lines[y::factor]
        bands[: len(part), : width * channels] += part
    last = bands.shape[1] - (factor - 1) * channels
    across = bands[:, :last].copy()
    for x in range(1, factor):
        across += bands[:, x * channels : x * channels + last]
    sums = np.empty((rows, columns, channels), bands.dtype)
    for channel in range(channels):
        sums[..., channel] = across[:, channel :: factor * channels]
    return sums


def _blocks_by_size(shape: tuple[int, ...], factor: int) -> Iterator[tuple[tuple[slice, slice], int]]:
    """The blocks of one number of pixels, and this number: whole ones, and those cut by the right, the lower or both edges."""

    def spans(length: int) -> list[tuple[slice, int]]:
        whole, rest = divmod(length, factor)
        return [(slice(whole), factor), (slice(whole, whole + 1), rest)][: 2 if rest else 1]

    for rows, down in spans(shape[0]):
        for columns, across in spans(shape[1]):
            yield (rows, columns), down * across


@dataclass(frozen=True)
class ViewMetrics:
    """`values`: metric to number, None where it is empty. `reasons`: metric to why it is."""

    values: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)


def lpips_or_reason(
    folder: Path | None, device: str, conventions: Sequence[str] = ("vgg",)
) -> tuple[dict[str, Lpips], dict[str, str]]:
    """The distances whose weights are there, by column; and of the others what is missing where.

    Args:
        conventions: as `evaluation.nvs.lpips` names them.

    Raises:
        InvalidFile: weights are there, and are not what their names say.
    """
    found: dict[str, Lpips] = {}
    reasons: dict[str, str] = {}
    for convention in conventions:
        try:
            find_lpips(folder, network_of(convention))
        except InvalidFile as error:
            reasons[COLUMNS[convention]] = f"{LPIPS_REASON}, {error.file} is missing; {error.remedy}"
            continue
        from thesis_assets.images.perceptual import load_lpips

        found[COLUMNS[convention]] = load_lpips(folder, device, convention)
    return found, reasons


def view_metrics(
    predicted: NDArray[np.uint8],
    true: NDArray[np.uint8],
    inside: NDArray[np.bool_] | None,
    how: NvsComparison,
    lpips: Mapping[str, Lpips] | None = None,
) -> ViewMetrics:
    """PSNR, SSIM, LPIPS and the older PSNR of one view.

    LPIPS looks at the smallest rectangle around the region, with what lies outside the region black in both images.

    Args:
        predicted: (H', W', 3) uint8, as saved under `pred/`.
        true: the same shape, as saved under `gt_inputs/`.
        inside: as of `metric_image`, of the mask that is saved under `inputs/`.
        lpips: the distances by column; `lpips` without one is empty.
    """
    from thesis_assets.images import metrics

    lpips = lpips or {}
    values: dict[str, float | None] = dict.fromkeys(("psnr", "ssim", "lpips", "psnr_channel_sum", *lpips))
    region, comparable = metric_region(inside, how)
    if not comparable:
        empty = [name for name in values if name != "lpips" or name in lpips]
        return ViewMetrics(values, dict.fromkeys(empty, EMPTY_MASK))
    values["psnr"], values["psnr_channel_sum"] = metrics.both_psnr(predicted, true, region)
    values["ssim"] = metrics.ssim(predicted, true, region)
    reasons = {"ssim": NO_WINDOW} if values["ssim"] is None else {}
    parts = [_part(image, region) for image in (predicted, true)] if lpips else []
    for column, measure in lpips.items():
        values[column] = measure.distance(*parts)
        reasons |= {column: TOO_SMALL.format(measure.min_side)} if values[column] is None else {}
    return ViewMetrics(values, reasons)


def _part(image: NDArray[np.uint8], region: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """The rectangle around the region, black outside the region; the whole image without one."""
    if region is None:
        return image
    box = bounding_box(region)
    return on_background(image, a_channel(region), 0)[box.any(axis=1)][:, box.any(axis=0)]


def comparison_of(comparable: dict[str, Any]) -> NvsComparison:
    """The comparison that a protocol was made with."""
    return NvsComparison(
        region=str(comparable["region"]),
        background=str(comparable["background"]),
        downscale_factor=int(comparable["downscale_factor"]),
    )
