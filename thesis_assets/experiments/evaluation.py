"""The `evaluation` part: scenes, tasks, epochs and protocol of a run's evaluation."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from thesis_assets.experiments.command_template import Environment, Part, check_template, check_text
from thesis_assets.experiments.generation import CameraId
from thesis_assets.experiments.runs import RunSpec

Task = Literal["nvs", "pose_smplx", "pose_smpl"]
PREDICTION_COMMAND_FIELDS = ("scene_name", "exp_name", "run_name", "checkpoint", "model_dir", "output_dir")
EXISTING_TREE_FIELDS = ("scene_name", "exp_name", "run_name")


class EpochCheckpoint(Part):
    """The checkpoint an evaluation epoch stands for."""

    step: int = Field(ge=0)


class Predictions(Environment):
    """Where predictions come from: refined renders, the user's own 3DGS pipeline, or a tree on disk."""

    source: Literal["refine", "command", "existing"] = "refine"
    command: str | None = Field(
        default=None,
        description="template with {scene_name} {exp_name} {run_name} {checkpoint} {model_dir} {output_dir}",
    )
    tree: str | None = Field(
        default=None,
        description="for `existing`: the folder that holds `evaluation/epoch_XXXX/`; {scene_name} {exp_name} {run_name}",
    )
    recompute: bool = Field(default=False, description="for `existing`: measure again from its renders")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keys_belong_to_their_source(self) -> "Predictions":
        if (self.source == "command") != (self.command is not None):
            raise ValueError("`command` is needed for source `command`, and only there")
        if self.command is not None:
            check_template(self.command, PREDICTION_COMMAND_FIELDS)
        if (self.source == "existing") != (self.tree is not None):
            raise ValueError(
                "`tree` (a folder with `evaluation/` in it) is needed for source `existing`, and only there"
            )
        if self.tree is not None:
            check_text(self.tree, EXISTING_TREE_FIELDS)
        if self.recompute and self.source != "existing":
            raise ValueError("`recompute` belongs to source `existing`; the others are always measured here")
        return self


class EvaluationFrames(Part):
    """Which frames are evaluated a camera, after the experiment's own skip frames."""

    stride: int = Field(default=1, ge=1)
    max_per_camera: int = Field(default=0, ge=0, description="0 = all")


class NvsProtocol(Part):
    """How predicted and true images are compared."""

    region: Literal["full_frame", "mask", "bbox"] = "full_frame"
    background: Literal["black", "white", "none"] = "black"
    downscale_factor: int = Field(default=2, ge=1)
    results_convention: Literal["standard", "channel_sum"] = "standard"


class PoseProtocol(Part):
    """How ground-truth bodies are moved into the predicted world."""

    world_alignment: Literal["pelvis_trajectory", "camera"] = "pelvis_trajectory"


class EvaluationSpec(Part):
    """What is evaluated, when, and how."""

    scenes: tuple[str, ...] = ()
    """Empty: the test split's scenes and the reserved scenes with ground truth. Globs are allowed."""
    tasks: tuple[Task, ...] = ("nvs", "pose_smplx", "pose_smpl")
    epochs: dict[int, Literal["unrefined"] | EpochCheckpoint] | tuple[int, ...] = (0, 15, 30)
    predictions: Predictions = Predictions()
    cameras: tuple[CameraId, ...] = ()
    """Empty: all target cameras."""
    frames: EvaluationFrames = EvaluationFrames()
    nvs: NvsProtocol = NvsProtocol()
    pose: PoseProtocol = PoseProtocol()

    @field_validator("tasks")
    @classmethod
    def _tasks_stand_once(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if not tasks or len(set(tasks)) != len(tasks):
            raise ValueError("at least one task, each once")
        return tasks

    @field_validator("epochs")
    @classmethod
    def _epochs_ascend(
        cls, epochs: dict[int, Literal["unrefined"] | EpochCheckpoint] | tuple[int, ...]
    ) -> dict[int, Literal["unrefined"] | EpochCheckpoint] | tuple[int, ...]:
        numbers = list(epochs)
        if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 0:
            raise ValueError("epochs are ascending, each once, from 0 on")
        return epochs

    @model_validator(mode="after")
    def _steps_are_ours(self) -> "EvaluationSpec":
        if self.predictions.source != "refine" and isinstance(self.epochs, dict):
            raise ValueError(
                f"the epochs of source `{self.predictions.source}` are those of its own tree, and no checkpoint of ours "
                f"belongs to one: write `epochs: {list(self.epochs)}`"
            )
        return self

    def epoch_steps(self, run: RunSpec) -> dict[int, int | None]:
        """The checkpoint step of each epoch; None is the unrefined render, and every epoch of a tree that others write.

        The short form `[0, 15, 30]`: epoch 0 is unrefined, the others are equal parts of the schedule, each snapped to the
        nearest step that the run saves (the later one of two equally near).

        Raises:
            ValueError: an epoch names a step that the run does not save; the message has the saved steps.
        """
        if self.predictions.source != "refine":
            return dict.fromkeys(self.epochs)
        saved = run.saved_steps()
        if isinstance(self.epochs, tuple):
            later = [epoch for epoch in self.epochs if epoch > 0]
            steps: dict[int, int | None] = {0: None} if 0 in self.epochs else {}
            for place, epoch in enumerate(later, start=1):
                wanted = run.max_train_steps * place / len(later)
                steps[epoch] = min(saved, key=lambda step: (abs(step - wanted), -step))
            return steps
        steps = {}
        for epoch, checkpoint in self.epochs.items():
            steps[epoch] = None if checkpoint == "unrefined" else checkpoint.step
            if steps[epoch] is not None and steps[epoch] not in saved:
                raise ValueError(f"epoch {epoch} names step {steps[epoch]}, which is never saved; saved: {saved}")
        return steps
