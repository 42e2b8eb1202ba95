"""Files of an evaluation tree: manifest, protocol, metric tables, leaderboard rows."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from thesis_assets.schemas.base import FileModel, OlderKeys

NVS_FRAME_COLUMNS = ("camera_id", "frame_id", "psnr", "ssim", "lpips", "psnr_channel_sum")
NVS_CAMERA_COLUMNS = ("camera_id", "psnr", "ssim", "lpips", "psnr_channel_sum")
NVS_RESULT_KEYS = ("psnr", "ssim", "lpips", "psnr_channel_sum")
NVS_MORE_METRICS = ("lpips_alex", "lpips_vgg_3dgs")
"""Where `evaluation.nvs.lpips` names them; after the other columns."""
POSE_METRICS = (
    "rr_mpjpe_mm",
    "rr_mve_mm",
    "cd_mm",
    "pcdr",
    "mpjpe_mm",
    "mve_mm",
    "pa_mpjpe_mm",
    "pcdr_legacy",
)
POSE_FRAME_COLUMNS = ("frame_id", *POSE_METRICS)
POSE_MOTION_METRICS = ("w_mpjpe_mm", "wa_mpjpe_mm", "accel_mm", "jitter")
"""After the other columns; tables of older versions lack them, and the counts."""
PEOPLE_COUNTS = ("n_people", "n_true")
"""How many people a row is over, and how many the ground truth has."""
RECALL = "recall"
"""In the overall results of poses: the share of the ground truth's people, over all frames, that were compared."""


def format_results(values: dict[str, float | None]) -> str:
    """The text of an overall results file: `psnr: 20.1092`, four decimals, `nan` for an absent value."""
    return "".join(f"{key}: {'nan' if value is None else format(value, '.4f')}\n" for key, value in values.items())


def parse_results(text: str) -> dict[str, float]:
    """`format_results` back; an absent value is `nan`.

    Raises:
        ValueError: a line is not `key: number`.
    """
    values: dict[str, float] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        key, separator, value = line.partition(":")
        if not separator:
            raise ValueError(f"not a `key: number` line: {line[:80]!r}")
        values[key.strip()] = float(value)
    return values


class EvaluationManifest(FileModel):
    """`manifest.json`, written last, from what is on disk. The first five keys are required by the output document."""

    output_layout_version: Literal["v1"]
    exp_name: str
    scene_name: str
    tasks: list[str]
    eval_epochs: list[Annotated[str, Field(pattern=r"^epoch_([0-9]{4}|[1-9][0-9]{4,8})$")]]
    nvs_cameras: list[int]
    source_camera_id: int | None
    """None: a tree that came from elsewhere does not say."""
    pose_eval_world_alignment_method: str | None
    notes: dict[str, Any]
    """`run_name`, `epoch_steps` (epoch name to checkpoint step or null), `absent_tasks` (task to reason)."""


class AdoptedTree(FileModel):
    """`adopted.json` of a tree that an adoption made by links, where not all of it can be believed."""

    origin: str
    damaged: dict[str, str]
    """By task the file, and what is wrong with it."""


class PredictionRecord(OlderKeys):
    """`nvs/inputs/predictions.json`: what the renders beside it are."""

    older_keys: ClassVar[frozenset[str]] = frozenset({"input_digest"})
    prediction_source: Literal["refine", "command", "existing"]
    epoch: int
    step: int | None
    """None: unrefined."""
    checkpoint_sha256: str | None
    n_images: int
    refiner_size: int | None = None
    """Long side in pixels at which the refiner worked; None: unrefined, or not known."""
    render_scale: int = 1
    """The photographs' size over that of the renders: 2 where a pipeline writes them at half the size."""
    renderer: str
    left_out: dict[str, str] = {}
    """Views (`cam_4/000003`) that were asked for and are not there, each with its reason."""


class Protocol(OlderKeys):
    """`metrics/protocol.json`: how the numbers beside it were made. Two rows are paired only where `comparable` is equal."""

    older_keys: ClassVar[frozenset[str]] = frozenset({"input_digest"})
    task: str
    epoch: int
    step: int | None
    comparable: dict[str, Any]
    """Everything that must be equal between two compared rows: prediction source, region, background, scale, cameras, frames, ..."""
    empty_metrics: dict[str, str]
    """Metric to the reason why it may be empty."""
    versions: dict[str, str]
    details: dict[str, Any] = {}


class InputDataRecord(OlderKeys):
    """`input_data/input_data.json`: what was linked in, from where, how."""

    older_keys: ClassVar[frozenset[str]] = frozenset({"input_digest"})
    scene_name: str
    source_camera_id: int
    frames: list[str]
    cameras: list[int]
    link_modes: dict[str, int]
    part_digests: dict[str, str] = {}
    """By part (`train/images`): of the names and contents of its files."""
    missing: list[str]
    """Parts that the scene does not have, each with its reason."""


class TrainingArtifactsRecord(OlderKeys):
    """`training_artifacts/epoch_XXXX/artifacts.json`: which samples the pictures show."""

    older_keys: ClassVar[frozenset[str]] = frozenset({"input_digest"})
    epoch: int
    step: int | None
    """None: unrefined."""
    resolution: int
    sample_ids: list[str]
    absent: dict[str, str]
    """`<kind>` or `<kind>/<sample_id>` to the reason why there is no picture."""


class LeaderboardRow(FileModel):
    """One metric of one (experiment, run, scene, epoch, task)."""

    exp_name: str = Field(description="the experiment: the name of its file")
    run_name: str = Field(description="one of its runs")
    scene_name: str = Field(description="the evaluated scene")
    epoch: int = Field(description="the evaluated epoch; of a refined run 0 is the unrefined render")
    step: int | None = Field(
        description="the checkpoint's training step; empty: unrefined, or the tree does not say, or seeds differ"
    )
    task: str = Field(description="`nvs`, `pose_smplx` or `pose_smpl`")
    metric: str = Field(description="its name in the tables of the tree")
    value: float | None = Field(description="mean over the frames; empty: not measured, and protocol.json says why")
    difference_to_unrefined: float | None = Field(
        description="paired: mean over the frames that both epochs have; empty where they may not be paired"
    )
    unrefined_reason: str | None = Field(None, description="why there is no difference to the unrefined render")
    baseline: str | None = Field(None, description="`<exp>/<run>` that is compared with, at the same epoch")
    difference_to_baseline: float | None = Field(None, description="as that to the unrefined render")
    baseline_reason: str | None = Field(None, description="why there is no difference to the baseline")
    n_frames: int = Field(description="frames that the value is the mean of")
    protocol_digest: str = Field(description="equal where two rows may be paired")
    table_digest: str = Field(description="equal where two rows may stand in one table")
    protocol_stated: bool = Field(description="false: an older tree without protocol.json")
    damaged: str = Field("", description="why there is no value: files that are not as recorded, or do not agree")
    moved: str = Field("", description="what moved since the value was made: it is stale")
    seen_people: bool = Field(False, description="true: the run was trained on people of this scene")
    leaked: str = Field("", description="what stands on both sides of the data that the run was trained on")
    data_version: str | None = Field(None, description="of the record of what the value was made from")
    checkpoint_sha256: str | None = Field(None, description="of the weights that it was made with")
    seed: int | None = Field(None, description="of a sweep with several: that of the run")
    seeds_of: str = Field(
        "", description="of a sweep with several seeds: what the runs that differ in nothing else are called"
    )
    by_seed: dict[str, float] | None = Field(
        None,
        description="of a row over seeds: the value by seed; `run_name` is then `seeds_of`, and `value` their mean",
    )
    spread: float | None = Field(
        None, description="of a row over seeds: the standard deviation of the values by seed; empty below two"
    )
    n_seeds: int | None = Field(None, description="of a row over seeds: how many it is over")
    of_seeds: int | None = Field(None, description="of a row over seeds: how many the sweep has")
    seeds_left_out: str = Field("", description="of a row over seeds: which do not count, and why")


class DifferenceRow(FileModel):
    """One metric of one (experiment, run, epoch, task) against another over all scenes of the run, paired by frame."""

    exp_name: str
    run_name: str
    epoch: int
    task: str
    metric: str
    against: str
    """`unrefined`, or `<exp>/<run>` at the same epoch."""
    table_digest: str
    n_scenes: int
    difference: float | None
    """Mean over scenes of each scene's mean over frames."""
    low: float | None
    high: float | None
    interval_over: Literal["scenes", "frames", "seeds"] | None
    """`seeds`: Student's, of the differences by seed. `frames`: there are too few scenes, so that the interval speaks of these scenes alone, and is too narrow for others."""
    sign_flip_p: float | None
    scenes_above: int
    scenes_below: int
    by_scene: dict[str, float]
    reason: str | None
    """Why there is no difference."""
    seen_people: bool = False
    """Over scenes of people that the run was trained on: never in a mean with others."""
    whose: str = ""
    """Whose gain it is, where that can be said."""
    moved: str = ""
    """What moved since either side was measured."""
    leaked: str = ""
    """What stands on both sides of the data that either run was trained on."""
    seed: int | None = None
    """Of a sweep with several: that of the run."""
    seeds_of: str = ""
    """Of a sweep with several seeds: what the runs that differ in nothing else are called."""
    by_seed: dict[str, float] | None = None
    """Of a row over seeds: the difference by seed; `run_name` is then `seeds_of`, and `difference` their mean."""
    n_seeds: int | None = None
    """Of a row over seeds: how many it is over."""
    of_seeds: int | None = None
    """Of a row over seeds: how many the sweep has."""
    seeds_left_out: str = ""
    """Of a row over seeds: which do not count, and why."""
    above_seeds: bool | None = None
    """Of a row over seeds: whether the interval leaves out zero; None where there is none."""

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


class CitedTable(FileModel):
    """`reports/cited/<name>.json`: a leaderboard as it was printed when someone cited it."""

    name: str
    exp_name: str
    made_at: str
    version: str
    """Of thesis_assets."""
    rows: list[LeaderboardRow]
    differences: list[DifferenceRow]
    protocols: dict[str, dict[str, Any]]
    """How a table was measured, by its digest."""
    comparable: dict[str, dict[str, Any]]
    """How a scene was measured, by its protocol's digest."""
    texts: dict[str, str]
    """By format, as it is printed for ever."""
    sha256: str = ""
    """Of all that stands above."""


class ComparisonRecord(OlderKeys):
    """Beside a compare page: what it says in one line, or why there is none.

    Attributes:
        against: `unrefined`, `<run>` of the same experiment, or `<exp>/<run>`.
        epoch: that the page shows; None where there is no page.
        page: the file beside the record; None: not made, for `reason`.
        headline: PSNR, SSIM and LPIPS with their signs, as plain text.
        not_for_sharing: the datasets whose licence forbids passing the page on; it holds their images.
        command: makes the page, whatever the automatic budget says.
    """

    older_keys = frozenset({"input_digest"})

    exp_name: str
    run_name: str
    against: str
    epoch: int | None
    page: str | None
    headline: str = ""
    n_bytes: int = 0
    seconds: float = 0.0
    not_for_sharing: list[str] = []
    reason: str | None = None
    command: str


class PipelineRecord(OlderKeys):
    """`_pipeline/<exp_name>/command.json`: which command wrote the tree beside it.

    Attributes:
        identity: of the command line, its environment, the checkpoint and the scene's files (`evaluation.pipeline_command`).
        finished: False while the command runs, and after it failed.
    """

    older_keys: ClassVar[frozenset[str]] = frozenset({"command_digest"})
    identity: str = ""
    command: list[str]
    checkpoint_sha256: str | None
    """None: the pipeline's base model."""
    step: int | None
    finished: bool
