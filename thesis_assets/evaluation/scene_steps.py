"""Predictions of a scene, wherever they come from: refined here, written by a pipeline, or already there; and the outputs of every
step of the evaluation as units, by the asset that makes them.

Does not belong here: how predictions are made (`refined_predictions`, `source_trees`), how work is shared out (`shared_work`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.input_data import input_data_unit
from thesis_assets.evaluation.manifest import manifest_unit
from thesis_assets.evaluation.pipeline_command import prepare_model_dir, run_pipeline
from thesis_assets.evaluation.refined_predictions import refine_epoch
from thesis_assets.evaluation.shared_work import VIEWS_A_WORKER, Outcomes, SceneEpochs, each_epoch
from thesis_assets.evaluation.source_trees import take_predictions
from thesis_assets.evaluation.training_artifacts import (
    MAX_SAMPLES,
    take_training_artifacts,
    taken_artifacts,
    training_artifacts_unit,
    write_training_artifacts,
)
from thesis_assets.evaluation.units import enabled_tasks, prediction_unit, task_unit
from thesis_assets.launch.mapping import Course, Shared, singly
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TASKS
from thesis_assets.provenance import Contents, Unit
from thesis_assets.schemas.evaluation import PredictionRecord


def predict_views(work: SceneEpochs) -> Course[Outcomes[PredictionRecord]]:
    """Make, run or link the predictions of a scene's epochs, and the pictures of what the trainer made; what is current is left alone."""
    cell = work.cell
    if cell.experiment.evaluation.predictions.source == "refine":
        return (yield from each_epoch(work, "nvs", _refined))
    outcomes: Outcomes[PredictionRecord] = Outcomes()
    with outcomes.of_scene(cell):
        epochs = outcomes.epochs_with("nvs", work) if "nvs" in cell.tasks else ()
        if needs_pipeline := _needs_pipeline(cell):
            prepare_model_dir(cell)
        (records,) = yield Shared(partial(_take_scene, epochs, needs_pipeline), [cell], singly)
        outcomes.records.update({(cell.scene.name, epoch): record for epoch, record in records.items()})
    return outcomes


def _refined(cell: EvaluationCell, epoch: int, contents: Contents) -> Course[PredictionRecord]:
    record = yield from refine_epoch(cell, epoch, contents)
    worth = max(1, VIEWS_A_WORKER // MAX_SAMPLES)
    yield Shared(partial(write_training_artifacts, cell), [epoch], singly, worth)
    return record


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


def _take_scene(epochs: Sequence[int], needs_pipeline: bool, cell: EvaluationCell) -> dict[int, PredictionRecord]:
    """In a worker: the epochs of a scene from a tree that others write; the pipeline that writes it runs first."""
    if needs_pipeline:
        run_pipeline(cell)
    contents = Contents()
    for epoch in cell.epoch_steps():
        take_training_artifacts(cell, epoch, contents)
    return {epoch: take_predictions(cell, epoch, tell, contents) for epoch in epochs}


def _needs_pipeline(cell: EvaluationCell) -> bool:
    """Whether the user's pipeline is to be asked for its tree: not where all that is taken from it lies here as wanted."""
    if cell.experiment.evaluation.predictions.source != "command":
        return False
    contents = Contents()
    units = [prediction_unit(cell, epoch) for epoch in cell.epoch_steps()] if "nvs" in cell.tasks else []
    return not units or not all(unit.look(contents).is_made for unit in units)
