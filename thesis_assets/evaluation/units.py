"""The outputs of an evaluated scene as units, by the asset that makes them."""

from __future__ import annotations

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, absent_tasks
from thesis_assets.evaluation.input_data import input_data_unit
from thesis_assets.evaluation.manifest import manifest_unit
from thesis_assets.evaluation.prediction_units import prediction_unit
from thesis_assets.evaluation.task_units import task_unit
from thesis_assets.evaluation.training_artifacts import taken_artifacts, training_artifacts_unit
from thesis_assets.layout import TASKS
from thesis_assets.provenance import Unit

__all__ = [
    "input_data_unit",
    "manifest_unit",
    "prediction_unit",
    "task_unit",
    "training_artifacts_unit",
    "units_of",
]


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
    enabled, epochs = _enabled_tasks(cell), cell.epoch_steps()
    if asset == "predictions":
        return _predictions(cell, enabled)
    assert asset in TASKS, asset
    return [task_unit(cell, epoch, asset) for epoch in epochs] if asset in enabled else []


def _enabled_tasks(cell: EvaluationCell) -> list[str]:
    try:
        absent = absent_tasks(cell)
    except ThesisAssetsError:  # the scene is gone, or lacks what it needs: making the output says so
        absent = {}
    return [task for task in cell.tasks if task not in absent]


def _predictions(cell: EvaluationCell, enabled: list[str]) -> list[Unit]:
    epochs = list(cell.epoch_steps())
    if cell.experiment.evaluation.predictions.source != "refine":
        there = [cell.tree.training_artifacts_made_from(epoch).is_file() for epoch in epochs]
        taken = [
            epoch for epoch, is_there in zip(epochs, there, strict=True) if is_there or taken_artifacts(cell, epoch)
        ]
        predicted = [prediction_unit(cell, epoch) for epoch in epochs] if "nvs" in enabled else []
        return [*predicted, *(training_artifacts_unit(cell, epoch) for epoch in taken)]
    if "nvs" in cell.tasks and "nvs" not in enabled:
        return []
    return [unit(cell, epoch) for unit in (prediction_unit, training_artifacts_unit) for epoch in epochs]
