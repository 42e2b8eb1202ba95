"""Steps of the evaluation over some scenes, as calls that may run elsewhere: on this machine all scenes in one, on a cluster one each.

Does not belong here: how a step is done (predictions, nvs, pose), how it is shared out to workers (shared_work).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.shared_work import Crew, Outcomes
from thesis_assets.launch.telling import tell
from thesis_assets.layout import POSE_TASKS


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
    from thesis_assets.evaluation.predictions import predict
    from thesis_assets.evaluation.training_artifacts import write_artifacts_of_scenes

    outcomes = predict(work.cells, Crew(work.gpu_workers), _say(work))
    whole = [cell for cell in work.cells if cell.scene.name not in {*outcomes.absent, *outcomes.failed}]
    if whole and whole[0].experiment.evaluation.predictions.source == "refine":
        artifacts = write_artifacts_of_scenes(whole, Crew(work.gpu_workers), _say(work))
        for name, reasons in artifacts.failed.items():
            for reason in reasons:
                outcomes.fail(name, reason)
    return outcomes


def measure_views(work: ScenesWork) -> Outcomes[Any]:
    """Compare predicted and true views of every scene and epoch."""
    from thesis_assets.evaluation.nvs import evaluate_nvs_scenes

    return evaluate_nvs_scenes(work.cells, Crew(work.workers), _say(work))


def measure_poses(work: ScenesWork) -> Outcomes[Any]:
    """Evaluate the poses of every scene and epoch."""
    from thesis_assets.evaluation.pose import evaluate_pose_scenes

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
