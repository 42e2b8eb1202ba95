"""Figures that others published on Hi4D, as they published them, each with a flag for how they were measured.

Nothing here was computed by this platform, and no difference is ever taken to one of these rows.
"""

from __future__ import annotations

from dataclasses import dataclass

DATASET = "hi4d"
NOT_STATED = "convention not stated"


@dataclass(frozen=True)
class PublishedRow:
    """One method's figures.

    Attributes:
        source: whom the figures are by.
        values: by metric, as printed; under the metric of ours that was measured, or where that is not known under its namesake, which `flag` then says.
        flag: what is known of the protocol.
    """

    source: str
    task: str
    values: dict[str, float]
    flag: str


def _nvs(source: str, ssim: float, psnr: float, lpips: float) -> PublishedRow:
    return PublishedRow(source, "nvs", {"psnr": psnr, "ssim": ssim, "lpips": lpips}, f"PSNR: {NOT_STATED}")


def _pose(source: str, mpjpe: float, mve: float, cd: float, pcdr: float) -> PublishedRow:
    values = {"mpjpe_mm": mpjpe, "mve_mm": mve, "cd_mm": cd, "pcdr": pcdr}
    return PublishedRow(source, "pose_smpl", values, f"global; {NOT_STATED}")


PUBLISHED = (
    _nvs("Shuai et al.", 0.898, 19.6, 0.1099),
    _nvs("MultiPly", 0.915, 20.7, 0.0798),
    PublishedRow(
        "the thesis",
        "nvs",
        {"psnr_channel_sum": 20.1, "ssim": 0.926, "lpips": 0.0809},
        "PSNR* is psnr_channel_sum: 4.771 dB below psnr",
    ),
    _pose("CLIFF", 85.7, 102.1, 351.7, 0.606),
    _pose("TRACE", 95.6, 115.7, 249.4, 0.603),
    _pose("MultiPly", 69.4, 83.6, 218.4, 0.709),
    PublishedRow(
        "the thesis",
        "pose_smpl",
        {"mpjpe_mm": 102.3, "mve_mm": 83.8, "cd_mm": 189.2, "pcdr_legacy": 0.634},
        "global; PCDR* is pcdr_legacy: the ground truth was not moved first",
    ),
)


def as_printed(value: float | None) -> str:
    """With the digits that were published; empty where nothing was."""
    return "" if value is None else f"{value:g}"


def published(task: str) -> list[PublishedRow]:
    """The published rows of a task."""
    return [row for row in PUBLISHED if row.task == task]
