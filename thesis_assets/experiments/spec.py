"""`ExperimentSpec`: one experiment file as a value, part by part (`generation`, `split`, `runs`, `evaluation`, `datasets`), with all rules."""

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from thesis_assets.experiments.command_template import Environment, Part, check_template, check_text, placeholders
from thesis_assets.experiments.recipes import RECIPE_FIELDS, Recipe, RecipeRenders, check_recipes, refused_by_source
from thesis_assets.experiments.sweeps import Sweeps, expand
from thesis_assets.layout import MAX_CAMERA_ID, check_key

# --- numbers and switches: bounded, and never taken from a text or from each other ----------------------------------

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Switch = Annotated[bool, Strict()]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]
Weight = Annotated[float, Field(ge=0.0, le=1e6, strict=True)]
MAX_STEPS = 100_000_000
MAX_CHECKPOINTS = 10_000
"""Of one run: each is a folder on the disk."""
MAX_EPOCH = 999_999
MOST_FRAMES = 1_000_000
"""Of one camera."""

# --- generation: which scenes, cameras, frames, references and renders become samples --------------------------------


CameraId = Annotated[int, Field(ge=0, le=MAX_CAMERA_ID, strict=True)]
RenderSource = Literal["gaussians", "precomputed", "command"]
RENDER_COMMAND_FIELDS = (
    *("scene_name", "source_camera", "target_cameras", "render_dir", "exp_name", "hydra_run_dir"),
    *RECIPE_FIELDS,
)
NOT_OF_A_SAMPLE = ("scenes", "scenes_from", "exclude", "on_new_scenes", "auto_fork")
"""Keys of the generation section that say which scenes there are, not what a sample of one is."""
RECIPE_KEYS = ("recipes", "recipe_seed")
ReferenceStrategy = Literal["same_time_source", "temporal_offset", "nearest_camera", "mixed"]


class TargetCameras(Part):
    """Which cameras are rendered and supervised."""

    mode: Literal["all_except_source", "explicit"] = "all_except_source"
    ids: tuple[CameraId, ...] = ()

    @model_validator(mode="after")
    def _ids_belong_to_explicit(self) -> "TargetCameras":
        if (self.mode == "explicit") != bool(self.ids):
            raise ValueError("`ids` is needed for mode `explicit`, and only there")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("`ids` names a camera twice")
        return self


class Frames(Part):
    """Which frames: skip frames are taken out first, then every `stride`-th is kept, then the cap applies a camera."""

    stride: Whole = Field(default=1, ge=1, le=MOST_FRAMES)
    max_samples_per_camera: Whole = Field(default=0, ge=0, le=MOST_FRAMES, description="0 = all")
    apply_skip_frames: Switch = True


class Reference(Part):
    """Which view accompanies a target: always one camera and one frame, written explicitly in the row."""

    strategy: ReferenceStrategy = "same_time_source"
    offset: Whole = Field(default=0, ge=-MOST_FRAMES, le=MOST_FRAMES)
    weights: dict[Literal["same_time_source", "temporal_offset", "nearest_camera"], Weight] = {}
    seed: Seed = 0

    @model_validator(mode="after")
    def _parameters_belong_to_their_strategy(self) -> "Reference":
        needs_offset = self.strategy == "temporal_offset" or "temporal_offset" in self.weights
        if needs_offset != (self.offset != 0):
            raise ValueError("`offset` (not 0) is needed for `temporal_offset`, and only there")
        if (self.strategy == "mixed") != bool(self.weights):
            raise ValueError("`weights` is needed for strategy `mixed`, and only there")
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError("`weights` must be positive")
        return self


class Renders(Environment):
    """Where the imperfect render of a target camera comes from."""

    source: RenderSource = "gaussians"
    command: str | None = Field(
        default=None,
        description="template with {scene_name} {source_camera} {target_cameras} {render_dir} {exp_name} {hydra_run_dir}; "
        "of recipes {recipe} {iterations} {train_cameras} {train_frames}",
    )

    @model_validator(mode="after")
    def _command_belongs_to_its_source(self) -> "Renders":
        if (self.source == "command") != (self.command is not None):
            raise ValueError("`command` is needed for source `command`, and only there")
        if self.command is not None:
            check_template(self.command, RENDER_COMMAND_FIELDS)
        return self


class Filtering(Part):
    """Which samples are kept, and whether the surroundings of the people are blacked out."""

    min_mask_coverage: Number = Field(default=0.0, ge=0.0, le=1.0)
    apply_mask: Switch = True


class Export(Part):
    """How samples are written."""

    prompt: str = "remove degradation"
    link_mode: Literal["auto", "copy"] = "auto"
    png_encoder: Literal["isal", "pillow", "opencv"] = "isal"


class GenerationSpec(Part):
    """Everything that shapes a data snapshot's samples."""

    scenes: tuple[str, ...] = ()
    scenes_from: str | None = None
    exclude: tuple[str, ...] = ()
    on_new_scenes: Literal["export", "ignore"] = "export"
    auto_fork: Switch = False
    source_camera: Literal["registry"] | CameraId = "registry"
    target_cameras: TargetCameras = TargetCameras()
    frames: Frames = Frames()
    reference: Reference = Reference()
    renders: Renders = Renders()
    filtering: Filtering = Filtering()
    export: Export = Export()
    recipes: tuple[Recipe, ...] = Field(default=(), validate_default=True)
    """Empty: all renders of a scene are of one making, and lie side by side."""
    recipe_seed: Seed = 0

    @field_validator("recipes")
    @classmethod
    def _recipes_can_be_rendered(cls, recipes: tuple[Recipe, ...], info: ValidationInfo) -> tuple[Recipe, ...]:
        renders, frames = info.data.get("renders"), info.data.get("frames")
        if renders is None or frames is None:  # refused already
            return recipes
        told = None if renders.command is None else placeholders(renders.command)
        if not recipes:
            if told is not None and (of_recipes := sorted(told.intersection(RECIPE_FIELDS))):
                raise ValueError(
                    f"`renders.command` has {{{of_recipes[0]}}}, and there are no `recipes` to fill it in from"
                )
            return recipes
        check_recipes(recipes)
        for why in refused_by_source(recipes, renders.source, told):
            raise ValueError(why)
        for recipe in recipes:
            if recipe.every is not None and frames.stride % recipe.every == 0:
                raise ValueError(
                    f"recipe `{recipe.name}` takes its samples from other frames than every {recipe.every}th, and "
                    f"`frames.stride: {frames.stride}` leaves only such: take another of the two numbers"
                )
        return recipes

    @field_validator("recipe_seed")
    @classmethod
    def _seed_belongs_to_recipes(cls, seed: int, info: ValidationInfo) -> int:
        if info.data.get("recipes") == ():
            raise ValueError("`recipe_seed` belongs to `recipes`, and there are none")
        return seed

    @model_serializer(mode="wrap")
    def _without_recipes(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without recipes as it was before there were any: what is made is made from the same options."""
        section: dict[str, Any] = written(self)
        return section if self.recipes else {key: each for key, each in section.items() if key not in RECIPE_KEYS}

    def recipe_renders(self) -> list[RecipeRenders]:
        """Every folder of renders of every recipe, in the order of the file."""
        return [renders for recipe in self.recipes for renders in recipe.renders()]

    @property
    def evaluated_renders(self) -> str:
        """The folder below a scene's renders that its evaluation refines: of the first recipe, the longest of its schedule; empty
        without recipes."""
        first = self.recipes[0].renders() if self.recipes else []
        return max(first, key=lambda renders: renders.value or 0.0).folder if first else ""

    @model_validator(mode="after")
    def _scenes_are_named_once(self) -> "GenerationSpec":
        if bool(self.scenes) == bool(self.scenes_from):
            raise ValueError("exactly one of `scenes` (names or globs) and `scenes_from` (a directory) is needed")
        return self


# --- runs: fine-tuning over one snapshot, and how each one's checkpoint is chosen ------------------------------------


class Selection(Part):
    """Which checkpoint of a run is handed on.

    `best_*` score test samples; the people they show may not be those one reports on, so `groups` names which test groups
    are for validation (default: all test groups that are not evaluated).
    """

    rule: Literal["best_psnr", "best_lpips", "last", "step"] = "last"
    step: Whole | None = Field(default=None, ge=0, le=MAX_STEPS)
    max_samples: Whole = Field(default=200, ge=1, le=1_000_000)
    groups: tuple[str, ...] = ()
    seed: Seed = 42

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


OURS_ALONE = (
    *("crop", "mirror", "lora_rank_unet", "ema_decay", "channels_last"),
    *("patience", "keep_last", "save_optimizer"),
)
"""Keys of a run that no published trainer has. A run that was begun before they came was trained by their defaults."""


class RunSpec(Part):
    """One fine-tuning run. The names are those of the published trainer's flags."""

    backend: Literal["tiny", "difix", "external", "pretrained"] = "tiny"
    model: str | None = None
    max_train_steps: Whole = Field(default=10_000, ge=1, le=MAX_STEPS)
    checkpointing_steps: Whole = Field(default=1000, ge=1, le=MAX_STEPS)
    eval_freq: Whole = Field(default=1000, ge=1, le=MAX_STEPS)
    viz_freq: Whole = Field(default=100, ge=1, le=MAX_STEPS)
    resolution: Annotated[int, Field(ge=16, le=8192, strict=True)] | Literal["auto"] = "auto"
    """The long side. `auto`: what the evaluation compares at, with `crop` the images' own; of published weights 1024."""
    crop: Whole = Field(default=0, ge=0, le=8192, multiple_of=16, description="0 = whole images, resized")
    mirror: Switch = True
    learning_rate: Number = Field(default=2e-5, ge=0.0, le=1e30)
    train_batch_size: Whole = Field(default=1, ge=1, le=65_536)
    gradient_accumulation_steps: Whole = Field(default=1, ge=1, le=65_536)
    dataloader_num_workers: Whole = Field(default=8, ge=0, le=1024)
    mixed_precision: Literal["bf16", "fp16", "no"] = "bf16"
    max_grad_norm: Weight = 1.0
    lambda_lpips: Weight = 1.0
    lambda_l2: Weight = 1.0
    lambda_gram: Weight = 1.0
    gram_loss_warmup_steps: Whole = Field(default=2000, ge=0, le=MAX_STEPS)
    timestep: Whole = Field(default=199, ge=0, le=999)
    mv_unet: Switch = True
    lora_rank_unet: Whole = Field(default=0, ge=0, le=1024, description="0 = the whole U-Net is tuned")
    ema_decay: Number = Field(default=0.0, ge=0.0, lt=1.0, description="0 = no averaged weights")
    gradient_checkpointing: Switch = False
    allow_tf32: Switch = False
    channels_last: Switch = False
    patience: Whole = Field(default=0, ge=0, le=MAX_CHECKPOINTS, description="evaluations; 0 = to the last step")
    keep_last: Whole = Field(default=0, ge=0, le=MAX_CHECKPOINTS, description="checkpoints; 0 = all")
    save_optimizer: Switch = True
    seed: Seed = 42
    num_processes: Whole = Field(default=1, ge=1, le=1024)
    preset: str | None = None
    stable_v100: Switch = False
    tracker: Tracker = Tracker()
    selection: Selection = Selection()
    external: External | None = None
    extra_args: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _settings_of_stable_v100(cls, value: object) -> object:
        """Keys that the run writes itself are kept. `resolution: auto` is as if it were not written."""
        if not isinstance(value, dict):
            return value
        value = {key: each for key, each in value.items() if (key, each) != ("resolution", "auto")}
        return {**STABLE_V100, **value} if value.get("stable_v100") is True else value

    @model_validator(mode="after")
    def _parts_belong_to_their_backend(self) -> "RunSpec":
        if (self.backend == "external") != (self.external is not None):
            raise ValueError("`external` (with `script`) is needed for backend `external`, and only there")
        if self.backend == "external" and self.checkpointing_steps < 2:
            raise ValueError("the published trainer saves when `step % checkpointing_steps == 1`: never, with 1")
        if self.max_train_steps // self.checkpointing_steps > MAX_CHECKPOINTS:
            raise ValueError(
                f"a checkpoint every {self.checkpointing_steps} of {self.max_train_steps} steps makes "
                f"{self.max_train_steps // self.checkpointing_steps}; at most {MAX_CHECKPOINTS}: raise `checkpointing_steps`"
            )
        for name in OURS_ALONE if self.backend == "external" else ():
            if getattr(self, name) != RunSpec.model_fields[name].default:
                raise ValueError(
                    f"`{name}` is the platform's own trainers': backend `external` runs your script, which lacks it"
                )
        if self.keep_last and self.selection.rule.startswith("best_"):
            raise ValueError(
                f"`keep_last` with `selection.rule: {self.selection.rule}`: every checkpoint is a candidate; take "
                "`save_optimizer: false` to save space, or `rule: last`"
            )
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


# --- evaluation: scenes, tasks, epochs and protocol of a run's evaluation --------------------------------------------


Task = Literal["nvs", "pose_smplx", "pose_smpl"]
PREDICTION_COMMAND_FIELDS = (
    *("scene_name", "exp_name", "run_name", "model_dir", "checkpoint", "output_dir", "hydra_run_dir"),
)
EXISTING_TREE_FIELDS = ("scene_name", "exp_name", "run_name")


class EpochCheckpoint(Part):
    """The checkpoint an evaluation epoch stands for."""

    step: Whole = Field(ge=0, le=MAX_STEPS)


Epoch = Annotated[int, Field(ge=0, le=MAX_EPOCH, strict=True)]
Epochs = dict[Epoch, Literal["unrefined"] | EpochCheckpoint] | tuple[Epoch, ...]


class Predictions(Environment):
    """Where predictions come from: refined renders, the user's own 3DGS pipeline, or a tree on disk."""

    source: Literal["refine", "command", "existing"] = "refine"
    command: str | None = Field(
        default=None,
        description="template with {scene_name} {exp_name} {run_name} {model_dir} {checkpoint} {output_dir} {hydra_run_dir}",
    )
    tree: str | None = Field(
        default=None,
        description="for `existing`: the folder that holds `evaluation/epoch_XXXX/`; {scene_name} {exp_name} {run_name}",
    )
    recompute: Switch = Field(default=False, description="for `existing`: measure again from its renders")

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

    stride: Whole = Field(default=1, ge=1, le=MOST_FRAMES)
    max_per_camera: Whole = Field(default=0, ge=0, le=MOST_FRAMES, description="0 = all")


class NvsProtocol(Part):
    """How predicted and true images are compared."""

    region: Literal["full_frame", "mask", "bbox"] = "full_frame"
    background: Literal["black", "white", "none"] = "black"
    downscale_factor: Whole = Field(default=2, ge=1, le=64)
    results_convention: Literal["standard", "channel_sum"] = "standard"
    lpips: tuple[Literal["vgg", "alex", "vgg_3dgs"], ...] = ("vgg",)
    """`lpips` is always VGG16 on [-1, 1]; the others have columns of their own."""

    @field_validator("lpips")
    @classmethod
    def _vgg_is_among_them(cls, lpips: tuple[str, ...]) -> tuple[str, ...]:
        if "vgg" not in lpips or len(set(lpips)) != len(lpips):
            raise ValueError("`vgg`, which the column lpips is of, and others beside it, each once")
        return lpips


class PoseProtocol(Part):
    """How ground-truth bodies are moved into the predicted world."""

    world_alignment: Literal["all_joints", "pelvis_trajectory", "camera"] = "all_joints"


class EvaluationSpec(Part):
    """What is evaluated, when, and how."""

    scenes: tuple[str, ...] = ()
    """Empty: the test split's scenes and the reserved scenes with ground truth. Globs are allowed."""
    tasks: tuple[Task, ...] = ("nvs", "pose_smplx", "pose_smpl")
    epochs: Epochs = (0, 15, 30)
    predictions: Predictions = Predictions()
    cameras: tuple[CameraId, ...] = ()
    """Empty: all target cameras."""
    frames: EvaluationFrames = EvaluationFrames()
    nvs: NvsProtocol = NvsProtocol()
    pose: PoseProtocol = PoseProtocol()
    control: str | None = Field(
        default=None,
        description="a run of the experiment: the same reconstruction without the tuned checkpoint; what the others gain over it is DiFix's",
    )

    @field_validator("tasks")
    @classmethod
    def _tasks_stand_once(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if not tasks or len(set(tasks)) != len(tasks):
            raise ValueError("at least one task, each once")
        return tasks

    @field_validator("epochs")
    @classmethod
    def _epochs_ascend(cls, epochs: Epochs) -> Epochs:
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


# --- split, datasets, and the whole ----------------------------------------------------------------------------------


class SplitSpec(Part):
    """Hold-out by groups: named test groups a dataset, or a seeded fraction of groups, or everything in training."""

    test_groups: dict[str, tuple[str, ...]] = {}
    test_fraction: Number | None = Field(default=None, gt=0.0, lt=1.0)
    seed: Seed = 42
    train_only: Switch = False
    reserved_scenes: tuple[str, ...] = ()
    group_rules: dict[str, str] = {}
    override_builtin_rule: Switch = False
    """A rule of `group_rules` may part people whom the built-in rule of its dataset keeps together."""

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> "SplitSpec":
        ways = [bool(self.test_groups), self.test_fraction is not None, self.train_only]
        if sum(ways) != 1:
            raise ValueError("exactly one of `test_groups`, `test_fraction` and `train_only: true` is needed")
        return self

    @field_validator("group_rules")
    @classmethod
    def _rules_are_expressions_with_one_group(cls, rules: dict[str, str]) -> dict[str, str]:
        for dataset, rule in rules.items():
            try:
                n_groups = re.compile(rule).groups
            except re.error as error:
                raise ValueError(f"the rule of `{dataset}` is not a regular expression: {error}") from error
            if rule != "scene_name" and n_groups != 1:
                raise ValueError(
                    f"the rule of `{dataset}` must capture exactly one part, or be `scene_name`: it captures {n_groups}"
                )
        return rules


class DatasetEntry(Part):
    """One dataset, by what stands before the first `_` of its scenes' names."""

    redistribution: Switch | None = None
    """Whether images of it may be passed on: recordings hold them. None: as far as it is known here."""
    licence: str = ""
    """As a card names it; empty: as it is known here."""


class ExperimentSpec(Part):
    """`experiments/<exp_name>.yaml`. `exp_name` names one data snapshot; `runs` are the tuning runs on top of it."""

    exp_name: str
    description: str = ""
    generation: GenerationSpec
    split: SplitSpec
    runs: dict[str, RunSpec] = {}
    evaluation: EvaluationSpec = EvaluationSpec()
    datasets: dict[str, DatasetEntry] = {}
    evaluation_only: Switch = False
    """Nothing is exported or tuned: the runs stand for trees that others made, and `evaluation.predictions` names them."""
    _sweeps: Sweeps[RunSpec] = PrivateAttr(default_factory=Sweeps)

    @model_validator(mode="wrap")
    @classmethod
    def _sweeps_are_their_points(
        cls, value: Any, read: ModelWrapValidatorHandler["ExperimentSpec"]
    ) -> "ExperimentSpec":
        if not isinstance(value, dict) or not isinstance(value.get("runs"), dict):
            return read(value)
        runs, sweeps = expand(value["runs"], RunSpec)
        spec = read({**value, "runs": runs})
        spec._sweeps = sweeps
        return spec

    @property
    def sweeps(self) -> Sweeps[RunSpec]:
        """Where the runs come from that a sweep declares."""
        return self._sweeps

    def with_begun(self, names: Collection[str]) -> "ExperimentSpec":
        """With the runs that were begun before they became sweeps: they stay, each before the points of its sweep."""
        runs: dict[str, RunSpec] = {}
        for name, run in self.runs.items():
            point = self.sweeps.points.get(name)
            begun = self.sweeps.unswept[point.sweep] if point is not None and point.sweep in names else None
            runs |= {point.sweep: begun} if point is not None and begun is not None else {}
            runs[name] = run
        return self.model_copy(update={"runs": runs})

    def runs_named(self, name: str) -> list[str]:
        """The run of a name, and those of the sweep or the group of seeds of that name; none where it is nothing of these."""
        return [*([name] if name in self.runs else []), *(run for run in self.sweeps.runs_of(name) if run != name)]

    def beside(self, name: str, seed: int) -> str | None:
        """The run that a name stands for beside a run of a seed: of a group that of the same seed; None where there is none."""
        for run, point in self.sweeps.points.items():
            if name in (point.group, point.row_name) and point.seed == seed:
                return run
        return name if name in self.runs else None

    @field_validator("exp_name")
    @classmethod
    def _name_is_a_key(cls, name: str) -> str:
        return _checked(name, "exp_name")

    @field_validator("runs")
    @classmethod
    def _runs_are_keys(cls, runs: dict[str, RunSpec]) -> dict[str, RunSpec]:
        for name in runs:
            _checked(name, "run_name")
        return runs

    @model_validator(mode="after")
    def _evaluation_only_has_a_tree(self) -> "ExperimentSpec":
        if self.evaluation_only and (self.evaluation.predictions.source != "existing" or not self.evaluation.scenes):
            raise ValueError(
                "`evaluation_only` is for trees that are there: it needs `evaluation.predictions` of source `existing`, "
                "and `evaluation.scenes`"
            )
        return self

    @model_validator(mode="after")
    def _control_is_a_run(self) -> "ExperimentSpec":
        control = self.evaluation.control
        known = [*self.runs, *self.sweeps.groups()]
        if control is not None and control not in known:
            raise ValueError(f"evaluation.control: `{control}` is none of the runs: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _a_directory_is_of_difix(self) -> "ExperimentSpec":
        command = self.evaluation.predictions.command
        tiny = [name for name, run in self.runs.items() if run.backend == "tiny"]
        if command is not None and tiny and "model_dir" in placeholders(command):
            raise ValueError(
                f"evaluation.predictions: {{model_dir}} is a diffusers directory, which no checkpoint of backend `tiny` becomes "
                f"(runs: {', '.join(tiny)}): take {{checkpoint}}, or backend `difix`, `external` or `pretrained`"
            )
        return self

    @model_validator(mode="after")
    def _somebody_is_there_to_end_a_run_by(self) -> "ExperimentSpec":
        if not self.split.train_only and self.evaluation.scenes:  # whom those leave is known once the data is there
            return self
        for name, run in self.runs.items():
            if run.patience and (self.split.train_only or not run.selection.groups):
                held_out = "nothing is held out" if self.split.train_only else "every test group is reported on"
                raise ValueError(
                    f"runs.{name}.patience: a run ends early by what it scores on validation groups, and there are none, as {held_out}: "
                    "name a test group in the run's `selection.groups`, or leave `patience` out"
                )
        return self

    @model_validator(mode="after")
    def _epochs_are_saved(self) -> "ExperimentSpec":
        for name, run in self.runs.items():
            try:
                self.evaluation.epoch_steps(run)
            except ValueError as error:
                raise ValueError(f"evaluation.epochs does not fit run `{name}`: {error}") from error
        return self


def _checked(name: str, what: str) -> str:
    try:
        return check_key(name, what)
    except Exception as error:
        raise ValueError(" ".join(str(error).split())) from error
