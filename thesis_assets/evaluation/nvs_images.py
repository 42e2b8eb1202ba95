"""Some cameras of one (scene, epoch): the compared images, the numbers of each view, and pictures to look at.

Runs in a worker: writes into stagings that the caller publishes. One view is in memory at a time.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.metric_images import NvsComparison, metric_image
from thesis_assets.evaluation.nvs_metrics import ViewMetrics, lpips_or_reason, view_metrics
from thesis_assets.evaluation.refined_predictions import Pace
from thesis_assets.evaluation.staging import Staging
from thesis_assets.evaluation.videos import write_video
from thesis_assets.evaluation.views import View
from thesis_assets.layout import TaskTree
from thesis_assets.provenance import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.codecs import PngEncoder


@dataclass(frozen=True, eq=False)
class NvsShare:
    """Some cameras of a task, and where their `pred/`, `gt_inputs/` and `viz/` are in the making."""

    cell: EvaluationCell
    task: TaskTree
    views: tuple[View, ...]
    pred: Staging
    truth: Staging
    viz: Staging


@dataclass(frozen=True)
class SharedViews:
    """The numbers of a share's views; its cameras without a video, each with the reason; and what it wrote."""

    measured: dict[View, ViewMetrics]
    no_video: dict[str, str]
    written: dict[Path, Output]


def comparison(cell: EvaluationCell) -> NvsComparison:
    """How the experiment wants images to be compared."""
    nvs = cell.experiment.evaluation.nvs
    return NvsComparison(nvs.region, nvs.background, nvs.downscale_factor)


def measure_share(share: NvsShare) -> SharedViews:
    """Write the images of a share, and measure what was written.

    Raises:
        InvalidFile: an image is missing, unreadable, or of another size than the render.
    """
    cell, task, how = share.cell, share.task, comparison(share.cell)
    lpips, _ = lpips_or_reason(cell.lpips_weights, cell.device)
    measured: dict[View, ViewMetrics] = {}
    pace = Pace(cell.scene.name, "views measured", len(share.views))
    for view in share.views:
        render, image, mask = _native_images(cell, task, view)
        predicted, true = metric_image(render, mask, how), metric_image(image, mask, how)
        share.pred.write_png(task.pred_image(view.cam_id, view.fname), predicted, _encoder(cell))
        share.truth.write_png(task.gt_image(view.cam_id, view.fname), true, _encoder(cell))
        _write_pictures(share, view, render, image, mask)
        measured[view] = view_metrics(predicted, true, mask, how, lpips)
        pace.add(1)
    no_video = _write_videos(share)
    return SharedViews(measured, no_video, share.pred.written | share.truth.written | share.viz.written)


def share_equal_files(truth: Staging, task: TaskTree, siblings: list[TaskTree], views: list[View]) -> None:
    """Let ground truth that another epoch has already be one file with it."""
    for view in views:
        path = task.gt_image(view.cam_id, view.fname)
        content = truth.place(path).read_bytes()
        for sibling in siblings:
            other = sibling.gt_image(view.cam_id, view.fname)
            if other.is_file() and other.read_bytes() == content:
                truth.link(other, path)
                break


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


def _encoder(cell: EvaluationCell) -> PngEncoder:
    return cell.experiment.generation.export.png_encoder


def _write_pictures(
    share: NvsShare,
    view: View,
    render: NDArray[np.uint8],
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
) -> None:
    """Render beside truth on the protocol's background, and the render on white, at native size."""
    import numpy as np

    cell, task = share.cell, share.task
    how = NvsComparison("full_frame", comparison(cell).background, 1)
    bar = np.full((render.shape[0], max(2, render.shape[1] // 64), 3), 128, np.uint8)
    beside = np.concatenate([metric_image(render, mask, how), bar, metric_image(image, mask, how)], axis=1)
    share.viz.write_png(task.viz_image(view.cam_id, "render_vs_gt", view.fname), beside, _encoder(cell))
    white = metric_image(render, mask, NvsComparison("full_frame", "white", 1))
    share.viz.write_png(task.viz_image(view.cam_id, "render_white_bg", view.fname), white, _encoder(cell))


def _write_videos(share: NvsShare) -> dict[str, str]:
    """A video a camera of its `render_vs_gt` pictures; returns the cameras without one, each with the reason."""
    reasons: dict[str, str] = {}
    by_camera: dict[int, list[Path]] = {}
    for view in share.views:
        picture = share.task.viz_image(view.cam_id, "render_vs_gt", view.fname)
        by_camera.setdefault(view.cam_id, []).append(share.viz.place(picture))
    for cam_id, pictures in by_camera.items():
        reason = write_video(share.viz.place(share.task.viz_video(cam_id)), pictures, program=shutil.which("ffmpeg"))
        if reason is not None:
            reasons[f"cam_{cam_id}"] = reason
    return reasons
