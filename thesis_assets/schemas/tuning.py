"""Files of a tuning run: train_config.json, checkpoint side files, evaluation rows, the selected checkpoint."""

from typing import Any, ClassVar, Literal

from thesis_assets.schemas.base import FileModel, OlderKeys

EVAL_COLUMNS = (
    *("sample_id", "group_id", "psnr_render", "psnr_refined", "ssim_render", "ssim_refined"),
    *("lpips_render", "lpips_refined"),
)
"""Columns of `eval/metrics_<step>.csv`: one row a scored test sample, unrefined beside refined. LPIPS is empty without its weights."""


ADOPTED_COMMAND = ["adopted"]
"""In place of a launch command: others launched the run."""


class TrainConfig(FileModel):
    """`tuning_runs/<run_name>/train_config.json`, written before the launch, for every backend."""

    exp_name: str
    run_name: str
    backend: str
    flags: dict[str, Any]
    """Every resolved hyperparameter; of an adopted run what its own configuration says, and null for what it does not."""
    hyperparameter_digest: str
    launch_command: list[str]
    seed: int | None
    """None, as every setting that is: of an adopted run, where nobody wrote it down."""
    device: str | None
    versions: dict[str, str]
    git_revision: str | None
    data_json: str
    """Where it lay at the launch."""
    data_json_sha256: str
    """Of what it says, with paths relative to the snapshot. A version before: of its bytes, which hold the paths of then."""
    manifest_sha256: dict[str, str]
    n_train_samples: int
    n_test_samples: int
    script_command: list[str] = []
    """Of the backend `external`: what the user's script was last started with, flags that it does not know left out."""
    notes: list[str] = []
    """What of the run's settings has no effect here, or another one than asked for, and why."""

    @property
    def is_adopted(self) -> bool:
        """Whether the run was not made here: only what it left was taken in."""
        return self.launch_command == ADOPTED_COMMAND


class CheckpointInfo(FileModel):
    """`checkpoints/model_<step>.json`, beside each checkpoint; written after it, so a checkpoint without one is not finished."""

    step: int
    sha256: str
    bytes: int
    keys: list[str]
    metrics: dict[str, float]
    data_json_sha256: str
    hyperparameter_digest: str


class PrunedCheckpoints(FileModel):
    """`checkpoints/pruned.json`: the steps whose `.pkl` was removed on request, each with when. Their side files stay."""

    steps: dict[int, str]


class EarlyStop(FileModel):
    """`checkpoints/early_stop.json`: a training that ended before its last step, as no evaluation was better for long enough."""

    step: int
    best_step: int
    best_psnr: float
    patience: int


class ProgressLine(FileModel):
    """One line of `logs/progress.jsonl`."""

    event: Literal["start", "step", "eval", "checkpoint", "done", "stopped", "failed"]
    """`stopped`: ended by a signal after saving; `failed`: `message` says why."""
    step: int
    max_steps: int
    seconds: float
    """Since the trainer started."""
    loss: float | None = None
    learning_rate: float | None = None
    samples_per_second: float | None = None
    seconds_left: float | None = None
    metrics: dict[str, float] = {}
    message: str = ""
    tracker_url: str | None = None
    """Of a `start`: where its curves are looked at."""


class JobRecord(FileModel):
    """`job.json`: where a run executes, or executed."""

    launcher: str
    host: str
    process_group: int | None
    job_id: str | None
    """Ours, unique: what stands in the environment of its processes, and in its `JobExit`."""
    started_at: str
    command: list[str]
    stdout: str
    stderr: str
    exit_file: str | None = None
    """Where the job's supervisor writes a `JobExit`; None for a command that ends with its starter."""
    scheduler_id: str | None = None
    """The cluster's own number of the job, `<array>_<element>` in an array; None for a job of this host."""
    digest: str | None = None
    """Of what a called function is given: a job of another digest answers another question."""
    returncode: int | None = None
    unfollowed: bool = False
    """Submitted ahead of its step: whoever follows it first hears how it ended, also where it has."""


class JobExit(FileModel):
    """Beside a `job.json`: how the job ended, by the account of its own supervisor."""

    job_id: str
    """A file of an earlier job of the same place says nothing about this one."""
    returncode: int
    """Negative: the signal that it died of."""
    ended_at: str


class ConvertedModel(FileModel):
    """`difix.json` in a diffusers directory: the checkpoint it was made from, and how the network is to be used."""

    checkpoint: str
    checkpoint_sha256: str
    step: int
    timestep: int
    mv_unet: bool
    prompt: str
    resolution: int
    base_model: str
    ema_decay: float | None = None
    """Of averaged weights; None: as they were trained."""


class CheckpointScore(FileModel):
    """Means over the scored test samples; `*_render` are those of the unrefined renders of the same samples."""

    step: int
    n_samples: int
    psnr: float
    psnr_render: float
    ssim: float | None
    """None: no image is as large as a window."""
    ssim_render: float | None
    lpips: float | None = None
    lpips_render: float | None = None


class RecipeScore(FileModel):
    """Means over the scored test samples of one recipe; None where nothing was measured."""

    exp_name: str
    run_name: str
    step: int
    recipe: str
    n_samples: int
    psnr_render: float | None
    psnr_refined: float | None
    ssim_render: float | None
    ssim_refined: float | None
    lpips_render: float | None
    lpips_refined: float | None


class SelectedCheckpoint(OlderKeys):
    """`selected_checkpoint.json`."""

    older_keys: ClassVar[frozenset[str]] = frozenset({"generation_digest"})

    exp_name: str
    run_name: str
    rule: str
    step: int
    path: str
    sha256: str
    weights: Literal["trained", "averaged"] = "trained"
    """What the file at `path` holds: the weights as they were trained, or their average (EMA)."""
    scores: list[CheckpointScore]
    """Every scored checkpoint; empty for the rules `last` and `step` where nothing was asked to be scored."""
    selection_groups: list[str]
    """`<dataset>/<group_id>` of the samples the choice looked at; empty for `last` and `step`."""
    selection_sample_ids: list[str]
    data_json_sha256: str
    manifest_sha256: dict[str, str]
    scene_names: list[str]
    backend: str = "tiny"
    hyperparameter_digest: str = ""
    shard_digests: dict[str, str] = {}
    """By scene: of the rows of its shard; `thesis-assets lineage` goes on from there to the scene's files."""
