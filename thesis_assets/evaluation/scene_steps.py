"""Steps of the evaluation over some scenes, as calls that may run elsewhere, and their outputs as units, by the asset that makes them.

On this machine a call has all scenes, on a cluster one. Predictions are refined here, written by a pipeline, or already there.
Does not belong here: how a step is done (`refined_predictions`, `source_trees`, `nvs`, `pose`), how it is shared out (`shared_work`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.input_data import input_data_unit
from thesis_assets.evaluation.manifest import manifest_unit
from thesis_assets.evaluation.nvs import evaluate_nvs_scenes
from thesis_assets.evaluation.pipeline_command import prepare_model_dir, run_pipeline
from thesis_assets.evaluation.pose import evaluate_pose_scenes
from thesis_assets.evaluation.refined_predictions import refine_epochs
from thesis_assets.evaluation.shared_work import Crew, Outcomes, cells_with_task, over_scenes
from thesis_assets.evaluation.source_trees import take_predictions
from thesis_assets.evaluation.training_artifacts import (
    take_training_artifacts,
    taken_artifacts,
    training_artifacts_unit,
    write_artifacts_of_scenes,
)
from thesis_assets.evaluation.units import absent_tasks, enabled_tasks, prediction_unit, task_unit
from thesis_assets.launch.telling import tell
from thesis_assets.layout import POSE_TASKS, TASKS
from thesis_assets.provenance import Contents, Unit
from thesis_assets.schemas.evaluation import PredictionRecord


@dataclass(frozen=True)
class ScenesWork:
    """Evaluated scenes of one run. Picklable.

    Attributes:
        workers: processes at once, where it runs.
        gpu_workers: of them where each takes a GPU.
        task: of a pose step.
    """

    cells: tuple[EvaluationCell, ...]
    workers: int = 1
    gpu_workers: int = 1
    task: str = POSE_TASKS[0]


ScenesStep = Callable[[ScenesWork], Outcomes[Any]]


def predict_scenes(work: ScenesWork) -> Outcomes[Any]:
    """Make, run or link the predictions of every scene and epoch, and the pictures of what the trainer made."""
    crew, say = Crew(work.gpu_workers), _say(work)
    outcomes = predict(work.cells, crew, say)
    whole = [cell for cell in work.cells if cell.scene.name not in {*outcomes.absent, *outcomes.failed}]
    if whole and whole[0].experiment.evaluation.predictions.source == "refine":
        for name, reasons in write_artifacts_of_scenes(whole, crew, say).failed.items():
            for reason in reasons:
                outcomes.fail(name, reason)
    return outcomes


def measure_views(work: ScenesWork) -> Outcomes[Any]:
    """Compare predicted and true views of every scene and epoch."""
    return evaluate_nvs_scenes(work.cells, Crew(work.workers), _say(work))


def measure_poses(work: ScenesWork) -> Outcomes[Any]:
    """Evaluate the poses of every scene and epoch."""
    return evaluate_pose_scenes(work.cells, work.task, Crew(work.workers), _say(work))


def joined(parts: Iterable[Outcomes[Any]]) -> Outcomes[Any]:
    """The outcomes of several scenes as one."""
    whole: Outcomes[Any] = Outcomes()
    for part in parts:
        whole.records.update(part.records)
        whole.failed.update(part.failed)
        whole.absent.update(part.absent)
    return whole


def _say(work: ScenesWork) -> Callable[[str], None]:
    def say(line: str) -> None:
        tell(f"{work.cells[0].run_name}: {line}")

    return say


def units_of(asset: str, cell: EvaluationCell) -> list[Unit]:
    """What an asset makes of a scene; a task that the scene cannot have, or that is not enabled, has none.

    Args:
        asset: `input_data`, `predictions` (with the pictures of what the trainer made, which that asset writes too),
            `nvs`, `pose_smplx`, `pose_smpl` or `evaluation_manifest`.
    """
    if asset == "input_data":
        return [input_data_unit(cell)]
    if asset == "evaluation_manifest":
        return [manifest_unit(cell)]
    enabled, epochs = enabled_tasks(cell), cell.epoch_steps()
    if asset == "predictions":
        return _prediction_units(cell, enabled)
    assert asset in TASKS, asset
    return [task_unit(cell, epoch, asset) for epoch in epochs] if asset in enabled else []


def _prediction_units(cell: EvaluationCell, enabled: list[str]) -> list[Unit]:
    epochs = list(cell.epoch_steps())
    if cell.experiment.evaluation.predictions.source != "refine":
        made_from = cell.tree.training_artifacts_made_from
        taken = [epoch for epoch in epochs if made_from(epoch).is_file() or taken_artifacts(cell, epoch)]
        predicted = [prediction_unit(cell, epoch) for epoch in epochs] if "nvs" in enabled else []
        return [*predicted, *(training_artifacts_unit(cell, epoch) for epoch in taken)]
    if "nvs" in cell.tasks and "nvs" not in enabled:
        return []
    return [unit(cell, epoch) for unit in (prediction_unit, training_artifacts_unit) for epoch in epochs]


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
    crew, outcomes = crew or Crew(), Outcomes[PredictionRecord]()
    there = cells_with_task(cells, "nvs", outcomes)
    if cells and cells[0].experiment.evaluation.predictions.source == "refine":
        refine_epochs(there, outcomes, crew, on_progress)
        return outcomes
    there = [cell for cell in cells if cell.scene.name not in outcomes.failed]
    if any(_needs_pipeline(cell) for cell in there):
        prepare_model_dir(there[0])
    over_scenes(take_scene, there, outcomes, crew, on_progress)
    return outcomes


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
