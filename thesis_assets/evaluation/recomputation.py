"""Every number of a task once more, from nothing but the images and arrays that lie in its tree."""

from __future__ import annotations

from collections.abc import Sequence

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.compared_bodies import frame_metrics, read_compared
from thesis_assets.evaluation.nvs_metrics import comparison_of, view_metrics
from thesis_assets.evaluation.pose_inputs import body_model
from thesis_assets.evaluation.task_faults import Row, row_name
from thesis_assets.layout import TaskTree, frame_name
from thesis_assets.schemas.evaluation import Protocol

TOLERANCE = 1e-5
"""Tables have six decimals; SSIM runs in float32, whose last bit depends on the machine."""


def recompute_row(task: TaskTree, protocol: Protocol, row: Row) -> Row:
    """The metrics of one row of the table of frames, from the saved files.

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
    )
    return dict(measured.values)


def differences(task: TaskTree, protocol: Protocol, rows: Sequence[Row]) -> list[str]:
    """Rows whose numbers the saved files do not give, each with what they give instead."""
    found: list[str] = []
    for row in rows:
        try:
            again = recompute_row(task, protocol, row)
        except InvalidFile as error:
            found.append(f"{row_name(row)}: {error.problem}: {error.file}")
            continue
        for metric, value in again.items():
            written = row[metric]
            if (value is None) != (written is None) or abs((value or 0.0) - (written or 0.0)) > TOLERANCE:
                found.append(f"{row_name(row)}: {metric} is written as {written}, and the saved files give {value}")
    return found
