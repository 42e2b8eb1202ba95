"""Every path of the data and output trees, and the rules for the names inside them. Pure: no IO.

The directory documents of the project are the source: the sample-oriented tree of one data snapshot (`DifixTree`) and the
task-oriented tree of one evaluated scene (`EvaluationTree`). Paths marked *ours* are additions to them.
Does not belong here: reading, writing, or the content of any file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from thesis_assets.errors import InvalidKey, ThesisAssetsError

KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_KEY_LENGTH = 128
"""A sample directory's name is the scene name and about 50 characters more; file systems end at 255 bytes."""

TASKS = ("nvs", "pose_smplx", "pose_smpl")
POSE_TASKS = ("pose_smplx", "pose_smpl")
OUTPUT_LAYOUT_VERSION = "v1"
SCENE_STAMPS = "scene_files.stats.json"
"""*Ours*: sizes and times of the scenes' files when they were observed. Anyone may lose it: the scenes are then looked at once."""
ARCHIVED = "archived"
"""*Ours*: below the folder of experiment files, those that were laid aside."""
TEMPORARY_PREFIX = ".tmp-"
CONVERTED_RECORD = "difix.json"
"""*Ours*: in a diffusers directory that a checkpoint was converted to, what it was made from."""

MAX_CAMERA_ID = 2**31 - 1
MAX_FRAME = 10**12 - 1

_FRAME = re.compile(r"\d{6}|[1-9]\d{6,11}", re.ASCII)
_EPOCH = re.compile(r"epoch_(\d{4}|[1-9]\d{4,8})", re.ASCII)
_CHECKPOINT = re.compile(r"model_(0|[1-9]\d{0,11})\.pkl", re.ASCII)
_SAMPLE_ID = re.compile(
    r"(?P<scene>.+)__tcam(?P<tcam>0|[1-9]\d{0,9})__(?P<word>rccam|rcam)(?P<rcam>0|[1-9]\d{0,9})"
    r"__tf(?P<tf>\d{6,12})__rf(?P<rf>\d{6,12})",
    re.ASCII,
)


def check_key(value: str, what: str) -> str:
    """Return `value` if it may become a folder and a partition key.

    Args:
        what: the field's name in messages (`exp_name`, `run_name`, `scene_name`).

    Raises:
        InvalidKey: it is empty, too long, starts with a dot, leaves its folder, or has characters beyond `A-Za-z0-9._-`.
    """
    if not KEY_PATTERN.fullmatch(value) or ".." in value or len(value) > MAX_KEY_LENGTH:
        raise InvalidKey(
            f"{what} is not a safe folder name",
            key=what,
            found=ascii(value[:200]),
            wanted=f"letters, digits, '.', '_' and '-', starting with a letter or digit, no '..', "
            f"at most {MAX_KEY_LENGTH} characters",
            remedy="rename it",
        )
    return value


def check_frame(fname: str) -> str:
    """Return `fname` if it is a frame name: six digits, zero padded (more digits from frame 1,000,000 on).

    Raises:
        InvalidKey: it is not.
    """
    if not _FRAME.fullmatch(fname):
        raise InvalidKey("not a frame name", key="fname", found=ascii(fname[:200]), wanted="six digits, such as 000123")
    return fname


def frame_name(number: int) -> str:
    """`123` -> `000123`."""
    if not 0 <= number <= MAX_FRAME:
        raise InvalidKey("not a frame number", key="fname", found=number, wanted=f"0 to {MAX_FRAME}")
    return f"{number:06d}"


def check_camera(cam_id: int) -> int:
    """Return `cam_id` if it is a camera id (an integer from 0 to `MAX_CAMERA_ID`).

    Raises:
        InvalidKey: it is not.
    """
    if isinstance(cam_id, bool) or not isinstance(cam_id, int) or not 0 <= cam_id <= MAX_CAMERA_ID:
        raise InvalidKey(
            "not a camera id", key="cam_id", found=ascii(cam_id)[:200], wanted=f"an integer from 0 to {MAX_CAMERA_ID}"
        )
    return cam_id


def camera_folder(cam_id: int) -> str:
    """`16` -> `cam_16`, the folder of one camera in an evaluation tree."""
    return f"cam_{check_camera(cam_id)}"


def check_task(task: str) -> str:
    """Return `task` if it is one of `TASKS`.

    Raises:
        InvalidKey: it is not.
    """
    if task not in TASKS:
        raise InvalidKey("not a task", key="task", found=ascii(task[:80]), wanted=TASKS)
    return task


def check_person(person: int) -> int:
    """Return `person` if it is the number of a person in a scene, counted from 0.

    Raises:
        InvalidKey: it is not.
    """
    if isinstance(person, bool) or not isinstance(person, int) or not 0 <= person <= 99:
        raise InvalidKey("not a person's number", key="person", found=ascii(person)[:200], wanted="0 to 99")
    return person


def dataset_of(scene_name: str) -> str:
    """The dataset of a scene: what stands before the first `_`.

    Raises:
        InvalidKey: the scene name is unsafe, or has no dataset in front.
    """
    check_key(scene_name, "scene_name")
    dataset, separator, rest = scene_name.partition("_")
    if not separator or not dataset or not rest:
        raise InvalidKey(
            "the scene name does not start with its dataset",
            key="scene_name",
            found=scene_name,
            wanted="<dataset>_<rest>, such as hi4d_pair15_fight",
            remedy="rename the scene's folder in both roots and its registry file",
        )
    return dataset


def epoch_name(epoch: int) -> str:
    """`30` -> `epoch_0030`."""
    if epoch < 0:
        raise InvalidKey("an evaluation epoch is negative", key="epoch", found=epoch, wanted="0 or more")
    return f"epoch_{epoch:04d}"


def parse_epoch(name: str) -> int:
    """`epoch_0030` -> `30`.

    Raises:
        InvalidKey: the name is not an epoch's.
    """
    match = _EPOCH.fullmatch(name)
    if not match:
        raise InvalidKey("not an epoch's folder name", key="epoch", found=ascii(name[:200]), wanted="epoch_0030")
    return int(match[1])


def parse_checkpoint_step(name: str) -> int | None:
    """The step of `model_<step>.pkl`, or None where the name is not a checkpoint's."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, order=True)
class SampleId:
    """The identity of one triplet: which camera and frame is the target, which the reference."""

    scene_name: str
    target_cam_id: int
    reference_cam_id: int
    target_fname: str
    reference_fname: str

    def __post_init__(self) -> None:
        check_key(self.scene_name, "scene_name")
        check_camera(self.target_cam_id)
        check_camera(self.reference_cam_id)
        check_frame(self.target_fname)
        check_frame(self.reference_fname)

    def __str__(self) -> str:
        return (
            f"{self.scene_name}__tcam{self.target_cam_id}__rccam{self.reference_cam_id}"
            f"__tf{self.target_fname}__rf{self.reference_fname}"
        )

    @classmethod
    def parse(cls, text: str, *, accept_older: bool = False) -> "SampleId":
        """Read a sample id.

        Args:
            accept_older: also read the older form with `rcam` in place of `rccam`.

        Raises:
            InvalidKey: the text is not a sample id.
        """
        match = _SAMPLE_ID.fullmatch(text)
        if not match or (match["word"] == "rcam" and not accept_older):
            raise InvalidKey(
                "not a sample id",
                key="sample_id",
                found=ascii(text[:300]),
                wanted="<scene>__tcam<T>__rccam<S>__tf<frame>__rf<frame>",
            )
        return cls(match["scene"], int(match["tcam"]), int(match["rcam"]), match["tf"], match["rf"])


def device_lock(name: str) -> Path:
    """*Ours*: the lock file of one GPU of this host, for all of its users and whatever their data roots are.

    Args:
        name: as CUDA_VISIBLE_DEVICES has it: a number, `GPU-<uuid>`, `MIG-GPU-<uuid>/<number>/<number>`.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return Path("/tmp") / f"thesis_assets-gpu-{check_key(safe, 'GPU')}.lock"  # noqa: S108 - opened without following links


def inside(root: Path, relative: str, what: str) -> Path:
    """`root / relative`, refused where it would leave `root` (by `..` or an absolute path; symlinks are checked where IO is).

    Raises:
        InvalidKey: the path leaves the root.
    """
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative:
        raise InvalidKey(
            "a path leaves its root", file=root, key=what, found=ascii(relative), wanted="a relative path below it"
        )
    return root / path


class Below:
    """A path of a tree that lies at one place below its `base`."""

    def __init__(self, relative: str) -> None:
        self._relative = relative

    def __get__(self, tree: Any, kind: type) -> Path:
        path: Path = tree.base / self._relative
        return path


@dataclass(frozen=True)
class SceneFolders:
    """The folders of one scene, in either root, and of `input_data/train` and `input_data/test`, which keep the same form."""

    base: Path

    images_dir = Below("images")
    cameras_dir = Below("all_cameras")
    seg_dir = Below("seg")
    masks_dir = Below("seg/img_seg_mask")
    depths_dir = Below("depths")
    meshes_dir = Below("meshes")
    gaussians_dir = Below("gaussians")
    canonical_gaussians_dir = Below("canon_3dgs_lhm")
    static_gaussians = Below("gaussians/static.ply")
    skip_frames = Below("skip_frames.csv")
    meta = Below("meta.npz")
    preprocess_info = Below("misc/preprocess_info.txt")
    person_id_map = Below("misc/person_id_map.json")
    demo_record = Below("misc/demo_record.json")
    """*Ours*: from what a demo scene was made, and the sizes of its files."""
    import_record = Below("misc/import_record.json")
    """*Ours*: from which files of another format a scene was made, and which image is which camera and frame."""

    def image(self, cam_id: int, fname: str, suffix: str = ".jpg") -> Path:
        return self.images_dir / str(check_camera(cam_id)) / f"{check_frame(fname)}{suffix}"

    def camera(self, cam_id: int, fname: str) -> Path:
        return self.cameras_dir / str(check_camera(cam_id)) / f"{check_frame(fname)}.npz"

    def mask(self, cam_id: int, fname: str, person: int | str = "all") -> Path:
        return (
            self.masks_dir / str(check_camera(cam_id)) / check_key(str(person), "person") / f"{check_frame(fname)}.png"
        )

    def bodies_dir(self, model: str) -> Path:
        """`model`: `smplx` or `smpl`."""
        return self.base / model

    def body(self, model: str, fname: str) -> Path:
        return self.bodies_dir(model) / f"{check_frame(fname)}.npz"

    def depth(self, cam_id: int, fname: str) -> Path:
        return self.depths_dir / str(check_camera(cam_id)) / f"{check_frame(fname)}.npy"

    def mesh(self, fname: str) -> Path:
        return self.meshes_dir / f"{check_frame(fname)}.obj"

    def gaussians(self, fname: str) -> Path:
        return self.gaussians_dir / f"{check_frame(fname)}.ply"

    def nv_generation_debug(self, kind: str) -> Path:
        """`kind`: `images`, `masks` or `depths`. Only under `input_data/train`."""
        return self.base / "misc" / "nv_generation" / f"est_{kind}_debug"


@dataclass(frozen=True)
class SceneTree:
    """Where one scene lies: ground truth, estimates, registry entry and renders by another pipeline.

    `recipe`: the folder of a recipe's renders; empty: those that lie side by side, of no recipe.
    """

    canonical_gt_root: Path
    preprocessing_root: Path
    registry_dir: Path
    renders_root: Path
    scene_name: str
    recipe: str = ""

    def __post_init__(self) -> None:
        dataset_of(self.scene_name)
        if self.recipe:
            check_key(self.recipe, "recipe")

    @property
    def ground_truth(self) -> SceneFolders:
        return SceneFolders(self.canonical_gt_root / self.scene_name)

    @property
    def estimated(self) -> SceneFolders:
        return SceneFolders(self.preprocessing_root / self.scene_name)

    @property
    def registry_entry(self) -> Path:
        return self.registry_dir / f"{self.scene_name}.json"

    @property
    def renders_dir(self) -> Path:
        return self.renders_root / self.scene_name / self.recipe

    def render(self, cam_id: int, fname: str) -> Path:
        return self.renders_dir / str(check_camera(cam_id)) / f"{check_frame(fname)}.png"

    @property
    def import_lock(self) -> Path:
        """*Ours*: held while the scene's ground truth is imported."""
        return self.canonical_gt_root / ".locks" / f"{self.scene_name}.lock"

    @property
    def renders_made_from(self) -> Path:
        """*Ours*: what the command made the renders beside it from."""
        return self.renders_dir / "made_from.json"

    @property
    def render_record(self) -> Path:
        """*Ours*: which command made the renders beside it, from what."""
        return self.renders_dir / "command.json"

    @property
    def renders_lock(self) -> Path:
        """*Ours*: held while a command writes the scene's renders, which all experiments share."""
        return self.renders_root / ".locks" / f"{self.scene_name}.lock"


@dataclass(frozen=True)
class SceneRunTree:
    """*Ours*: the shard of one scene, `scene_runs/<scene_name>/`."""

    base: Path

    all_samples = Below("all_samples.jsonl")
    dropped_samples = Below("dropped_samples.csv")
    run_stats = Below("run_stats.json")
    made_from = Below("made_from.json")
    """What the shard was made from: its files here, and those of its samples."""


@dataclass(frozen=True)
class TuningRunTree:
    """`tuning_runs/<run_name>/`: checkpoints, evaluation files and configuration of one fine-tuning run."""

    base: Path

    checkpoints_dir = Below("checkpoints")
    pruned = Below("checkpoints/pruned.json")
    """*Ours*: which steps' checkpoints were removed on request; their side files stay."""
    early_stop = Below("checkpoints/early_stop.json")
    """*Ours*: the step that a training ended at before its last one, by its scores."""
    eval_dir = Below("eval")
    train_config = Below("train_config.json")
    logs_dir = Below("logs")
    """*Ours*: stdout, stderr and the trainer's own tracker files."""
    progress = Below("logs/progress.jsonl")
    """*Ours*: one JSON line a report of the running trainer."""
    curves = Below("logs/curves.csv")
    """*Ours*: the same numbers as a table, a row a step."""
    job = Below("job.json")
    """*Ours*: where the run executes (host, process group or job id)."""
    script_job = Below("logs/script_job.json")
    """*Ours*: the processes of a user's own trainer script, below the job that follows it."""
    job_exit = Below("job_exit.json")
    """*Ours*: how that job ended, by the account of its own supervisor."""
    selected_checkpoint = Below("selected_checkpoint.json")
    """*Ours*: the chosen checkpoint with scores and lineage."""
    pipeline_overrides = Below("pipeline_overrides.yaml")
    """*Ours*: YAML overrides that hand the checkpoint to the 3DGS pipeline."""
    triplet_recording = Below("rerun/triplets.rrd")
    publication = Below("rerun/published.json")
    """*Ours*: what of this run was published, where, at which revision."""

    @property
    def snapshot(self) -> "DifixTree":
        """The snapshot that the run lies in.

        Raises:
            InvalidKey: it lies in none.
        """
        folder = self.base.absolute().parent.parent
        return DifixTree(folder.parent, folder.name)

    @property
    def averaged(self) -> "AveragedTree":
        """*Ours*: averaged weights (EMA), by the same names and with the same side files."""
        return AveragedTree(self.base)

    @property
    def resume(self) -> "ResumeTree":
        """*Ours*: what a run needs to go on, of its newest step, where its checkpoints hold weights alone."""
        return ResumeTree(self.base)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints_dir / f"model_{step}.pkl"

    def checkpoint_info(self, step: int) -> Path:
        """*Ours*: step, sha256, bytes, keys and metrics of one checkpoint."""
        return self.checkpoints_dir / f"model_{step}.json"

    @staticmethod
    def info_beside(checkpoint: Path) -> Path:
        """*Ours*: the side file of a checkpoint, wherever it lies."""
        return checkpoint.with_suffix(".json")

    def average_beside(self, checkpoint: Path) -> Path:
        """*Ours*: the averaged weights that belong to a checkpoint of any run, or to what a run of weights alone goes on from."""
        folder = checkpoint.parent
        folder = folder.parent if folder.name == self.resume.checkpoints_dir.name else folder
        return folder / self.averaged.checkpoints_dir.name / checkpoint.name

    def converted(self, step: int) -> Path:
        """*Ours*: a checkpoint as a directory that a diffusers pipeline loads."""
        return self.base / "converted" / f"model_{step}"

    def eval_metrics(self, step: int) -> Path:
        return self.eval_dir / f"metrics_{step}.csv"

    def eval_contact_sheet(self, step: int) -> Path:
        return self.eval_dir / f"contact_sheet_{step}.png"

    def made_from(self, asset: str) -> Path:
        """*Ours*: what the run's `tuned_checkpoint`, `selected_checkpoint` or another asset of it was made from."""
        return self.base / f"{asset}.made_from.json"


class AveragedTree(TuningRunTree):
    """A run whose checkpoints are the averaged ones. Not beside the others: the published trainer goes on from any `.pkl` there."""

    checkpoints_dir = Below("checkpoints/ema")


class ResumeTree(TuningRunTree):
    """A run whose checkpoints are what it goes on from."""

    checkpoints_dir = Below("checkpoints/resume")


@dataclass(frozen=True)
class JobTree:
    """*Ours*: one job's record, how it ended, what it answered, and what it told meanwhile."""

    base: Path

    record = Below("job.json")
    exit_file = Below("job_exit.json")
    answer = Below("answer.pickle")
    told_dir = Below("told")

    def absolute(self) -> "JobTree":
        """The same place, whatever the working directory of who reads it."""
        return JobTree(self.base.absolute())


@dataclass(frozen=True)
class CommandTree:
    """*Ours*: where a command that a user names executes, or executed, and what it said."""

    base: Path

    job = Below("job.json")
    stdout = Below("stdout.log")
    stderr = Below("stderr.log")
    hydra_run_dir = Below("hydra")
    """What a command of Hydra's is given as its run folder where no root of these is set."""


def hydra_run_dir(root: Path, exp_name: str, run_name: str | None, scene_name: str) -> Path:
    """*Ours*: the run folder of a command of Hydra's, below the root of these; `run_name` None: of the scene's renders."""
    run = "_renders" if run_name is None else check_key(run_name, "run_name")
    return root / check_key(exp_name, "exp_name") / run / check_key(scene_name, "scene_name")


@dataclass(frozen=True)
class DifixTree:
    """`<root>/<exp_name>/`: one data snapshot, its manifests, its trainer adapter and its tuning runs."""

    root: Path
    exp_name: str

    samples_dir = Below("samples")
    manifests_dir = Below("manifests")
    all_samples = Below("manifests/all_samples.jsonl")
    split_train = Below("manifests/split_train.jsonl")
    split_test = Below("manifests/split_test.jsonl")
    split_summary = Below("manifests/split_summary.json")
    data_json = Below("difix/data.json")
    tuning_runs_dir = Below("tuning_runs")
    meta_dir = Below("meta")
    generation_config = Below("meta/generation_config.yaml")
    generation_stats = Below("meta/generation_stats.json")
    exclusions = Below("meta/exclude.csv")
    """*Ours*: the samples that the halves were made without."""
    dropped_samples = Below("meta/dropped_samples.csv")
    attempts_dir = Below("meta/attempts")
    """*Ours*: the last attempts at cells that are not made."""
    frozen = Below("meta/frozen.json")
    """*Ours*: digests of a snapshot that tuning runs depend on."""
    scene_runs_dir = Below("scene_runs")
    set_aside_dir = Below("set_aside")
    """*Ours*: samples and shards of scenes that the experiment no longer names, moved here on request; a folder a scene."""

    def __post_init__(self) -> None:
        check_key(self.exp_name, "exp_name")

    @property
    def base(self) -> Path:
        return self.root / self.exp_name

    def sample_dir(self, sample: SampleId) -> Path:
        return self.samples_dir / str(sample)

    def image(self, sample: SampleId) -> Path:
        return self.sample_dir(sample) / "image.png"

    def target_image(self, sample: SampleId) -> Path:
        return self.sample_dir(sample) / "target_image.jpg"

    def ref_image(self, sample: SampleId) -> Path:
        return self.sample_dir(sample) / "ref_image.jpg"

    def sample_meta(self, sample: SampleId) -> Path:
        return self.sample_dir(sample) / "meta.json"

    def relative(self, path: Path) -> str:
        """The path as manifests write it: relative to `<root>/<exp_name>`, with forward slashes."""
        return path.relative_to(self.base).as_posix()

    def tuning_run(self, run_name: str) -> TuningRunTree:
        return TuningRunTree(self.tuning_runs_dir / check_key(run_name, "run_name"))

    def made_from(self, asset: str) -> Path:
        """*Ours*: what `sample_set`, `split_manifests` or `difix_data` was made from."""
        return self.meta_dir / f"{asset}.made_from.json"

    def lock(self, cell: str) -> Path:
        """*Ours*: held while the cell is at work."""
        return self.meta_dir / "locks" / f"{check_key(cell, 'lock')}.lock"

    def job(self, cell: str) -> "JobTree":
        """*Ours*: where a cell's work executes that is not a tuning run, or executed."""
        return JobTree(self.meta_dir / "jobs" / check_key(cell, "job"))

    def attempt(self, cell: str) -> Path:
        """*Ours*: the last attempt at a cell that is not made."""
        return self.attempts_dir / f"{check_key(cell, 'attempt')}.json"

    def render_command(self, scene_name: str, recipe: str = "") -> "CommandTree":
        """*Ours*: of the user's render command for one scene, and for one folder of a recipe's renders."""
        return CommandTree(self.meta_dir / "render_logs" / check_key(scene_name, "scene_name") / recipe)

    def scene_run(self, scene_name: str) -> SceneRunTree:
        return SceneRunTree(self.scene_runs_dir / check_key(scene_name, "scene_name"))

    def run_set_aside(self, run_name: str, number: int) -> Path:
        """*Ours*: a finished training that was made anew; the first is number 1."""
        return self.base / "set_aside_runs" / f"{check_key(run_name, 'run_name')}.{number}"


@dataclass(frozen=True)
class TaskTree:
    """`evaluation/epoch_XXXX/<task>/`: inputs, pred, gt_inputs, metrics, viz of one task at one epoch."""

    base: Path
    task: str

    inputs_dir = Below("inputs")
    pred_dir = Below("pred")
    gt_inputs_dir = Below("gt_inputs")
    metrics_dir = Below("metrics")
    viz_dir = Below("viz")
    protocol = Below("metrics/protocol.json")
    """*Ours*: how the numbers beside it were computed, and the digest of what they were computed from."""
    made_from = Below("metrics/made_from.json")
    """*Ours*: what the task's numbers, images and meshes were made from."""

    # --- nvs ---------------------------------------------------------------------------------------------------------

    predictions_made_from = Below("inputs/made_from.json")
    """*Ours*: what the renders under `inputs/` were made from."""
    prediction_record = Below("inputs/predictions.json")
    """*Ours*: where the renders under `inputs/` come from (checkpoint, step, digests)."""

    def input_render(self, cam_id: int, fname: str) -> Path:
        return self.inputs_dir / camera_folder(cam_id) / "render" / f"{check_frame(fname)}.png"

    def input_mask(self, cam_id: int, fname: str) -> Path:
        return self.inputs_dir / camera_folder(cam_id) / "mask" / f"{check_frame(fname)}.png"

    def input_camera(self, cam_id: int, fname: str) -> Path:
        return self.inputs_dir / camera_folder(cam_id) / "camera" / f"{check_frame(fname)}.npz"

    def pred_image(self, cam_id: int, fname: str) -> Path:
        return self.pred_dir / camera_folder(cam_id) / f"{check_frame(fname)}.png"

    def gt_image(self, cam_id: int, fname: str) -> Path:
        return self.gt_inputs_dir / camera_folder(cam_id) / f"{check_frame(fname)}.png"

    def viz_image(self, cam_id: int, kind: str, fname: str) -> Path:
        """`kind`: `render_vs_gt` or `render_white_bg`."""
        return self.viz_dir / camera_folder(cam_id) / kind / f"{check_frame(fname)}.png"

    def viz_video(self, cam_id: int) -> Path:
        """The camera's `render_vs_gt` pictures, one after the other."""
        return self.viz_dir / camera_folder(cam_id) / "render_vs_gt.mp4"

    def older_metric_picture(self, cam_id: int, fname: str) -> Path:
        """*Ours*: a picture that older scripts kept of what they measured, in a tree that was adopted."""
        return self.viz_dir / camera_folder(cam_id) / "metrics_input" / f"{check_frame(fname)}.jpg"

    def metric_picture(self, side: str, cam_id: int, fname: str, suffix: str = ".png") -> Path:
        """*Ours*, preset `thesis`: the image that entered the metric, where older scripts kept it. `side`: `pred` or `gt_inputs`."""
        return self.base / side / camera_folder(cam_id) / "metrics_input" / f"{check_frame(fname)}{suffix}"

    def viz_camera(self, cam_id: int, fname: str) -> Path:
        """*Ours*, preset `thesis`: the calibration of a compared view."""
        return self.viz_dir / "all_cameras" / str(check_camera(cam_id)) / f"{check_frame(fname)}.npz"

    def viz_photograph(self, cam_id: int, fname: str, suffix: str = ".jpg") -> Path:
        """*Ours*, preset `thesis`: the photograph of a compared view."""
        return self.viz_dir / "images" / str(check_camera(cam_id)) / f"{check_frame(fname)}{suffix}"

    nvs_results = Below("metrics/novel_view_results.txt")
    nvs_per_camera = Below("metrics/metrics_avg_per_camera.csv")
    nvs_per_frame = Below("metrics/metrics_all_cams_per_frame.csv")

    # --- pose --------------------------------------------------------------------------------------------------------

    @property
    def body_model(self) -> str:
        """`smplx` or `smpl`.

        Raises:
            ThesisAssetsError: the task is not a pose task.
        """
        if self.task not in POSE_TASKS:
            raise ThesisAssetsError("the task has no body model", key="task", found=self.task, wanted=POSE_TASKS)
        return self.task.removeprefix("pose_")

    def input_body(self, fname: str) -> Path:
        return self.inputs_dir / self.body_model / f"{check_frame(fname)}.npz"

    def true_body(self, fname: str) -> Path:
        """*Ours*: the ground truth of a frame in the predicted world, and the motion that brought it there."""
        return self.gt_inputs_dir / self.body_model / f"{check_frame(fname)}.npz"

    def pose_overlay(self, fname: str) -> Path:
        """*Ours*: both bodies' joints over the source camera's image."""
        return self.viz_dir / f"{check_frame(fname)}.png"

    def meshes_dir(self, side: str, alignment: str) -> Path:
        """`side`: `pred` or `gt_inputs`; `alignment`: `world_aligned` or `root_aligned`."""
        return self.base / side / alignment / f"posed_{self.body_model}_meshes_per_frame"

    def mesh(self, side: str, alignment: str, fname: str) -> Path:
        """All people of a frame in one file."""
        return self.meshes_dir(side, alignment) / f"{check_frame(fname)}.obj"

    def person_mesh(self, side: str, alignment: str, person: int, fname: str) -> Path:
        return self.meshes_dir(side, alignment) / f"{check_person(person):02d}" / f"{check_frame(fname)}.obj"

    @property
    def pose_results(self) -> Path:
        return self.metrics_dir / f"{self.body_model}_pose_estimation_overall_results.txt"

    @property
    def pose_per_frame(self) -> Path:
        return self.metrics_dir / f"{self.body_model}_pose_estimation_metrics_per_frame.csv"

    # --- both --------------------------------------------------------------------------------------------------------

    @property
    def required_files(self) -> tuple[Path, ...]:
        """The files that must exist when the task is enabled."""
        if self.task == "nvs":
            return (self.nvs_results, self.nvs_per_camera, self.nvs_per_frame)
        return (self.pose_results, self.pose_per_frame)


@dataclass(frozen=True)
class PipelineTree(CommandTree):
    """*Ours*: `<output_dir>/_pipeline/<exp_name>/`: where the user's own pipeline works for one evaluated scene, and its logs.

    What it writes is linked from there into the evaluation tree. No key begins with `_`.
    """

    output_dir = Below("output")
    """What the pipeline takes as its `<output_dir>`."""
    next_output_dir = Below("output.next")
    """What it takes instead where it runs again: takes the other's place once it is whole."""
    record = Below("command.json")
    """Which command wrote it, with which checkpoint, from which files."""
    made_from = Below("made_from.json")
    """What the finished command made its output from."""
    lock = Below("lock")


@dataclass(frozen=True)
class EvaluationTree:
    """`<output_dir>/<exp_name>/`: input data, task outputs by epoch, manifest and recordings of one evaluated scene.

    `run_name`: of a tree of the preset `thesis` alone, whose folder is `<exp_name>__<run_name>`.
    """

    output_dir: Path
    exp_name: str
    run_name: str | None = None

    manifest = Below("manifest.json")
    manifest_made_from = Below("manifest.made_from.json")
    """*Ours*: what the manifest was made from."""
    adopted = Below("adopted.json")
    """*Ours*: of a tree that an adoption made by links: what of it cannot be believed."""
    input_data_made_from = Below("input_data/made_from.json")
    """*Ours*: what was linked in: every file with its digest."""
    training_artifacts_dir = Below("training_artifacts")
    input_data_dir = Below("input_data")
    input_data_record = Below("input_data/input_data.json")
    """*Ours*: digests and link modes of what was linked in."""
    evaluation_dir = Below("evaluation")
    nv_generation_dir = Below("nv_generation")
    """*Ours*, preset `thesis`: what `input_data/train/misc/nv_generation/` has, and `pose_state/`."""
    pose_state_dir = Below("nv_generation/pose_state")
    """*Ours*, preset `thesis`: the estimated bodies, `<fname>.npz`."""
    rerun_dir = Below("rerun")
    input_data_recording = Below("rerun/input_data.rrd")

    def __post_init__(self) -> None:
        check_key(self.exp_name, "exp_name")
        if self.run_name is not None:
            check_key(self.run_name, "run_name")

    @property
    def base(self) -> Path:
        return self.output_dir / (self.exp_name if self.run_name is None else f"{self.exp_name}__{self.run_name}")

    @property
    def with_thesis_names(self) -> bool:
        """Whether files also have the names that older exporters look for."""
        return self.run_name is not None

    def relative(self, path: Path) -> str:
        """The path as messages write it: relative to `<output_dir>/<exp_name>`, with forward slashes."""
        return path.relative_to(self.base).as_posix()

    def training_artifacts_made_from(self, epoch: int) -> Path:
        """*Ours*: what the pictures of an epoch were made from."""
        return self.training_artifacts_dir / epoch_name(epoch) / "made_from.json"

    def training_artifacts(self, epoch: int, kind: str) -> Path:
        """`kind`: `rgb`, `depth` or `gt_input`."""
        return self.training_artifacts_dir / epoch_name(epoch) / kind

    def training_artifacts_record(self, epoch: int) -> Path:
        """*Ours*: which samples the pictures show, and what is absent, with the reason."""
        return self.training_artifacts_dir / epoch_name(epoch) / "artifacts.json"

    def input_data(self, split: str) -> SceneFolders:
        """`split`: `train` or `test`."""
        return SceneFolders(self.input_data_dir / split)

    @property
    def pipeline(self) -> PipelineTree:
        return PipelineTree(self.output_dir / "_pipeline" / self.base.name)

    def epoch_dir(self, epoch: int) -> Path:
        return self.evaluation_dir / epoch_name(epoch)

    def task(self, epoch: int, task: str) -> TaskTree:
        return TaskTree(self.epoch_dir(epoch) / check_task(task), task)

    def evaluation_recording(self, epoch: int) -> Path:
        return self.rerun_dir / f"evaluation_{epoch_name(epoch)}.rrd"

    def task_recording(self, epoch: int, task: str) -> Path:
        return self.rerun_dir / f"{check_task(task)}_{epoch_name(epoch)}.rrd"

    def recording_of(self, path: Path) -> tuple[str, int | None]:
        """What a recording of this tree shows (`input_data`, `evaluation`, or one task), and at which epoch.

        Raises:
            InvalidKey: the path is that of none of the tree's recordings.
        """
        if path == self.input_data_recording:
            return "input_data", None
        shown, _, epoch = path.stem.rpartition("_epoch_")
        if path.suffix != ".rrd" or path.parent != self.rerun_dir or shown not in ("evaluation", *TASKS):
            raise InvalidKey("not a recording of this tree", file=ascii(str(path)), wanted=f"one of {self.rerun_dir}")
        return shown, parse_epoch(f"epoch_{epoch}")

    @staticmethod
    def recording_made_from(recording: Path) -> Path:
        """*Ours*: what a recording was made from, beside it."""
        return recording.with_suffix(".made_from.json")

    @staticmethod
    def recording_previews(recording: Path) -> Path:
        """*Ours*: the folder of a recording's pictures, beside it, with their `previews.json`."""
        return recording.with_suffix(".previews")


_PRESETS = {"thesis": "{results_root}/{scene_name}"}
"""Templates by name. The tree's own folder is then `<exp_name>__<run_name>`."""


def output_dir(template: str, *, results_root: Path, exp_name: str, run_name: str, scene_name: str) -> Path:
    """`<output_dir>` of one evaluated scene, by the setting's template.

    `exp_name` stands in the template only for layouts that put it above the tree's own `<exp_name>` folder.

    Raises:
        InvalidKey: a key is unsafe, or the template names an unknown field.
    """
    keys = {"exp_name": exp_name, "run_name": run_name, "scene_name": scene_name}
    fields = {"results_root": str(results_root), **{name: check_key(key, name) for name, key in keys.items()}}
    try:
        # `str.format` alone would also look up attributes (`{results_root.parent}`) and so leave the root.
        filled = ""
        for text, name, form, conversion in Formatter().parse(_PRESETS.get(template, template)):
            if form or conversion:
                raise ValueError(name)
            filled += text + (fields[name] if name is not None else "")
        return Path(filled)
    except (KeyError, ValueError) as error:
        raise InvalidKey(
            "the output directory's template cannot be filled",
            key="output_dir",
            found=template,
            wanted="{results_root}, {run_name}, {scene_name} and {exp_name} only",
        ) from error


def evaluation_tree(
    template: str, *, results_root: Path, exp_name: str, run_name: str, scene_name: str
) -> EvaluationTree:
    """The evaluation tree of one scene of one cell. The template `thesis` puts the run's name into the tree's folder, and has the
    names that older exporters look for.
    """
    folder = output_dir(
        template, results_root=results_root, exp_name=exp_name, run_name=run_name, scene_name=scene_name
    )
    return EvaluationTree(folder, exp_name, run_name if template == "thesis" else None)


@dataclass(frozen=True)
class ModelLedger:
    """*Ours*: `models/`, beside the experiments: what models that others trained had seen."""

    base: Path

    def entry(self, model_id: str) -> Path:
        """The file of a model: `nvidia/difix_ref` -> `nvidia/difix_ref.yaml`.

        Raises:
            InvalidKey: a part of the id is no safe folder name.
        """
        *folders, name = [check_key(part, "model") for part in model_id.split("/")]
        return self.base.joinpath(*folders, f"{name}.yaml")


@dataclass(frozen=True)
class ReportsTree:
    """*Ours*: pages and tables over all cells."""

    base: Path

    leaderboard_markdown = Below("leaderboard.md")
    leaderboard_csv = Below("leaderboard.csv")
    leaderboard_differences = Below("leaderboard_differences.csv")
    leaderboard_latex = Below("leaderboard.tex")
    leaderboard_plot = Below("leaderboard.png")
    leaderboard_made_from = Below("leaderboard.made_from.json")
    """What the table and its plot were made from."""
    checks = Below("checks.html")
    index = Below("index.html")
    """The page that is opened first."""

    @property
    def leaderboard_files(self) -> list[Path]:
        return [
            self.leaderboard_markdown,
            self.leaderboard_csv,
            self.leaderboard_differences,
            self.leaderboard_latex,
            self.leaderboard_plot,
        ]

    def scene_look(self, scene_name: str) -> Path:
        """The recording of a scene, before any run."""
        return self.base / "scenes" / f"{check_key(scene_name, 'scene_name')}.rrd"

    def samples(self, exp_name: str) -> Path:
        """The page that samples of an experiment are looked at on."""
        return self.base / "samples" / f"{check_key(exp_name, 'exp_name')}.html"

    def cited(self, name: str) -> Path:
        """A table that is kept as it was when someone cited it."""
        return self.base / "cited" / f"{check_key(name, 'cite')}.json"

    def comparison(self, exp_name: str, run_name: str, against: str, epoch: int | None = None) -> Path:
        """The page that compares one run with another. `against`: a run, `<exp>/<run>`, or `unrefined`.

        `epoch`: only where a person named one; the page of the last epoch, which is renewed, has none in its name.
        """
        keys = [check_key(key, "against") for key in against.split("/")]
        words = [check_key(exp_name, "exp_name"), check_key(run_name, "run_name"), "against", *keys]
        words += [] if epoch is None else [epoch_name(epoch)]
        return self.base / "compare" / ("__".join(words) + ".html")

    def comparison_record(self, exp_name: str, run_name: str, against: str, epoch: int | None = None) -> Path:
        """What the page says and how large it is, or why it was not made."""
        return self.comparison(exp_name, run_name, against, epoch).with_suffix(".json")

    def comparison_made_from(self, exp_name: str, run_name: str, against: str, epoch: int | None = None) -> Path:
        """What the page was made from."""
        return self.comparison(exp_name, run_name, against, epoch).with_suffix(".made_from.json")

    def comparison_records(self) -> list[Path]:
        """Those that are there, in the order of their names."""
        beside = (".made_from.json", ".made_from.stats.json")
        found = (self.base / "compare").glob("*__against__*.json")
        return sorted(path for path in found if not path.name.endswith(beside))


@dataclass(frozen=True)
class ProbesTree:
    """*Ours*: what probe jobs measured, a file each, and a temporary folder while one is at work."""

    base: Path

    def kept(self, of_data: str, of_run: str) -> Path:
        """A measurement, by the digests of what it depends on."""
        return self.base / f"{of_data[:16]}-{of_run[:16]}.json"

    def of_data(self, of_data: str) -> list[Path]:
        """Those of one export, of any run."""
        return sorted(self.base.glob(f"{of_data[:16]}-*.json"))

    def work_dir(self, of_data: str, of_run: str) -> Path:
        """The only place that a probe writes to; named as what a killed process leaves behind."""
        return self.base / f"{TEMPORARY_PREFIX}probe.{of_data[:6]}{of_run[:6]}.partial"

    def lock(self, of_data: str, of_run: str) -> Path:
        """Held while its probe is made."""
        return self.base / ".locks" / f"{of_data[:16]}-{of_run[:16]}.lock"

    def job(self, of_data: str, of_run: str) -> JobTree:
        return JobTree(self.work_dir(of_data, of_run) / "job")


@dataclass(frozen=True)
class AdoptedTrees:
    """*Ours*: trees of other scripts under the names of the output document, by hard links: `<run>/<scene>/<exp>/`."""

    root: Path

    def scores(self, exp_name: str, run_name: str, scene_name: str) -> EvaluationTree:
        folder = self.root / check_key(run_name, "run_name") / check_key(scene_name, "scene_name")
        return EvaluationTree(folder, exp_name)

    @property
    def template(self) -> str:
        """As `evaluation.predictions.tree` of an experiment file names them all."""
        return f"{self.root}/{{run_name}}/{{scene_name}}/{{exp_name}}"
