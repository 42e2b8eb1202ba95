"""Novel-view synthesis of one epoch: the compared images, their metrics, and pictures to look at.

`pred/`, `gt_inputs/` and `viz/` are published first; `metrics/` with `protocol.json` comes last, by one rename: a reader that
finds a protocol finds everything that its numbers were computed from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.metric_images import NvsComparison, metric_image
from thesis_assets.evaluation.metric_tables import mean_of, table_text
from thesis_assets.evaluation.nvs_metrics import ViewMetrics, lpips_or_reason, view_metrics
from thesis_assets.evaluation.predictions import current_record, predicted_views
from thesis_assets.evaluation.protocols import read_protocol
from thesis_assets.evaluation.staging import Staging, staged
from thesis_assets.evaluation.task_faults import is_whole
from thesis_assets.evaluation.views import View
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.schemas.evaluation import (
    NVS_CAMERA_COLUMNS,
    NVS_FRAME_COLUMNS,
    NVS_RESULT_KEYS,
    PredictionRecord,
    Protocol,
    format_results,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.perceptual import Lpips

NVS_VERSION = "1"
"""Raised where a change of code changes a number."""


def evaluate_nvs(cell: EvaluationCell, epoch: int, on_progress: Progress = silent) -> Protocol:
    """Compare the predictions of one epoch with the ground truth; what is current already is left alone.

    Raises:
        InvalidFile: there are no whole predictions, or an image is missing, unreadable, or of another size.
    """
    task = cell.tree.task(epoch, "nvs")
    record = current_record(task)
    if record is None:
        raise InvalidFile(
            "there are no whole predictions to evaluate",
            file=task.prediction_record,
            remedy="make the predictions of this epoch first",
        )
    views = predicted_views(task)
    lpips, why_not = lpips_or_reason(cell.lpips_weights, cell.device)
    digest = _input_digest(cell, record, views, lpips)
    current = read_protocol(task)
    if current is not None and current.input_digest == digest and is_whole(task):
        return current
    withdraw(cell.tree, epoch, task)
    if lpips is None:
        on_progress(f"{cell.scene.name}: the column lpips stays empty: {why_not}")
    measured = _write_images(cell, task, views, lpips)
    protocol = _protocol(cell, record, measured, task, digest, lpips, why_not)
    _write_metrics(cell, task, measured, protocol)
    psnr = mean_of([each.values for each in measured.values()], "psnr")
    mean = "no view with a region" if psnr is None else f"PSNR {psnr:.3f} dB"
    on_progress(f"{cell.scene.name} {epoch_name(epoch)} nvs: {len(views)} views, {mean}")
    return protocol


def comparison(cell: EvaluationCell) -> NvsComparison:
    """How the experiment wants images to be compared."""
    nvs = cell.experiment.evaluation.nvs
    return NvsComparison(nvs.region, nvs.background, nvs.downscale_factor)


def _input_digest(cell: EvaluationCell, record: PredictionRecord, views: list[View], lpips: Lpips | None) -> str:
    images = [cell.scene.image_path(view.cam_id, view.fname) for view in views]
    return storage.sha256_value(
        {
            "version": NVS_VERSION,
            "predictions": record.input_digest,
            "epoch": record.epoch,
            "nvs": cell.experiment.evaluation.nvs.model_dump(mode="json"),
            "images": [storage.file_stamp(path) if path else None for path in images],
            # Weights that came later fill the column; without any, nothing is computed again.
            **({"lpips": lpips.digest} if lpips is not None else {}),
        }
    )


def _write_images(
    cell: EvaluationCell, task: TaskTree, views: list[View], lpips: Lpips | None
) -> dict[View, ViewMetrics]:
    """Publish `pred/`, `gt_inputs/` and `viz/`; returns the metrics of what was published."""
    how = comparison(cell)
    siblings = [cell.tree.task(epoch, "nvs") for epoch in cell.epoch_steps()]
    measured: dict[View, ViewMetrics] = {}
    with staged(task.pred_dir) as pred, staged(task.gt_inputs_dir) as truth, staged(task.viz_dir) as viz:
        for view in views:
            render, image, mask = _native_images(cell, task, view)
            predicted, true = metric_image(render, mask, how), metric_image(image, mask, how)
            pred.write(task.pred_image(view.cam_id, view.fname), _png(cell, predicted))
            _write_truth(truth, task, siblings, view, _png(cell, true))
            _write_pictures(cell, viz, task, view, render, image, mask)
            measured[view] = view_metrics(predicted, true, mask, how, lpips)
    return measured


def _native_images(
    cell: EvaluationCell, task: TaskTree, view: View
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The render, the ground truth and the union mask of a view, at native size."""
    from thesis_assets.images.codecs import read_mask, read_rgb

    key = (view.cam_id, view.fname)
    path = cell.scene.image_path(*key)
    if path is None:
        raise InvalidFile("the ground-truth image is gone", file=cell.scene.tree.ground_truth.image(*key))
    render, image = read_rgb(task.input_render(*key)), read_rgb(path)
    mask_path = task.input_mask(*key)
    mask = read_mask(mask_path) if mask_path.exists() else None
    for other, file in ((image, path), (mask, mask_path)):
        if other is not None and other.shape[:2] != render.shape[:2]:
            raise InvalidFile(
                "an image has another size than the render",
                file=file,
                found=other.shape[:2],
                wanted=render.shape[:2],
            )
    return render, image, mask


def _png(cell: EvaluationCell, pixels: NDArray[np.uint8]) -> bytes:
    from thesis_assets.images.codecs import encode_png

    return encode_png(pixels, cell.experiment.generation.export.png_encoder)


def _write_truth(stage: Staging, task: TaskTree, siblings: list[TaskTree], view: View, content: bytes) -> None:
    """Write a ground-truth image, or link the equal one of another epoch."""
    path = task.gt_image(view.cam_id, view.fname)
    for sibling in siblings:
        other = sibling.gt_image(view.cam_id, view.fname)
        if sibling != task and other.exists() and other.read_bytes() == content:
            stage.link(other, path)
            return
    stage.write(path, content)


def _write_pictures(
    cell: EvaluationCell,
    stage: Staging,
    task: TaskTree,
    view: View,
    render: NDArray[np.uint8],
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
) -> None:
    """Render beside truth on the protocol's background, and the render on white, at native size."""
    import numpy as np

    how = NvsComparison("full_frame", comparison(cell).background, 1)
    bar = np.full((render.shape[0], max(2, render.shape[1] // 64), 3), 128, np.uint8)
    beside = np.concatenate([metric_image(render, mask, how), bar, metric_image(image, mask, how)], axis=1)
    stage.write(task.viz_image(view.cam_id, "render_vs_gt", view.fname), _png(cell, beside))
    white = metric_image(render, mask, NvsComparison("full_frame", "white", 1))
    stage.write(task.viz_image(view.cam_id, "render_white_bg", view.fname), _png(cell, white))


def _protocol(
    cell: EvaluationCell,
    record: PredictionRecord,
    measured: dict[View, ViewMetrics],
    task: TaskTree,
    digest: str,
    lpips: Lpips | None,
    why_not: str,
) -> Protocol:
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
        empty_metrics={"lpips": why_not} if lpips is None else {},
        input_digest=digest,
        versions={"thesis_assets": __version__, "predictions": record.renderer},
        details={
            "frames": frames,
            "source_camera": cell.source_camera(),
            "reference": "the source camera's image of the same frame",
            "results_convention": spec.nvs.results_convention,
            "empty_values": {str(view): each.reasons for view, each in measured.items() if each.reasons},
            "left_out": record.left_out,
            "checkpoint_sha256": record.checkpoint_sha256,
        },
    )


def _write_metrics(cell: EvaluationCell, task: TaskTree, measured: dict[View, ViewMetrics], protocol: Protocol) -> None:
    rows = [{"camera_id": view.cam_id, "frame_id": int(view.fname), **each.values} for view, each in measured.items()]
    cameras = protocol.comparable["cameras"]
    by_camera = [
        {"camera_id": cam_id}
        | {name: mean_of([row for row in rows if row["camera_id"] == cam_id], name) for name in NVS_RESULT_KEYS}
        for cam_id in cameras
    ]
    overall = {name: mean_of(rows, name) for name in NVS_RESULT_KEYS}
    if cell.experiment.evaluation.nvs.results_convention == "channel_sum":
        overall["psnr"] = overall["psnr_channel_sum"]
    with staged(task.metrics_dir) as stage:
        stage.write(task.nvs_per_frame, table_text(NVS_FRAME_COLUMNS, rows).encode())
        stage.write(task.nvs_per_camera, table_text(NVS_CAMERA_COLUMNS, by_camera).encode())
        stage.write(task.nvs_results, format_results(overall).encode())
        stage.write(task.protocol, storage.to_json_bytes(protocol))
