"""What is evaluated, of every scene and epoch, by `evaluation.predictions`: refined here, written by a pipeline, or already there.

`nvs/inputs/` appears by one rename, its record inside. Does not belong here: any metric (`nvs`).
"""

from __future__ import annotations

from collections.abc import Sequence

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, Progress, absent_tasks, silent
from thesis_assets.evaluation.pipeline_command import prepare_model_dir, run_pipeline
from thesis_assets.evaluation.prediction_units import prediction_unit
from thesis_assets.evaluation.refined_predictions import RefinePlan, refine_plan, refine_share, refine_unit
from thesis_assets.evaluation.refinement import forget_refiners
from thesis_assets.evaluation.shared_work import Crew, Outcomes, by_scene, over_scenes, work_off
from thesis_assets.evaluation.taken_predictions import take_predictions
from thesis_assets.evaluation.training_artifacts import take_training_artifacts
from thesis_assets.launch.telling import tell
from thesis_assets.provenance import Contents
from thesis_assets.schemas.evaluation import PredictionRecord


def predict(
    cells: Sequence[EvaluationCell], crew: Crew | None = None, on_progress: Progress = silent
) -> Outcomes[PredictionRecord]:
    """Make the predictions of every scene and epoch; what is current already is left alone. A failed scene leaves the others.

    Args:
        cells: of one (experiment, run).
        crew: who refines, or who runs the pipeline's command: a share, or a scene, each.

    Raises:
        InvalidFile: the pipeline is to be given a checkpoint that is not selected, or in a form that it does not have.
    """
    crew = crew or Crew()
    outcomes: Outcomes[PredictionRecord] = Outcomes()
    there: list[EvaluationCell] = []
    for cell in cells:
        try:
            absent = absent_tasks(cell)
        except ThesisAssetsError as error:
            outcomes.fail(cell.scene.name, error)
            continue
        if "nvs" in absent:
            outcomes.absent[cell.scene.name] = absent["nvs"]
        if "nvs" not in absent or cell.experiment.evaluation.predictions.source != "refine":
            there.append(cell)
    if there and there[0].experiment.evaluation.predictions.source == "refine":
        _refine(there, outcomes, crew, on_progress)
    else:
        if any(_needs_pipeline(cell) for cell in there):
            prepare_model_dir(there[0])
        over_scenes(take_scene, by_scene(there), outcomes, crew, on_progress)
    return outcomes


def make_predictions(cell: EvaluationCell, epoch: int, on_progress: Progress = silent) -> PredictionRecord:
    """The predictions of one epoch of one scene, made in this process.

    Raises:
        ThesisAssetsError: no view can be compared, or the checkpoint, the tree or an image is missing or cannot be read.
    """
    if cell.experiment.evaluation.predictions.source != "refine":
        if _needs_pipeline(cell):
            prepare_model_dir(cell)
            run_pipeline(cell)
        return take_predictions(cell, epoch, on_progress)
    plan = refine_plan(cell, epoch)
    if isinstance(plan, PredictionRecord):
        return plan
    unit = refine_unit(plan, 1, on_progress)
    try:
        return unit.finish([refine_share(share) for share in unit.shares])
    finally:
        unit.discard()


def _refine(
    cells: Sequence[EvaluationCell], outcomes: Outcomes[PredictionRecord], crew: Crew, on_progress: Progress
) -> None:
    plans: list[RefinePlan] = []
    contents = Contents()
    # Epoch by epoch: a process loads each checkpoint once for all scenes.
    for epoch, cell in [(epoch, cell) for epoch in cells[0].epoch_steps() for cell in cells]:
        try:
            plan = refine_plan(cell, epoch, contents)
        except ThesisAssetsError as error:
            outcomes.fail(cell.scene.name, error)
            continue
        if isinstance(plan, PredictionRecord):
            outcomes.records[cell.scene.name, epoch] = plan
        else:
            plans.append(plan)
    crew = crew.for_views(sum(len(plan.chosen.views) for plan in plans))
    n_shares = crew.shares_a_unit(len(plans))
    try:
        work_off(
            refine_share, [refine_unit(plan, n_shares, on_progress) for plan in plans], outcomes, crew, on_progress
        )
    finally:
        forget_refiners()


def take_scene(cell: EvaluationCell) -> dict[int, PredictionRecord]:
    """In a worker: the epochs of a scene from a tree that others write; the pipeline that writes it runs first."""
    if _needs_pipeline(cell):
        run_pipeline(cell)
    contents = Contents()
    for epoch in cell.epoch_steps():
        take_training_artifacts(cell, epoch, contents)
    if "nvs" not in cell.tasks or "nvs" in absent_tasks(cell):
        return {}
    return {epoch: take_predictions(cell, epoch, tell, contents) for epoch in cell.epoch_steps()}


def _needs_pipeline(cell: EvaluationCell) -> bool:
    """Whether the user's pipeline is to be asked for its tree: not where all that is taken from it lies here as wanted."""
    if cell.experiment.evaluation.predictions.source != "command":
        return False
    contents = Contents()
    units = [prediction_unit(cell, epoch) for epoch in cell.epoch_steps()] if "nvs" in cell.tasks else []
    return not units or not all(unit.look(contents).is_made for unit in units)
