"""Every number of a task once more, from nothing but the images and arrays that lie in its tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.compared_bodies import frame_metrics, read_compared
from thesis_assets.evaluation.nvs_metrics import comparison_of, view_metrics
from thesis_assets.evaluation.pose_inputs import body_model
from thesis_assets.evaluation.task_faults import Row, row_name
from thesis_assets.layout import TaskTree, frame_name
from thesis_assets.schemas.evaluation import Protocol

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips

TOLERANCE = 1e-5
"""Tables have six decimals; SSIM runs in float32, whose last bit depends on the machine."""
LPIPS_TOLERANCE = 1e-3
"""Sixteen layers in float32, on a GPU with shorter products."""


def recompute_row(task: TaskTree, protocol: Protocol, row: Row, lpips: Lpips | None = None) -> Row:
    """The metrics of one row of the table of frames, from the saved files.

    A written LPIPS is left out where its weights are not those of `lpips`.

    Raises:
        InvalidFile: a saved image or array is missing or cannot be read.
    """
    fname = frame_name(int(row["frame_id"] or 0))
    if task.task != "nvs":
        model = body_model(task.task)
        return dict(frame_metrics(read_compared(task.input_body(fname), task.true_body(fname), model)).values)
    from thesis_assets.images.codecs import read_mask, read_rgb

    key = (int(row["camera_id"] or 0), fname)
    mask = task.input_mask(*key)
    measured = view_metrics(
        read_rgb(task.pred_image(*key)),
        read_rgb(task.gt_image(*key)),
        read_mask(mask) if mask.exists() else None,
        comparison_of(protocol.comparable),
        lpips,
    )
    same = lpips is not None and lpips.digest in str(protocol.comparable.get("lpips"))
    unknown = "lpips" in protocol.comparable and not same
    return {name: value for name, value in measured.values.items() if not (unknown and name == "lpips")}


def differences(task: TaskTree, protocol: Protocol, rows: Sequence[Row], lpips: Lpips | None = None) -> list[str]:
    """Rows whose numbers the saved files do not give, each with what they give instead."""
    found: list[str] = []
    for row in rows:
        try:
            again = recompute_row(task, protocol, row, lpips)
        except InvalidFile as error:
            found.append(f"{row_name(row)}: {error.problem}: {error.file}")
            continue
        for metric, value in again.items():
            written, tolerance = row[metric], LPIPS_TOLERANCE if metric == "lpips" else TOLERANCE
            if (value is None) != (written is None) or abs((value or 0.0) - (written or 0.0)) > tolerance:
                found.append(f"{row_name(row)}: {metric} is written as {written}, and the saved files give {value}")
    return found
