"""The numbers of one view, from the 8-bit images that were saved, and why a number may be empty.

The formulas are those of `images.metrics`. The same function fills the tables and recomputes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thesis_assets.evaluation.metric_images import NvsComparison, metric_region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMPTY_MASK = "the union mask is empty"
NO_WINDOW = "no whole 11-pixel window lies in the image, or in the region"
LPIPS_REASON = "LPIPS needs the weights of its VGG backbone, and none are configured; no other metric stands in for it"


@dataclass(frozen=True)
class ViewMetrics:
    """`values`: metric to number, None where it is empty. `reasons`: metric to why it is."""

    values: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)


def view_metrics(
    predicted: NDArray[np.uint8], true: NDArray[np.uint8], mask: NDArray[np.bool_] | None, how: NvsComparison
) -> ViewMetrics:
    """PSNR, SSIM and the older PSNR of one view.

    Args:
        predicted: (H', W', 3) uint8, as saved under `pred/`.
        true: the same shape, as saved under `gt_inputs/`.
        mask: (H, W) bool at native size, as saved under `inputs/`; None counts as one whole mask.
    """
    from thesis_assets.images import metrics

    values: dict[str, float | None] = {"psnr": None, "ssim": None, "lpips": None, "psnr_channel_sum": None}
    region, comparable = metric_region(mask, how)
    if not comparable:
        return ViewMetrics(values, dict.fromkeys(("psnr", "ssim", "psnr_channel_sum"), EMPTY_MASK))
    values["psnr"] = metrics.psnr(predicted, true, region)
    values["psnr_channel_sum"] = metrics.psnr_channel_sum(predicted, true, region)
    values["ssim"] = metrics.ssim(predicted, true, region)
    return ViewMetrics(values, {"ssim": NO_WINDOW} if values["ssim"] is None else {})


def comparison_of(comparable: dict[str, Any]) -> NvsComparison:
    """The comparison that a protocol was made with."""
    return NvsComparison(
        region=str(comparable["region"]),
        background=str(comparable["background"]),
        downscale_factor=int(comparable["downscale_factor"]),
    )
