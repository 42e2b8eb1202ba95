"""`EvaluationCell`: one scene of one (experiment, run), and what the experiment file says about evaluating it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree, EvaluationTree, TuningRunTree
from thesis_assets.samples import plan
from thesis_assets.scenes.scene import Scene

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class EvaluationCell:
    """What every step of the evaluation of one scene is given.

    Attributes:
        difix: the data snapshot, with its samples and tuning runs.
        scene: the evaluated scene.
        tree: where its outputs lie.
        device: a torch device, `cpu` or `cuda`.
        lpips_weights: the folder of the two files of LPIPS; None looks into torch's hub cache.
        body_models: the folder of the SMPL and SMPL-X model files; None where there is none.
    """

    exp_name: str
    run_name: str
    experiment: ExperimentSpec
    difix: DifixTree
    scene: Scene
    tree: EvaluationTree
    device: str
    lpips_weights: Path | None = None
    body_models: Path | None = None

    @property
    def run(self) -> RunSpec:
        return self.experiment.runs[self.run_name]

    @property
    def tuning_run(self) -> TuningRunTree:
        return self.difix.tuning_run(self.run_name)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the experiment enables, also those that this scene cannot have."""
        return self.experiment.evaluation.tasks

    @property
    def applies_skip_frames(self) -> bool:
        return self.experiment.generation.frames.apply_skip_frames

    def epoch_steps(self) -> dict[int, int | None]:
        """Checkpoint step by evaluation epoch. None: the unrefined render, or a tree that says nothing of a checkpoint."""
        from thesis_assets.evaluation.source_trees import taken_steps

        steps = self.experiment.evaluation.epoch_steps(self.run)
        return steps if self.experiment.evaluation.predictions.source == "refine" else taken_steps(self, list(steps))

    def source_camera(self) -> int:
        """The camera of the monocular video: it is the reference, and never a row of the novel-view tables.

        Raises:
            InvalidScene: the registry does not name one.
            InvalidExperiment: the experiment names one without images.
        """
        return plan.source_camera(self.scene, self.experiment.generation)


def absent_tasks(cell: EvaluationCell) -> dict[str, str]:
    """The enabled tasks that this scene cannot have, each with the reason; never silently skipped."""
    from thesis_assets.evaluation.pose_inputs import why_pose_is_absent
    from thesis_assets.evaluation.source_trees import links_numbers, why_not_taken
    from thesis_assets.evaluation.views import why_nvs_is_absent

    def reason_of(task: str) -> str | None:
        if cell.experiment.evaluation.predictions.source == "existing" and (why := why_not_taken(cell, task)):
            return why
        if links_numbers(cell):
            return None
        return why_nvs_is_absent(cell) if task == "nvs" else why_pose_is_absent(cell, task)

    reasons: dict[str, str] = {}
    for task in cell.tasks:
        try:
            reason = reason_of(task)
        except ThesisAssetsError:
            if not _is_made(cell, task):
                raise
            continue
        if reason is not None and not _is_made(cell, task):
            reasons[task] = reason
    return reasons


def _is_made(cell: EvaluationCell, task: str) -> bool:
    """Whether the task lies there as wanted at every epoch: what it was made from may be gone since."""
    from thesis_assets.evaluation.task_units import task_unit

    return all(task_unit(cell, epoch, task).look().is_made for epoch in cell.epoch_steps())


def silent(line: str) -> None:
    """A progress function for callers who do not watch."""
    del line
