"""The numbers of one view, from the 8-bit images that were saved, and why a number may be empty.

The formulas are those of `images.metrics`. The same function fills the tables and recomputes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.metric_images import NvsComparison, bounding_box, metric_region
from thesis_assets.images.lpips_files import find_lpips

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.perceptual import Lpips

EMPTY_MASK = "the union mask is empty"
NO_WINDOW = "no whole 11-pixel window lies in the image, or in the region"
TOO_SMALL = "a side of the compared part is below the 16 pixels that LPIPS needs"
LPIPS_REASON = "LPIPS is not measured, and no other metric stands in for it: its weights are not there"


@dataclass(frozen=True)
class ViewMetrics:
    """`values`: metric to number, None where it is empty. `reasons`: metric to why it is."""

    values: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)


def lpips_or_reason(folder: Path | None, device: str) -> tuple[Lpips | None, str]:
    """The distance where its weights are, else None and what is missing where.

    Raises:
        InvalidFile: the weights are there, and are not what their names say.
    """
    try:
        find_lpips(folder)
    except InvalidFile as error:
        return None, f"{LPIPS_REASON}, {error.file} is missing; {error.remedy}"
    from thesis_assets.images.perceptual import load_lpips

    return load_lpips(folder, device), ""


def lpips_tool(folder: Path | None) -> dict[str, str]:
    """The digest of the weights as a tool of a record, without loading them; empty where they are not there."""
    try:
        return {"lpips": find_lpips(folder).digest()}
    except InvalidFile:
        return {}


def view_metrics(
    predicted: NDArray[np.uint8],
    true: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    how: NvsComparison,
    lpips: Lpips | None = None,
) -> ViewMetrics:
    """PSNR, SSIM, LPIPS and the older PSNR of one view.

    LPIPS looks at the smallest rectangle around the region, with what lies outside the region black in both images.

    Args:
        predicted: (H', W', 3) uint8, as saved under `pred/`.
        true: the same shape, as saved under `gt_inputs/`.
        mask: (H, W) bool at native size, as saved under `inputs/`; None counts as one whole mask.
        lpips: None leaves its value empty.
    """
    from thesis_assets.images import metrics

    values: dict[str, float | None] = {"psnr": None, "ssim": None, "lpips": None, "psnr_channel_sum": None}
    region, comparable = metric_region(mask, how)
    if not comparable:
        empty = [name for name in values if name != "lpips" or lpips is not None]
        return ViewMetrics(values, dict.fromkeys(empty, EMPTY_MASK))
    values["psnr"] = metrics.psnr(predicted, true, region)
    values["psnr_channel_sum"] = metrics.psnr_channel_sum(predicted, true, region)
    values["ssim"] = metrics.ssim(predicted, true, region)
    reasons = {"ssim": NO_WINDOW} if values["ssim"] is None else {}
    if lpips is not None:
        values["lpips"] = lpips.distance(*(_part(image, region) for image in (predicted, true)))
        reasons |= {"lpips": TOO_SMALL} if values["lpips"] is None else {}
    return ViewMetrics(values, reasons)


def _part(image: NDArray[np.uint8], region: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """The rectangle around the region, black outside the region; the whole image without one."""
    import numpy as np

    if region is None:
        return image
    box = bounding_box(region)
    inside = np.where(region[..., None], image, np.uint8(0))
    return inside[box.any(axis=1)][:, box.any(axis=0)]


def comparison_of(comparable: dict[str, Any]) -> NvsComparison:
    """The comparison that a protocol was made with."""
    return NvsComparison(
        region=str(comparable["region"]),
        background=str(comparable["background"]),
        downscale_factor=int(comparable["downscale_factor"]),
    )
