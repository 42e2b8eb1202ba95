"""Novel-view synthesis: which (scene, epoch) is measured, by how many workers, and publishing what they wrote.

`pred/`, `gt_inputs/` and `viz/` are published first; `metrics/` with `protocol.json` comes last, by one rename: a reader that
finds a protocol finds everything that its numbers were computed from.
Does not belong here: one view's images and numbers (`nvs_images`), the tables and the protocol (`nvs_tables`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, Progress, absent_tasks, silent
from thesis_assets.evaluation.metric_tables import mean_of
from thesis_assets.evaluation.nvs_images import NvsShare, SharedViews, measure_share, share_equal_files
from thesis_assets.evaluation.nvs_metrics import ViewMetrics, lpips_or_reason
from thesis_assets.evaluation.nvs_tables import nvs_protocol, write_nvs_metrics
from thesis_assets.evaluation.prediction_records import predicted_views, read_predictions
from thesis_assets.evaluation.prediction_units import prediction_unit
from thesis_assets.evaluation.refined_predictions import split_by_camera
from thesis_assets.evaluation.shared_work import Crew, Outcomes, Unit, work_off
from thesis_assets.evaluation.source_trees import links_numbers
from thesis_assets.evaluation.staging import Staging
from thesis_assets.evaluation.taken_numbers import take_numbers
from thesis_assets.evaluation.task_units import outputs_of, task_unit
from thesis_assets.evaluation.unit_parts import described, kept, verified
from thesis_assets.evaluation.views import View
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.layout import epoch_name
from thesis_assets.provenance import Contents, Making, Place, begin
from thesis_assets.schemas.evaluation import PredictionRecord, Protocol

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips


@dataclass(frozen=True, eq=False)
class NvsPlan:
    """One (scene, epoch) whose numbers are not there, or were computed from something else."""

    cell: EvaluationCell
    epoch: int
    record: PredictionRecord
    views: list[View]
    place: Place
    making: Making
    contents: Contents
    lpips: Lpips | None
    why_no_lpips: str


def evaluate_nvs_scenes(
    cells: Sequence[EvaluationCell], crew: Crew | None = None, on_progress: Progress = silent
) -> Outcomes[Protocol]:
    """Measure every scene and epoch; what is current already is left alone. A failed scene leaves the others.

    Args:
        cells: of one (experiment, run).
        crew: who measures: some cameras of a (scene, epoch) each.
    """
    crew = crew or Crew()
    outcomes: Outcomes[Protocol] = Outcomes()
    plans: list[NvsPlan] = []
    contents = Contents()
    for cell in cells:
        try:
            absent = absent_tasks(cell)
            if "nvs" in absent:
                outcomes.absent[cell.scene.name] = absent["nvs"]
                continue
            for epoch in cell.epoch_steps():
                plan = _plan(cell, epoch, on_progress, contents)
                if isinstance(plan, Protocol):
                    outcomes.records[cell.scene.name, epoch] = plan
                else:
                    plans.append(plan)
        except ThesisAssetsError as error:
            outcomes.fail(cell.scene.name, error)
    crew = crew.for_views(sum(len(plan.views) for plan in plans))
    n_shares = crew.shares_a_unit(len(plans))
    work_off(measure_share, [_unit(plan, n_shares, on_progress) for plan in plans], outcomes, crew, on_progress)
    return outcomes


def evaluate_nvs(cell: EvaluationCell, epoch: int, on_progress: Progress = silent) -> Protocol:
    """Compare the predictions of one epoch of one scene with the ground truth, in this process.

    Raises:
        InvalidFile: there are no whole predictions, or an image is missing, unreadable, or of another size.
    """
    plan = _plan(cell, epoch, on_progress, Contents())
    if isinstance(plan, Protocol):
        return plan
    unit = _unit(plan, 1, on_progress)
    try:
        return unit.finish([measure_share(share) for share in unit.shares])
    finally:
        unit.discard()


def _plan(cell: EvaluationCell, epoch: int, on_progress: Progress, contents: Contents) -> NvsPlan | Protocol:
    """What is to be measured, by the options it was measured with before; or the protocol of what is there as wanted, or linked."""
    if links_numbers(cell):
        return take_numbers(cell, epoch, "nvs", on_progress, contents)
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
    lpips, why_not = lpips_or_reason(cell.lpips_weights, cell.device)
    making, as_kept = begin(unit, contents), kept(cell, verdict.record)
    record, views = read_predictions(task), predicted_views(task)
    return NvsPlan(as_kept, epoch, record, views, unit.place, making, contents, lpips, why_not)


def _unit(plan: NvsPlan, n_shares: int, on_progress: Progress) -> Unit[NvsShare, SharedViews, Protocol]:
    cell, task = plan.cell, plan.cell.tree.task(plan.epoch, "nvs")
    name = f"{cell.scene.name} {epoch_name(plan.epoch)}"
    pred, truth, viz = (Staging.begin(folder) for folder in (task.pred_dir, task.gt_inputs_dir, task.viz_dir))
    shares = [NvsShare(cell, task, views, pred, truth, viz) for views in split_by_camera(plan.views, n_shares)]
    siblings = [cell.tree.task(epoch, "nvs") for epoch in cell.epoch_steps() if epoch != plan.epoch]

    def finish(found: list[SharedViews]) -> Protocol:
        measured: dict[View, ViewMetrics] = {view: numbers for each in found for view, numbers in each.measured.items()}
        no_video = {camera: reason for each in found for camera, reason in each.no_video.items()}
        share_equal_files(truth, task, siblings, plan.views)
        protocol = nvs_protocol(cell, plan.record, measured, task, plan.lpips, plan.why_no_lpips, no_video)
        withdraw(cell.tree, plan.epoch, task)
        for stage in (pred, truth, viz):
            stage.publish()
        write_nvs_metrics(cell, task, measured, protocol)
        written = {path: output for each in found for path, output in each.written.items()}
        outputs = described(plan.place, outputs_of(task), written, plan.contents)
        plan.making.finish(outputs, noted={"device": cell.device})
        psnr = mean_of([each.values for each in measured.values()], "psnr")
        mean = "no view with a region" if psnr is None else f"PSNR {psnr:.3f} dB"
        on_progress(f"{name} nvs: {len(plan.views)} views, {mean}")
        return protocol

    def discard() -> None:
        for stage in (pred, truth, viz):
            stage.discard()

    return Unit(cell.scene.name, plan.epoch, name, shares, finish, discard)
