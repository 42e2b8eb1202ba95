"""Predictions of the source `refine`: the imperfect renders refined by the epoch's checkpoint, with masks and cameras.

A worker refines some cameras of one (scene, epoch), frame by frame, so that a frame's Gaussians and its reference are read once.
Does not belong here: any metric (`nvs`), or predictions that others made (`taken_predictions`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.imperfect_renders import ImperfectRenders
from thesis_assets.evaluation.prediction_records import no_views, read_predictions
from thesis_assets.evaluation.prediction_units import prediction_unit
from thesis_assets.evaluation.refinement import Refinement
from thesis_assets.evaluation.shared_work import Unit
from thesis_assets.evaluation.staging import Staging, files_below
from thesis_assets.evaluation.unit_parts import described, kept, verified
from thesis_assets.evaluation.views import EvaluatedViews, View, evaluated_views
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.provenance import Contents, Making, Output, Place, begin
from thesis_assets.schemas.evaluation import PredictionRecord
from thesis_assets.schemas.tuning import CheckpointInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECONDS_A_LINE = 5.0


@dataclass(frozen=True, eq=False)
class RefinePlan:
    """One (scene, epoch) whose predictions are not there, or were made from something else."""

    cell: EvaluationCell
    epoch: int
    step: int | None
    checkpoint_sha256: str | None
    chosen: EvaluatedViews
    place: Place
    making: Making
    contents: Contents


@dataclass(frozen=True, eq=False)
class RefineShare:
    """Some cameras of a plan, for one worker."""

    cell: EvaluationCell
    step: int | None
    task: TaskTree
    views: tuple[View, ...]
    stage: Staging


@dataclass(frozen=True)
class RefinedViews:
    """What a share gave: the views without a render, each with its reason; where the renders came from; and what it wrote."""

    missing: dict[str, str]
    origins: frozenset[str]
    written: dict[Path, Output]


def refine_plan(cell: EvaluationCell, epoch: int, contents: Contents | None = None) -> RefinePlan | PredictionRecord:
    """What is to be made, by the options it was made with before; or what is there, where it is as wanted.

    Raises:
        InvalidFile: the checkpoint of the epoch has not been written.
    """
    unit, contents = prediction_unit(cell, epoch), contents or Contents()
    verdict = verified(unit, contents)
    if verdict.is_made:
        return read_predictions(cell.tree.task(epoch, "nvs"))
    step, as_kept = cell.epoch_steps()[epoch], kept(cell, verdict.record)
    checkpoint = _checkpoint_sha256(cell, step)
    return RefinePlan(
        as_kept, epoch, step, checkpoint, evaluated_views(as_kept), unit.place, begin(unit, contents), contents
    )


def refine_unit(
    plan: RefinePlan, n_shares: int, on_progress: Progress = silent
) -> Unit[RefineShare, RefinedViews, PredictionRecord]:
    """The plan as work for at most `n_shares` workers. At its end older predictions, and what was measured on them, make way."""
    cell, task = plan.cell, plan.cell.tree.task(plan.epoch, "nvs")
    stage = Staging.begin(task.inputs_dir)
    shares = [
        RefineShare(cell, plan.step, task, views, stage) for views in split_by_camera(plan.chosen.views, n_shares)
    ]

    def finish(found: list[RefinedViews]) -> PredictionRecord:
        missing = {view: reason for each in found for view, reason in each.missing.items()}
        record = PredictionRecord(
            prediction_source="refine",
            epoch=plan.epoch,
            step=plan.step,
            checkpoint_sha256=plan.checkpoint_sha256,
            n_images=len(plan.chosen.views) - len(missing),
            renderer=", ".join(sorted(frozenset[str]().union(*(each.origins for each in found)))) or "none",
            left_out={**plan.chosen.left_out, **missing},
        )
        if record.n_images == 0:
            raise no_views(cell, record.left_out)
        stage.write(task.prediction_record, storage.to_json_bytes(record))
        withdraw(cell.tree, plan.epoch, task)
        stage.publish()
        written = {path: output for each in found for path, output in each.written.items()} | stage.written
        outputs = described(plan.place, files_below(task.inputs_dir), written, plan.contents)
        plan.making.finish(outputs, noted={"device": cell.device, "renderer": record.renderer})
        on_progress(f"{name}: {record.n_images} predictions, {len(record.left_out)} left out")
        return record

    name = f"{cell.scene.name} {epoch_name(plan.epoch)}"
    return Unit(cell.scene.name, plan.epoch, name, shares, finish, stage.discard)


def split_by_camera(views: Sequence[View], n_shares: int) -> list[tuple[View, ...]]:
    """At most `n_shares` parts of about one number of cameras; a camera's views stay together."""
    cameras = sorted({view.cam_id for view in views})
    count = max(1, min(n_shares, len(cameras)))
    part = {cam_id: place * count // len(cameras) for place, cam_id in enumerate(cameras)}
    return [tuple(view for view in views if part[view.cam_id] == number) for number in range(count)]


def refine_share(share: RefineShare) -> RefinedViews:
    """Write renders, masks and cameras of a share into its staging.

    Raises:
        InvalidFile: the checkpoint, or an image, is missing or cannot be read.
    """
    cell, renders = share.cell, ImperfectRenders(share.cell)
    refinement = Refinement(cell, share.step) if share.step is not None else None
    missing: dict[str, str] = {}
    report = Pace(cell.scene.name, "predictions", len(share.views))
    for fname, cam_ids in _by_frame(share.views):
        found, lacking = renders.of_frame(fname, cam_ids)
        missing |= {str(View(cam_id, fname)): reason for cam_id, reason in lacking.items()}
        for cam_id, pixels in (refinement.of_frame(fname, found) if refinement else found).items():
            _write_view(share, View(cam_id, fname), pixels)
        report.add(len(cam_ids))
    return RefinedViews(missing, renders.origins, share.stage.written)


class Pace:
    """Tells now and then: how many, how fast, how long still."""

    def __init__(self, scene_name: str, what: str, total: int) -> None:
        self._scene_name, self._what, self._total = scene_name, what, total
        self._done, self._started = 0, time.monotonic()
        self._said = self._started

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        now = time.monotonic()
        if now - self._said < SECONDS_A_LINE:
            return
        self._said = now
        rate = self._done / (now - self._started)
        left = (self._total - self._done) / rate
        tell(f"{self._scene_name}: {self._done}/{self._total} {self._what}, {rate:.1f}/s, {left:.0f} s left")


def _checkpoint_sha256(cell: EvaluationCell, step: int | None) -> str | None:
    return None if step is None else storage.read_json(cell.tuning_run.checkpoint_info(step), CheckpointInfo).sha256


def _by_frame(views: Sequence[View]) -> Iterator[tuple[str, list[int]]]:
    frames: dict[str, list[int]] = {}
    for view in views:
        frames.setdefault(view.fname, []).append(view.cam_id)
    yield from sorted(frames.items(), key=lambda item: int(item[0]))


def _write_view(share: RefineShare, view: View, pixels: NDArray[np.uint8]) -> None:
    scene, task, stage, key = share.cell.scene, share.task, share.stage, (view.cam_id, view.fname)
    encoder = share.cell.experiment.generation.export.png_encoder
    stage.write_png(task.input_render(*key), pixels, encoder)
    stage.link(scene.tree.ground_truth.camera(*key), task.input_camera(*key))
    mask = scene.mask_path(*key)
    if mask is not None:
        stage.link(mask, task.input_mask(*key))
