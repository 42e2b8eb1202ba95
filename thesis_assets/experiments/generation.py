"""The `generation` part: which scenes, cameras, frames, references and renders become samples."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from thesis_assets.experiments.command_template import Environment, Part, check_template
from thesis_assets.layout import MAX_CAMERA_ID

CameraId = Annotated[int, Field(ge=0, le=MAX_CAMERA_ID, strict=True)]
RenderSource = Literal["gaussians", "precomputed", "command"]
RENDER_COMMAND_FIELDS = ("scene_name", "source_camera", "target_cameras", "render_dir", "exp_name")
NOT_OF_A_SAMPLE = ("scenes", "scenes_from", "exclude", "on_new_scenes", "auto_fork")
"""Keys of the generation section that say which scenes there are, not what a sample of one is."""
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

    stride: int = Field(default=1, ge=1)
    max_samples_per_camera: int = Field(default=0, ge=0, description="0 = all")
    apply_skip_frames: bool = True


class Reference(Part):
    """Which view accompanies a target: always one camera and one frame, written explicitly in the row."""

    strategy: ReferenceStrategy = "same_time_source"
    offset: int = 0
    weights: dict[Literal["same_time_source", "temporal_offset", "nearest_camera"], float] = {}
    seed: int = 0

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
        default=None, description="template with {scene_name} {source_camera} {target_cameras} {render_dir} {exp_name}"
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

    min_mask_coverage: float = Field(default=0.0, ge=0.0, le=1.0)
    apply_mask: bool = True


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
    auto_fork: bool = False
    source_camera: Literal["registry"] | CameraId = "registry"
    target_cameras: TargetCameras = TargetCameras()
    frames: Frames = Frames()
    reference: Reference = Reference()
    renders: Renders = Renders()
    filtering: Filtering = Filtering()
    export: Export = Export()

    @model_validator(mode="after")
    def _scenes_are_named_once(self) -> "GenerationSpec":
        if bool(self.scenes) == bool(self.scenes_from):
            raise ValueError("exactly one of `scenes` (names or globs) and `scenes_from` (a directory) is needed")
        return self

    def sample_shaping(self) -> dict[str, object]:
        """The parts that shape one scene's samples: what a shard's identity is made of.

        Not the list of scenes, not what happens on new ones, and not the prompt (it stands in data.json only).
        """
        left_out: dict[str, Any] = {**dict.fromkeys(NOT_OF_A_SAMPLE, True), "export": {"prompt": True}}
        return self.model_dump(mode="json", exclude=left_out)
