"""Novel-view synthesis: which (scene, epoch) is measured, by how many workers, and publishing what they wrote.

`pred/`, `gt_inputs/` and `viz/` are published first; `metrics/` with `protocol.json` comes last, by one rename: a reader that
finds a protocol finds everything that its numbers were computed from.
A worker measures some cameras of one (scene, epoch), one view in memory at a time, into stagings that the caller publishes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell, links_numbers
from thesis_assets.evaluation.comparison_video import Video
from thesis_assets.evaluation.means import counted_rows, mean_of
from thesis_assets.evaluation.metric_tables import REFINER_SIZE, RENDER_SIZE, write_tables
from thesis_assets.evaluation.nvs_metrics import (
    BACKGROUND_VALUES,
    ViewMetrics,
    comparison_of,
    downscale,
    downscale_mask,
    lpips_or_reason,
    metric_image,
    smaller,
    view_metrics,
)
from thesis_assets.evaluation.outputs import Staging, kept, publish, staged, verified, withdraw
from thesis_assets.evaluation.shared_work import (
    VIEWS_A_WORKER,
    Outcomes,
    SceneEpochs,
    each_epoch,
    one_thread,
    split_by_camera,
)
from thesis_assets.evaluation.source_trees import take_numbers
from thesis_assets.evaluation.thesis_names import name_views
from thesis_assets.evaluation.units import prediction_unit, task_unit
from thesis_assets.evaluation.views import View, predicted_views, read_predictions
from thesis_assets.launch.mapping import Course, Shared
from thesis_assets.launch.telling import counted, tell
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.provenance import CODE_VERSIONS, Contents, Output, begin
from thesis_assets.schemas.evaluation import PredictionRecord, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.perceptual import Lpips


def measure_views(work: SceneEpochs) -> Course[Outcomes[Protocol]]:
    """Compare predicted and true views of every epoch of a scene; what is current already is left alone."""
    return (yield from each_epoch(work, "nvs", _measure_epoch))


def _measure_epoch(cell: EvaluationCell, epoch: int, contents: Contents) -> Course[Protocol]:
    """Measure an epoch by the options it was measured with before, or link its numbers; where it is as wanted, say how it was measured."""
    if links_numbers(cell):
        return take_numbers(cell, epoch, "nvs", tell, contents)
    task = cell.tree.task(epoch, "nvs")
    predictions = verified(prediction_unit(cell, epoch), contents)
    if predictions.state in ("missing", "damaged"):
        raise InvalidFile(
            "there are no whole predictions to evaluate",
            file=task.prediction_record,
            found=predictions.in_words,
            remedy="make the predictions of this epoch first",
        )
    unit = task_unit(cell, epoch, "nvs")
    verdict = verified(unit, contents)
    if verdict.is_made:
        return storage.read_json(task.protocol, Protocol)
    making, cell, record = begin(unit, contents), kept(cell, verdict.record), read_predictions(task)
    _refuse_larger(cell, record, task)
    lpips = lpips_or_reason(cell.lpips_weights, cell.device, cell.experiment.evaluation.nvs.lpips)
    with staged(task.pred_dir, task.gt_inputs_dir, task.viz_dir, task.metrics_dir) as stages:
        *folders, metrics = stages
        measure = functools.partial(measure_part, cell, task, folders, record.render_scale)
        found: list[MeasuredViews] = yield Shared(measure, predicted_views(task), split_by_camera, VIEWS_A_WORKER)
        measured = {view: numbers for each in found for view, numbers in each.measured.items()}
        no_video = {camera: reason for each in found for camera, reason in each.no_video.items()}
        rows = [
            {"camera_id": view.cam_id, "frame_id": int(view.fname), **dict.fromkeys(lpips[1]), **own.values}
            for view, own in measured.items()
        ]
        siblings = [cell.tree.task(other, "nvs") for other in cell.epoch_steps() if other != epoch]
        _share_equal_files(folders[1], task, siblings, measured)
        sizes = measured_size(folders[0], measured, task)
        protocol = _protocol(cell, record, measured, task, lpips, no_video, sizes)
        write_tables(metrics, task, rows, protocol)
        written = {path: output for each in found for path, output in each.written.items()}
        also = name_views(cell.tree, task, measured, cell.scene.image_path, folders)
        publish(
            stages,
            unit,
            verdict,
            making,
            contents,
            written={**written, **{name: written[path] for name, path in also.items()}},
            noted={"device": cell.device},
            on_change=functools.partial(withdraw, cell.tree, epoch, task),
        )
    psnr = mean_of(counted_rows(rows, cell.source_camera()), "psnr")
    mean = "no view with a region" if psnr is None else f"PSNR {psnr:.3f} dB"
    tell(f"{cell.title} {epoch_name(epoch)} nvs: {len(rows)} views, {mean}")
    return protocol


def _refuse_larger(cell: EvaluationCell, record: PredictionRecord, task: TaskTree) -> None:
    """Renders that were written small are not made larger for a metric."""
    factor, scale = cell.experiment.evaluation.nvs.downscale_factor, record.render_scale
    if factor % scale:
        raise InvalidFile(
            f"the renders have 1/{scale} of the photographs' size, and the experiment measures at 1/{factor}",
            file=task.prediction_record,
            key="evaluation.nvs.downscale_factor",
            found=factor,
            wanted=f"{scale}, or a multiple of it",
            remedy="set it, or let the pipeline write larger renders",
        )


def _protocol(
    cell: EvaluationCell,
    record: PredictionRecord,
    measured: Mapping[View, ViewMetrics],
    task: TaskTree,
    lpips: tuple[Mapping[str, Lpips], dict[str, str]],
    no_video: dict[str, str],
    sizes: dict[str, list[int]],
) -> Protocol:
    """How the numbers of one (scene, epoch) were made.

    Args:
        no_video: `cam_<id>` to the reason why it has none.
        sizes: `cam_<id>` to the (height, width) at which it was measured.
    """
    (measures, why_not), spec = lpips, cell.experiment.evaluation
    masked = any(task.input_mask(view.cam_id, view.fname).exists() for view in measured)
    frames: dict[str, list[str]] = {}
    for view in measured:
        frames.setdefault(str(view.cam_id), []).append(view.fname)
    comparable: dict[str, Any] = {
        "prediction_source": record.prediction_source,
        **({} if record.refiner_size is None else {REFINER_SIZE: record.refiner_size}),
        **({} if record.render_scale == 1 else {RENDER_SIZE: f"1/{record.render_scale} of the photographs'"}),
        **spec.nvs.model_dump(mode="json", exclude={"results_convention", "lpips"}),
        "mask": "union of the people in the ground truth" if masked else "none: the whole image counts",
        "cameras": sorted(int(cam_id) for cam_id in frames),
        "frame_choice": spec.frames.model_dump(mode="json"),
        "metrics": f"psnr, ssim (11x11 Gaussian, valid windows); version {CODE_VERSIONS['nvs']}",
        **{column: measure.in_words for column, measure in measures.items()},
    }
    return Protocol(
        task="nvs",
        epoch=record.epoch,
        step=record.step,
        comparable=comparable,
        empty_metrics=why_not,
        versions={"thesis_assets": __version__, "predictions": record.renderer},
        details={
            "frames": frames,
            "source_camera": cell.source_camera(),
            "reference": "the source camera's image of the same frame",
            "results_convention": spec.nvs.results_convention,
            "empty_values": {str(view): each.reasons for view, each in measured.items() if each.reasons},
            "left_out": record.left_out,
            "checkpoint_sha256": record.checkpoint_sha256,
            "no_video": no_video,
            "measured_size": sizes,
        },
    )


def measured_size(pred: Staging, views: Iterable[View], task: TaskTree) -> dict[str, list[int]]:
    """(height, width) of what entered the metric, by `cam_<id>`."""
    from thesis_assets.images.codecs import image_size

    first = {view.cam_id: view.fname for view in reversed(list(views))}
    return {
        f"cam_{cam_id}": list(image_size(pred.place(task.pred_image(cam_id, fname))))
        for cam_id, fname in sorted(first.items())
    }


@dataclass(frozen=True)
class MeasuredViews:
    """The numbers of some views; their cameras without a video, each with the reason; and what was written."""

    measured: dict[View, ViewMetrics]
    no_video: dict[str, str]
    written: dict[Path, Output]


def measure_part(
    cell: EvaluationCell, task: TaskTree, stages: Sequence[Staging], scale: int, views: Sequence[View]
) -> MeasuredViews:
    """Write the images of some views, whole cameras, and measure what was written.

    Args:
        stages: of `pred/`, `gt_inputs/` and `viz/`.
        scale: as `render_scale` of the `PredictionRecord`.

    Raises:
        InvalidFile: an image is missing, unreadable, or of another size than the render.
    """
    pred, truth, viz = stages
    spec = cell.experiment.evaluation.nvs
    how = comparison_of(spec.model_dump())
    lpips, _ = lpips_or_reason(cell.lpips_weights, cell.device, spec.lpips)
    encoder = cell.experiment.generation.export.png_encoder
    measured: dict[View, ViewMetrics] = {}
    no_video: dict[str, str] = {}
    progress = counted(cell.title, "views measured", len(views))
    for cam_id, of_camera in itertools.groupby(views, lambda view: view.cam_id):
        with Video(viz.place(task.viz_video(cam_id)), program=shutil.which("ffmpeg")) as video:
            for view in of_camera:
                render, image, mask = _images(cell, task, view, scale)
                inside = None if mask is None else downscale_mask(mask, how.downscale_factor)
                predicted, true = metric_image(render, inside, how, scale), metric_image(image, inside, how)
                pred.write_png(task.pred_image(view.cam_id, view.fname), predicted, encoder)
                truth.write_png(task.gt_image(view.cam_id, view.fname), true, encoder)
                video.add(_write_pictures(cell, task, viz, view, scale, render, image, mask))
                with one_thread() if lpips else contextlib.nullcontext():
                    measured[view] = view_metrics(predicted, true, inside, how, lpips)
                progress(len(measured))
        if video.reason is not None:
            no_video[f"cam_{cam_id}"] = video.reason
    return MeasuredViews(measured, no_video, pred.written | truth.written | viz.written)


def _share_equal_files(truth: Staging, task: TaskTree, siblings: list[TaskTree], views: Iterable[View]) -> None:
    """Let ground truth that another epoch has already be one file with it."""
    for view in views:
        path = task.gt_image(view.cam_id, view.fname)
        content = truth.place(path).read_bytes()
        for sibling in siblings:
            other = sibling.gt_image(view.cam_id, view.fname)
            if other.is_file() and other.read_bytes() == content:
                truth.link(other, path)
                break


def _images(
    cell: EvaluationCell, task: TaskTree, view: View, scale: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The render of a view; the ground truth and the union mask at their own size, which is `scale` times the render's."""
    from thesis_assets.images.codecs import read_mask, read_rgb

    key = (view.cam_id, view.fname)
    path = cell.scene.image_path(*key)
    if path is None:
        raise InvalidFile("the ground-truth image is gone", file=cell.scene.tree.ground_truth.image(*key))
    render, image = read_rgb(task.input_render(*key)), read_rgb(path)
    mask_path = task.input_mask(*key)
    mask = read_mask(mask_path) if mask_path.exists() else None
    for other, file in ((image, path), (mask, mask_path)):
        if other is not None and smaller(other.shape[:2], scale) != render.shape[:2]:
            raise InvalidFile(
                "an image has another size than the render",
                file=file,
                found=other.shape[:2],
                wanted=render.shape[:2] if scale == 1 else f"{scale} times {render.shape[:2]}",
            )
    return render, image, mask


def _write_pictures(
    cell: EvaluationCell,
    task: TaskTree,
    viz: Staging,
    view: View,
    scale: int,
    render: NDArray[np.uint8],
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """Render beside truth on the protocol's background, which is returned, and the render on white, at the render's size."""
    import numpy as np

    from thesis_assets.images.codecs import a_channel, on_background

    spec = cell.experiment
    image, inside = downscale(image, scale), None if mask is None else a_channel(downscale_mask(mask, scale))
    height, width, _ = render.shape
    bar = max(2, width // 64)
    beside, white = np.empty((height, 2 * width + bar, 3), np.uint8), render
    beside[:, width : width + bar] = 128
    for picture, half in ((render, beside[:, :width]), (image, beside[:, width + bar :])):
        if inside is None or spec.evaluation.nvs.background == "none":
            half[:] = picture
        else:
            on_background(picture, inside, BACKGROUND_VALUES[spec.evaluation.nvs.background], out=half)
    if inside is not None:
        white = on_background(render, inside, BACKGROUND_VALUES["white"])
    for kind, pixels in (("render_vs_gt", beside), ("render_white_bg", white)):
        viz.write_png(task.viz_image(view.cam_id, kind, view.fname), pixels, spec.generation.export.png_encoder)
    return beside
