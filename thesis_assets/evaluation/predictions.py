"""What is evaluated at one epoch: the imperfect renders refined by the epoch's checkpoint, with masks and cameras, published whole.

`nvs/inputs/` appears by one rename, its record inside. Does not belong here: any metric (`nvs`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidScene, NotBuiltYet
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.imperfect_renders import ImperfectRenders
from thesis_assets.evaluation.refinement import Refinement
from thesis_assets.evaluation.staging import Staging, staged
from thesis_assets.evaluation.views import EvaluatedViews, View, evaluated_views
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.schemas.evaluation import PredictionRecord
from thesis_assets.schemas.tuning import CheckpointInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREDICTION_VERSION = "1"
"""Raised where a change of code changes a prediction's pixels."""
SECONDS_A_LINE = 5.0


def make_predictions(
    cell: EvaluationCell, epoch: int, step: int | None, on_progress: Progress = silent
) -> PredictionRecord:
    """Write `nvs/inputs/` of one epoch; what is current already is left alone.

    Args:
        step: the checkpoint of the epoch; None keeps the renders unrefined.

    Raises:
        NotBuiltYet: `evaluation.predictions` names another source than `refine`.
        InvalidScene: no view of the scene can be compared.
        InvalidFile: the checkpoint, or an image, is missing or cannot be read.
    """
    _refuse_other_sources(cell)
    chosen, task = evaluated_views(cell), cell.tree.task(epoch, "nvs")
    renders = ImperfectRenders(cell)
    digest = _input_digest(cell, step, chosen, renders)
    current = current_record(task)
    if current is not None and (current.input_digest, current.epoch) == (digest, epoch):
        return current
    withdraw(cell.tree, epoch, task)
    with staged(task.inputs_dir) as stage:
        missing = _write_views(cell, step, chosen.views, renders, task, stage, on_progress)
        record = PredictionRecord(
            prediction_source="refine",
            epoch=epoch,
            step=step,
            checkpoint_sha256=_checkpoint_sha256(cell, step),
            n_images=len(chosen.views) - len(missing),
            input_digest=digest,
            renderer=renders.origin,
            left_out={**chosen.left_out, **missing},
        )
        if record.n_images == 0:
            raise no_views(cell, record.left_out)
        stage.write(task.prediction_record, storage.to_json_bytes(record))
    on_progress(
        f"{cell.scene.name} {epoch_name(epoch)}: {record.n_images} predictions, {len(record.left_out)} left out"
    )
    return record


def current_record(task: TaskTree) -> PredictionRecord | None:
    """The record of predictions that lie there whole, or None."""
    try:
        record = storage.read_json(task.prediction_record, PredictionRecord)
    except InvalidFile:  # missing, or of another version: the predictions are made again
        return None
    return record if len(predicted_views(task)) == record.n_images else None


def predicted_views(task: TaskTree) -> list[View]:
    """The views that lie under `nvs/inputs/`, by camera and frame number."""
    paths = task.inputs_dir.glob("cam_*/render/*.png")
    views = [View(int(path.parent.parent.name.removeprefix("cam_")), path.stem) for path in paths]
    return sorted(views, key=lambda view: (view.cam_id, int(view.fname)))


def no_views(cell: EvaluationCell, left_out: dict[str, str]) -> InvalidScene:
    """The error for a scene without anything to compare."""
    return InvalidScene(
        f"no view of `{cell.scene.name}` can be compared",
        file=cell.scene.tree.ground_truth.base,
        found="; ".join(sorted(set(left_out.values()))[:5]) or "no target camera has a chosen frame",
        wanted="a target camera's image, calibration and render, and the source camera's image, of one frame at least",
    )


def _refuse_other_sources(cell: EvaluationCell) -> None:
    source = cell.experiment.evaluation.predictions.source
    if source != "refine":
        raise NotBuiltYet(
            f"predictions by `{source}` are not built yet",
            key="evaluation.predictions",
            found=source,
            wanted="refine",
            remedy="evaluate the refined renders (`predictions: refine`)",
        )


def _input_digest(cell: EvaluationCell, step: int | None, chosen: EvaluatedViews, renders: ImperfectRenders) -> str:
    generation = cell.experiment.generation
    source = generation.renders.source
    samples = [renders.samples.get(view) for view in chosen.views]
    return storage.sha256_value(
        {
            "version": PREDICTION_VERSION,
            "step": step,
            "checkpoint": _checkpoint_sha256(cell, step),
            "renders": generation.renders.model_dump(mode="json"),
            "apply_mask": generation.filtering.apply_mask,
            "source_camera": cell.source_camera(),
            "views": [str(view) for view in chosen.views],
            "left_out": chosen.left_out,
            "scene": cell.scene.scene_stamp(source),
            "samples": [storage.file_stamp(path) if path else None for path in samples],
        }
    )


def _checkpoint_sha256(cell: EvaluationCell, step: int | None) -> str | None:
    return None if step is None else storage.read_json(cell.tuning_run.checkpoint_info(step), CheckpointInfo).sha256


def _write_views(
    cell: EvaluationCell,
    step: int | None,
    views: Sequence[View],
    renders: ImperfectRenders,
    task: TaskTree,
    stage: Staging,
    on_progress: Progress,
) -> dict[str, str]:
    """Write renders, masks and cameras; returns the views without a render, with the reason."""
    refinement = Refinement(cell, step) if step is not None else None
    missing: dict[str, str] = {}
    report = _Pace(cell.scene.name, len(views), on_progress)
    for fname, cam_ids in _by_frame(views):
        found, lacking = renders.of_frame(fname, cam_ids)
        missing |= {str(View(cam_id, fname)): reason for cam_id, reason in lacking.items()}
        for cam_id, pixels in (refinement.of_frame(fname, found) if refinement else found).items():
            _write_view(cell, View(cam_id, fname), pixels, task, stage)
        report.add(len(cam_ids))
    return missing


class _Pace:
    """A line now and then: how many, how fast, how long still."""

    def __init__(self, what: str, total: int, on_progress: Progress) -> None:
        self._what, self._total, self._on_progress = what, total, on_progress
        self._done, self._started = 0, time.monotonic()
        self._said = self._started

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said < SECONDS_A_LINE:
            return
        self._said = now
        rate = self._done / (now - self._started)
        left = (self._total - self._done) / rate
        self._on_progress(f"{self._what}: {self._done}/{self._total} predictions, {rate:.1f}/s, {left:.0f} s left")


def _by_frame(views: Sequence[View]) -> Iterator[tuple[str, list[int]]]:
    frames: dict[str, list[int]] = {}
    for view in views:
        frames.setdefault(view.fname, []).append(view.cam_id)
    yield from sorted(frames.items(), key=lambda item: int(item[0]))


def _write_view(cell: EvaluationCell, view: View, pixels: NDArray[np.uint8], task: TaskTree, stage: Staging) -> None:
    from thesis_assets.images.codecs import encode_png

    scene, key = cell.scene, (view.cam_id, view.fname)
    encoder = cell.experiment.generation.export.png_encoder
    stage.write(task.input_render(*key), encode_png(pixels, encoder))
    stage.link(scene.tree.ground_truth.camera(*key), task.input_camera(*key))
    mask = scene.mask_path(*key)
    if mask is not None:
        stage.link(mask, task.input_mask(*key))
