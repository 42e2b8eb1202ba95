"""Leaderboards of made-up numbers: a run's scenes as tables of PSNR by frame, without any tree."""

import re
from collections.abc import Mapping, Sequence

from thesis_assets.evaluation.measured_tasks import MeasuredRun, MeasuredTask
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow

PROTOCOL = {"region": "full_frame", "cameras": [4]}


def measured(psnr: Sequence[float | None], epoch: int = 30, **more: object) -> MeasuredTask:
    """A task of novel views with one camera."""
    rows = {
        f"cam_4/{place:06d}": {"psnr": value, "ssim": None, "lpips": None, "psnr_channel_sum": None}
        for place, value in enumerate(psnr)
    }
    values = {"task": "nvs", "epoch": epoch, "step": None if epoch == 0 else 10, "comparable": PROTOCOL, "stated": True}
    return MeasuredTask(rows=rows, **{**values, **more})  # type: ignore[arg-type]


def run(
    name: str, scenes: Mapping[str, MeasuredTask], unrefined: Mapping[str, MeasuredTask] | None = None
) -> MeasuredRun:
    tasks = {("nvs", 30): dict(scenes)}
    return MeasuredRun("demo", name, tasks if unrefined is None else {("nvs", 0): dict(unrefined), **tasks})


def row(run: str = "a", scene: str = "s_1", epoch: int = 15, **more: object) -> LeaderboardRow:
    values: dict[str, object] = {
        "exp_name": "demo",
        "run_name": run,
        "scene_name": scene,
        "epoch": epoch,
        "step": 10,
        "task": "nvs",
        "metric": "psnr",
        "value": 20.0,
        "difference_to_unrefined": 0.1,
        "n_frames": 4,
        "protocol_digest": "0" * 64,
        "table_digest": "0" * 64,
        "protocol_stated": True,
    }
    return LeaderboardRow.model_validate({**values, **more})


def difference(run: str = "a", epoch: int = 15, scenes: Sequence[float] = (0.1, 0.3), **more: object) -> DifferenceRow:
    values: dict[str, object] = {
        "exp_name": "demo",
        "run_name": run,
        "epoch": epoch,
        "task": "nvs",
        "metric": "psnr",
        "against": "unrefined",
        "table_digest": "0" * 64,
        "n_scenes": len(scenes),
        "difference": sum(scenes) / len(scenes),
        "low": 0.05,
        "high": 0.35,
        "interval_over": "scenes",
        "sign_flip_p": 0.5,
        "scenes_above": 2,
        "scenes_below": 0,
        "by_scene": {f"s_{place}": value for place, value in enumerate(scenes)},
        "reason": None,
    }
    return DifferenceRow.model_validate({**values, **more})


def single_spaced(markdown: str) -> str:
    """Tables without the spaces that make their columns as wide as the widest cell."""
    return re.sub(r" {2,}", " ", markdown)
