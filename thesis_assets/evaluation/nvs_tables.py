"""The tables, the results file and the protocol of novel-view synthesis, from the numbers of single views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from thesis_assets import __version__, storage
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.metric_tables import mean_of, table_text
from thesis_assets.evaluation.nvs_metrics import ViewMetrics
from thesis_assets.evaluation.staging import Staging, staged
from thesis_assets.evaluation.views import View
from thesis_assets.layout import TaskTree
from thesis_assets.schemas.evaluation import (
    NVS_CAMERA_COLUMNS,
    NVS_FRAME_COLUMNS,
    NVS_RESULT_KEYS,
    PredictionRecord,
    Protocol,
    format_results,
)

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips

RowOfMetrics = TypeVar("RowOfMetrics", bound=Mapping[str, Any])

NVS_VERSION = "1"
"""Raised where a change of code changes a number."""


def nvs_protocol(
    cell: EvaluationCell,
    record: PredictionRecord,
    measured: Mapping[View, ViewMetrics],
    task: TaskTree,
    lpips: Lpips | None,
    why_no_lpips: str,
    no_video: Mapping[str, str],
) -> Protocol:
    """How the numbers of one (scene, epoch) were made.

    Args:
        no_video: `cam_<id>` to the reason why it has no video.
    """
    spec = cell.experiment.evaluation
    masked = any(task.input_mask(view.cam_id, view.fname).exists() for view in measured)
    frames: dict[str, list[str]] = {}
    for view in measured:
        frames.setdefault(str(view.cam_id), []).append(view.fname)
    comparable: dict[str, Any] = {
        "prediction_source": record.prediction_source,
        **spec.nvs.model_dump(mode="json", exclude={"results_convention"}),
        "mask": "union of the people in the ground truth" if masked else "none: the whole image counts",
        "cameras": sorted(int(cam_id) for cam_id in frames),
        "frame_choice": spec.frames.model_dump(mode="json"),
        "metrics": f"psnr, ssim (11x11 Gaussian, valid windows); version {NVS_VERSION}",
        **({"lpips": f"0.1, VGG16, weights {lpips.digest}"} if lpips is not None else {}),
    }
    return Protocol(
        task="nvs",
        epoch=record.epoch,
        step=record.step,
        comparable=comparable,
        empty_metrics={"lpips": why_no_lpips} if lpips is None else {},
        versions={"thesis_assets": __version__, "predictions": record.renderer},
        details={
            "frames": frames,
            "source_camera": cell.source_camera(),
            "reference": "the source camera's image of the same frame",
            "results_convention": spec.nvs.results_convention,
            "empty_values": {str(view): each.reasons for view, each in measured.items() if each.reasons},
            "left_out": record.left_out,
            "checkpoint_sha256": record.checkpoint_sha256,
            "no_video": dict(no_video),
        },
    )


def write_nvs_metrics(
    cell: EvaluationCell, task: TaskTree, measured: Mapping[View, ViewMetrics], protocol: Protocol
) -> None:
    """Publish `metrics/` by one rename."""
    rows = [{"camera_id": view.cam_id, "frame_id": int(view.fname), **each.values} for view, each in measured.items()]
    with staged(task.metrics_dir) as stage:
        write_nvs_tables(stage, task, rows, protocol)


def write_nvs_tables(stage: Staging, task: TaskTree, rows: list[dict[str, Any]], protocol: Protocol) -> None:
    """Write the rows of single views, their means, and the protocol that goes with them."""
    by_camera = [
        {"camera_id": cam_id}
        | {name: mean_of([row for row in rows if row["camera_id"] == cam_id], name) for name in NVS_RESULT_KEYS}
        for cam_id in protocol.comparable["cameras"]
    ]
    counted = overall_rows(rows, protocol)
    overall = {name: mean_of(counted, name) for name in NVS_RESULT_KEYS}
    if protocol.details.get("results_convention") == "channel_sum":
        overall["psnr"] = overall["psnr_channel_sum"]
    stage.write(task.nvs_per_frame, table_text(NVS_FRAME_COLUMNS, rows).encode())
    stage.write(task.nvs_per_camera, table_text(NVS_CAMERA_COLUMNS, by_camera).encode())
    stage.write(task.nvs_results, format_results(overall).encode())
    stage.write(task.protocol, storage.to_json_bytes(protocol))


def overall_rows(rows: Sequence[RowOfMetrics], protocol: Protocol) -> list[RowOfMetrics]:
    """The rows that the overall mean is over: all but the source camera's, which other people's trees may have."""
    source = protocol.details.get("source_camera")
    return [row for row in rows if row["camera_id"] != source]
