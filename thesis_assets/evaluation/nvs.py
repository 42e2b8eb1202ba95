"""Novel-view synthesis: which (scene, epoch) is measured, by how many workers, and publishing what they wrote.

`pred/`, `gt_inputs/` and `viz/` are published first; `metrics/` with `protocol.json` comes last, by one rename: a reader that
finds a protocol finds everything that its numbers were computed from.
A worker measures some cameras of one (scene, epoch), one view in memory at a time, into stagings that the caller publishes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell, links_numbers
from thesis_assets.evaluation.means import counted_rows, mean_of
from thesis_assets.evaluation.metric_tables import REFINER_SIZE, write_tables
from thesis_assets.evaluation.nvs_metrics import (
    NvsComparison,
    ViewMetrics,
    comparison_of,
    lpips_or_reason,
    metric_image,
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

FRAMES_A_SECOND = 10
MAX_VIDEO_HEIGHT = 640
NO_FFMPEG = "the program ffmpeg is not installed"
VIDEO_SECONDS = 600


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
    lpips = lpips_or_reason(cell.lpips_weights, cell.device, cell.experiment.evaluation.nvs.lpips)
    with staged(task.pred_dir, task.gt_inputs_dir, task.viz_dir, task.metrics_dir) as stages:
        *folders, metrics = stages
        measure = functools.partial(measure_part, cell, task, folders)
        found: list[MeasuredViews] = yield Shared(measure, predicted_views(task), split_by_camera, VIEWS_A_WORKER)
        measured = {view: numbers for each in found for view, numbers in each.measured.items()}
        no_video = {camera: reason for each in found for camera, reason in each.no_video.items()}
        rows = [
            {"camera_id": view.cam_id, "frame_id": int(view.fname), **dict.fromkeys(lpips[1]), **own.values}
            for view, own in measured.items()
        ]
        siblings = [cell.tree.task(other, "nvs") for other in cell.epoch_steps() if other != epoch]
        _share_equal_files(folders[1], task, siblings, measured)
        protocol = _protocol(cell, record, measured, task, lpips, no_video)
        write_tables(metrics, task, rows, protocol)
        publish(
            stages,
            unit,
            verdict,
            making,
            contents,
            written={path: output for each in found for path, output in each.written.items()},
            noted={"device": cell.device},
            on_change=functools.partial(withdraw, cell.tree, epoch, task),
        )
    psnr = mean_of(counted_rows(rows, cell.source_camera()), "psnr")
    mean = "no view with a region" if psnr is None else f"PSNR {psnr:.3f} dB"
    tell(f"{cell.title} {epoch_name(epoch)} nvs: {len(rows)} views, {mean}")
    return protocol


def _protocol(
    cell: EvaluationCell,
    record: PredictionRecord,
    measured: Mapping[View, ViewMetrics],
    task: TaskTree,
    lpips: tuple[Mapping[str, Lpips], dict[str, str]],
    no_video: dict[str, str],
) -> Protocol:
    """How the numbers of one (scene, epoch) were made. `no_video`: `cam_<id>` to the reason why it has none."""
    (measures, why_not), spec = lpips, cell.experiment.evaluation
    masked = any(task.input_mask(view.cam_id, view.fname).exists() for view in measured)
    frames: dict[str, list[str]] = {}
    for view in measured:
        frames.setdefault(str(view.cam_id), []).append(view.fname)
    comparable: dict[str, Any] = {
        "prediction_source": record.prediction_source,
        **({} if record.refiner_size is None else {REFINER_SIZE: record.refiner_size}),
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
        },
    )


@dataclass(frozen=True)
class MeasuredViews:
    """The numbers of some views; their cameras without a video, each with the reason; and what was written."""

    measured: dict[View, ViewMetrics]
    no_video: dict[str, str]
    written: dict[Path, Output]


def measure_part(
    cell: EvaluationCell, task: TaskTree, stages: Sequence[Staging], views: Sequence[View]
) -> MeasuredViews:
    """Write the images of some views, whole cameras, and measure what was written.

    Args:
        stages: of `pred/`, `gt_inputs/` and `viz/`.

    Raises:
        InvalidFile: an image is missing, unreadable, or of another size than the render.
    """
    pred, truth, viz = stages
    spec = cell.experiment.evaluation.nvs
    how = comparison_of(spec.model_dump())
    lpips, _ = lpips_or_reason(cell.lpips_weights, cell.device, spec.lpips)
    encoder = cell.experiment.generation.export.png_encoder
    measured: dict[View, ViewMetrics] = {}
    progress = counted(cell.title, "views measured", len(views))
    for view in views:
        render, image, mask = _native_images(cell, task, view)
        predicted, true = metric_image(render, mask, how), metric_image(image, mask, how)
        pred.write_png(task.pred_image(view.cam_id, view.fname), predicted, encoder)
        truth.write_png(task.gt_image(view.cam_id, view.fname), true, encoder)
        _write_pictures(cell, task, viz, view, render, image, mask)
        with one_thread() if lpips else contextlib.nullcontext():
            measured[view] = view_metrics(predicted, true, mask, how, lpips)
        progress(len(measured))
    no_video = _write_videos(task, viz, views)
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


def _write_pictures(
    cell: EvaluationCell,
    task: TaskTree,
    viz: Staging,
    view: View,
    render: NDArray[np.uint8],
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
) -> None:
    """Render beside truth on the protocol's background, and the render on white, at native size."""
    import numpy as np

    encoder = cell.experiment.generation.export.png_encoder
    how = NvsComparison("full_frame", cell.experiment.evaluation.nvs.background, 1)
    bar = np.full((render.shape[0], max(2, render.shape[1] // 64), 3), 128, np.uint8)
    beside = np.concatenate([metric_image(render, mask, how), bar, metric_image(image, mask, how)], axis=1)
    viz.write_png(task.viz_image(view.cam_id, "render_vs_gt", view.fname), beside, encoder)
    white = metric_image(render, mask, NvsComparison("full_frame", "white", 1))
    viz.write_png(task.viz_image(view.cam_id, "render_white_bg", view.fname), white, encoder)


def _write_videos(task: TaskTree, viz: Staging, views: Sequence[View]) -> dict[str, str]:
    """A video a camera of its `render_vs_gt` pictures; returns the cameras without one, each with the reason."""
    reasons: dict[str, str] = {}
    by_camera: dict[int, list[Path]] = {}
    for view in views:
        picture = task.viz_image(view.cam_id, "render_vs_gt", view.fname)
        by_camera.setdefault(view.cam_id, []).append(viz.place(picture))
    for cam_id, pictures in by_camera.items():
        reason = write_video(viz.place(task.viz_video(cam_id)), pictures, program=shutil.which("ffmpeg"))
        if reason is not None:
            reasons[f"cam_{cam_id}"] = reason
    return reasons


def write_video(path: Path, pictures: Sequence[Path], *, program: str | None) -> str | None:
    """Write an MP4 that any browser plays (H.264, even sides, at most `MAX_VIDEO_HEIGHT` high); one picture a frame.

    A video is something to look at, no result: a failure is said, and fails nothing.

    Args:
        pictures: PNG files of one size, in order.
        program: the path of ffmpeg; None where there is none.

    Returns:
        Why there is no video; None where there is.
    """
    if program is None:
        return NO_FFMPEG
    scale = f"scale=-2:'trunc(min({MAX_VIDEO_HEIGHT},ih)/2)*2':flags=area"
    command = [
        *(program, "-y", "-loglevel", "error", "-f", "image2pipe", "-framerate", str(FRAMES_A_SECOND)),
        *("-c:v", "png", "-i", "-", "-vf", scale, "-c:v", "libx264", "-preset", "veryfast", "-crf", "18"),
        *("-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact", "-movflags", "+faststart", str(path)),
    ]
    try:
        with tempfile.TemporaryFile() as said:  # not a pipe: one that is full stops the program, and then us
            status = _encode(command, said, pictures)
            said.seek(0)
            why = said.read()[-300:].decode("utf-8", errors="replace").strip()
    except OSError as error:
        status, why = None, str(error)
    if status == 0 and path.is_file() and path.stat().st_size > 0:
        return None
    path.unlink(missing_ok=True)
    if status == -signal.SIGKILL:
        why = f"it did not end within {VIDEO_SECONDS} s"
    return f"ffmpeg failed: {why or f'exit status {status}, and no video'}"


def _encode(command: Sequence[str], said: IO[bytes], pictures: Sequence[Path]) -> int:
    """Give the pictures one by one: they are never all in memory. Returns the exit status; what takes too long is killed."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
    )
    clock = threading.Timer(VIDEO_SECONDS, _kill, [process])
    clock.start()
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as given:  # it ended before: what it said tells why
            for picture in pictures:
                given.write(picture.read_bytes())
        return process.wait()
    finally:
        clock.cancel()
        if process.poll() is None:
            _kill(process)
            process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
