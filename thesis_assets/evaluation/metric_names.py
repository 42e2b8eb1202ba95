"""How each metric is shown: its heading, unit, decimals, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ShownMetric:
    """One column of a table for people."""

    name: str
    title: str
    unit: str
    decimals: int
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def heading(self) -> str:
        """`PSNR ↑ dB`."""
        return " ".join(part for part in (self.title, self.arrow, self.unit) if part)

    def number(self, value: float | None, *, sign: bool = False) -> str:
        """The value with this metric's decimals; empty where there is none."""
        return "" if value is None else format(value, f"{'+' if sign else ''}.{self.decimals}f")


NVS_SHOWN = (
    ShownMetric("psnr", "PSNR", "dB", 3, True),
    ShownMetric("ssim", "SSIM", "", 4, True),
    ShownMetric("lpips", "LPIPS", "", 4, False),
    ShownMetric("psnr_channel_sum", "PSNR*", "dB", 3, True),
    ShownMetric("lpips_alex", "LPIPS (Alex)", "", 4, False),
    ShownMetric("lpips_vgg_3dgs", "LPIPS (VGG, 3DGS)", "", 4, False),
)
POSE_SHOWN = (
    ShownMetric("rr_mpjpe_mm", "RR-MPJPE", "mm", 2, False),
    ShownMetric("rr_mve_mm", "RR-MVE", "mm", 2, False),
    ShownMetric("cd_mm", "CD", "mm", 2, False),
    ShownMetric("pcdr", "PCDR", "", 3, True),
    ShownMetric("mpjpe_mm", "MPJPE", "mm", 2, False),
    ShownMetric("mve_mm", "MVE", "mm", 2, False),
    ShownMetric("pa_mpjpe_mm", "PA-MPJPE", "mm", 2, False),
    ShownMetric("pcdr_legacy", "PCDR*", "", 3, True),
    ShownMetric("w_mpjpe_mm", "W-MPJPE", "mm", 2, False),
    ShownMetric("wa_mpjpe_mm", "WA-MPJPE", "mm", 2, False),
    ShownMetric(
        "accel_mm", "Accel", "mm/t²", 2, False
    ),  # t: a second, or a frame where `frames_per_second` is not known
    ShownMetric("jitter", "Jitter", "10 m/s³", 2, False),
)
TASK_TITLES = {"nvs": "Novel views", "pose_smplx": "Bodies, SMPL-X", "pose_smpl": "Bodies, SMPL"}


def shown_metrics(task: str) -> Sequence[ShownMetric]:
    """The metrics of a task, in the order of its tables."""
    return NVS_SHOWN if task == "nvs" else POSE_SHOWN
