"""The `runs` part: fine-tuning runs over one snapshot, and how each one's checkpoint is chosen."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from thesis_assets.experiments.command_template import Environment, Part


class Selection(Part):
    """Which checkpoint of a run is handed on.

    `best_*` score test samples; the people they show may not be those one reports on, so `groups` names which test groups
    are for validation (default: all test groups that are not evaluated).
    """

    rule: Literal["best_psnr", "best_lpips", "last", "step"] = "last"
    step: int | None = None
    max_samples: int = Field(default=200, ge=1)
    groups: tuple[str, ...] = ()
    seed: int = 42

    @model_validator(mode="after")
    def _step_belongs_to_its_rule(self) -> "Selection":
        if (self.rule == "step") != (self.step is not None):
            raise ValueError("`step` is needed for rule `step`, and only there")
        return self


class External(Environment):
    """The user's own trainer script in the user's own environment."""

    script: str


class Tracker(Part):
    """Where the trainer logs its curves, beside the progress file."""

    kind: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    project: str | None = None
    entity: str | None = None
    tags: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value


STABLE_V100: dict[str, object] = {"num_processes": 2, "mixed_precision": "no", "resolution": 320, "max_grad_norm": 0.0}
"""What `stable_v100: true` puts in place of the defaults: V100 cards have no bf16, and fp16 diverged on them."""


class RunSpec(Part):
    """One fine-tuning run. The names are those of the published trainer's flags."""

    backend: Literal["tiny", "difix", "external", "pretrained"] = "tiny"
    model: str | None = None
    max_train_steps: int = Field(default=10_000, ge=1)
    checkpointing_steps: int = Field(default=1000, ge=1)
    eval_freq: int = Field(default=1000, ge=1)
    viz_freq: int = Field(default=100, ge=1)
    resolution: int = Field(default=512, ge=16)
    learning_rate: float = Field(default=2e-5, ge=0.0)
    train_batch_size: int = Field(default=1, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    dataloader_num_workers: int = Field(default=8, ge=0)
    mixed_precision: Literal["bf16", "fp16", "no"] = "bf16"
    max_grad_norm: float = Field(default=1.0, ge=0.0)
    lambda_lpips: float = Field(default=1.0, ge=0.0)
    lambda_l2: float = Field(default=1.0, ge=0.0)
    lambda_gram: float = Field(default=1.0, ge=0.0)
    gram_loss_warmup_steps: int = Field(default=2000, ge=0)
    timestep: int = Field(default=199, ge=0, le=999)
    mv_unet: bool = True
    seed: int = 42
    num_processes: int = Field(default=1, ge=1)
    preset: str | None = None
    stable_v100: bool = False
    tracker: Tracker = Tracker()
    selection: Selection = Selection()
    external: External | None = None
    extra_args: tuple[str, ...] = ()

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: object) -> object:
        # YAML 1.1 reads an unquoted `no` as false.
        return "no" if value is False else value

    @model_validator(mode="before")
    @classmethod
    def _settings_of_stable_v100(cls, value: object) -> object:
        """Keys that the run writes itself are kept."""
        return {**STABLE_V100, **value} if isinstance(value, dict) and value.get("stable_v100") is True else value

    @model_validator(mode="after")
    def _parts_belong_to_their_backend(self) -> "RunSpec":
        if (self.backend == "external") != (self.external is not None):
            raise ValueError("`external` (with `script`) is needed for backend `external`, and only there")
        if self.backend == "external" and self.checkpointing_steps < 2:
            raise ValueError("the published trainer saves when `step % checkpointing_steps == 1`: never, with 1")
        if self.backend in ("difix", "pretrained") and not self.model:
            raise ValueError(f"`model` (a hub id or a directory) is needed for backend `{self.backend}`")
        if self.selection.step is not None and self.selection.step not in self.saved_steps():
            raise ValueError(f"`selection.step` {self.selection.step} is never saved; saved: {self.saved_steps()}")
        return self

    def saved_steps(self) -> list[int]:
        """The steps at which a checkpoint is written, ascending.

        Ours: every `checkpointing_steps` and the last one. The published trainer (`external`) saves when
        `step % checkpointing_steps == 1`. `pretrained` trains nothing: its one checkpoint is step 0.
        """
        if self.backend == "pretrained":
            return [0]
        if self.backend == "external":
            return published_steps(self.max_train_steps, self.checkpointing_steps)
        steps = set(range(self.checkpointing_steps, self.max_train_steps + 1, self.checkpointing_steps))
        return sorted(steps | {self.max_train_steps})


def published_steps(max_steps: int, every: int) -> list[int]:
    """The steps at which the published trainer saves: those with `step % every == 1`, the last one not by itself."""
    return list(range(1, max_steps + 1, every))
