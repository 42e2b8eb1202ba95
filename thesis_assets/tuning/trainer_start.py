"""What a run of each backend starts: settings, command and environment of its trainer.

Does not belong here: starting it (`tuning_run`), or what the program does.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.spec import RunSpec
from thesis_assets.images.codecs import image_size
from thesis_assets.layout import DifixTree
from thesis_assets.samples.sample_rows import group_key, read_rows
from thesis_assets.storage import to_json_bytes
from thesis_assets.tuning.backends import BACKENDS, Backend
from thesis_assets.tuning.checkpoints import resume_source
from thesis_assets.tuning.progress_file import usable_tracker
from thesis_assets.tuning.run_config import (
    PlainFlags,
    RunFlags,
    TrainerFlags,
    check_patience,
    flags_in,
    kept_settings,
    parse_flags,
    settings_in_file,
)
from thesis_assets.tuning.take_pretrained import base_model_in, digest_and_flags
from thesis_assets.tuning.trained_model import PUBLISHED_LONG_SIDE, SNAP

PATIENT_LAUNCH = Path(__file__).with_name("patient_launch.py")
TAKE_PRETRAINED = Path(__file__).with_name("take_pretrained.py")
RUN_EXTERNAL = Path(__file__).with_name("run_external.py")
ACCELERATE_CONFIG = Path(__file__).with_name("accelerate.yaml")

PRETRAINED_SETTINGS = (
    *("model", "model_sha256", "pretrained_model_name_or_path", "resolution", "timestep", "mv_unet"),
    *("num_samples_eval", "revision", "variant", "prompt", "cache_dir", "validation_groups", "lpips_weights"),
)
N_EVALUATED = 48
"""Test samples that the last checkpoint is scored on, where the trainer does not do it."""
SCRIPT_FLAGS = (
    *("dataset_path", "output_dir", "tracker_project_name", "tracker_run_name", "tracker_entity", "report_to"),
    *("max_train_steps", "num_training_epochs", "checkpointing_steps", "eval_freq", "viz_freq", "resolution"),
    *("learning_rate", "train_batch_size", "gradient_accumulation_steps", "dataloader_num_workers", "max_grad_norm"),
    *("mixed_precision", "lambda_lpips", "lambda_l2", "lambda_gram", "gram_loss_warmup_steps", "timestep", "mv_unet"),
    *("seed", "base_model_id", "pretrained_model_name_or_path", "gradient_checkpointing", "allow_tf32"),
)
"""Passed to the script, each where its `--help` lists it; what is not among them is left to its own defaults."""
EXTERNAL_SETTINGS = (
    *SCRIPT_FLAGS,
    *("num_processes", "num_samples_eval", "extra_args", "tracker", "validation_groups", "lpips_weights"),
)


@dataclass(frozen=True)
class Reported:
    """What is evaluated of an experiment, as its trainings have to know it.

    Attributes:
        groups: `<dataset>/<group_id>` of every evaluated scene; None: nobody says, so nobody is for validation by default.
        downscale_factor: images are compared at their size over this.
        steps: of the checkpoints that evaluation epochs stand for.
    """

    groups: frozenset[str] | None = None
    downscale_factor: int = 2
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainerStart:
    """A trainer that can be started.

    Attributes:
        notes: what of the run's settings has no effect here, or another one than asked for, and why.
        evaluates: whether a finished run has an evaluation of its last step.
        check: asked before anything is started: refuses what cannot be trained here, and returns further notes.
    """

    flags: RunFlags
    notes: list[str]
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    evaluates: bool = True
    check: Callable[[], list[str]] = list


def setting_names(backend: str) -> tuple[str, ...]:
    """The names that the settings of a run of this backend must have, all of them and no other."""
    other = {"pretrained": PRETRAINED_SETTINGS, "external": EXTERNAL_SETTINGS}
    return other.get(backend, tuple(TrainerFlags.__dataclass_fields__))


def trainer_start(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    *,
    n_train: int,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
) -> TrainerStart:
    """The trainer of a run.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`.
        n_train: training samples of the snapshot.
        lpips_weights: the folder of the two files of LPIPS, for a loss that has it; None looks into torch's hub cache.

    Raises:
        InvalidExperiment, InvalidFile: its settings name something that is not there.
    """
    if run.backend == "pretrained":
        return pretrained_start(tree, run_name, run, device, lpips_weights, reported)
    if run.backend == "external":
        return external_start(tree, run_name, run, device, n_train, lpips_weights, reported)
    flags, notes = resolve_flags(tree, run_name, run, device, lpips_weights, reported)
    backend = BACKENDS[run.backend]
    command, env = launch_command(backend, flags, device), launch_environment(device, run.num_processes)
    return TrainerStart(flags, notes, command, env, check=partial(_check_ours, backend, flags))


def _check_ours(backend: Backend, flags: TrainerFlags) -> list[str]:
    source = resume_source(flags.resume, backend.name)
    return [*([source.note] if source is not None else []), *backend.check(flags)]


def validation_groups(tree: DifixTree, run: RunSpec, reported: Reported) -> list[str]:
    """`<dataset>/<group_id>` of the test groups that a choice may look at: those that the run's rule names, else whoever is not evaluated."""
    present = sorted({group_key(row) for row in read_rows(tree.split_test)})
    if run.selection.groups:
        return [group for group in present if {group, group.partition("/")[2]} & set(run.selection.groups)]
    return [group for group in present if reported.groups is not None and group not in reported.groups]


def evaluated_side(tree: DifixTree, downscale_factor: int) -> int:
    """The long side that the evaluation compares images at."""
    return math.ceil(max(native_size(tree)) / downscale_factor)


def native_size(tree: DifixTree) -> tuple[int, int]:
    """(height, width) of the training image with the longest side: of one a scene and camera, at most some hundred."""
    rows = list({(row.scene_name, row.target_cam_id): row for row in read_rows(tree.split_train)}.values())
    return max((image_size(tree.base / row.image_path) for row in rows[:: max(1, len(rows) // 200)]), key=max)


def _chosen_step(run: RunSpec) -> list[int]:
    """The step that the file itself selects."""
    return [run.selection.step] if run.selection.rule == "step" and run.selection.step is not None else []


def _auto_resolution(tree: DifixTree, run: RunSpec, reported: Reported) -> int:
    side = max(native_size(tree)) if run.crop else evaluated_side(tree, reported.downscale_factor)
    return math.ceil(side / SNAP) * SNAP


_ON_OUR_SIDE = frozenset(
    {"backend", "model", "mixed_precision", "preset", "stable_v100", "tracker"}
    | {"selection", "external", "extra_args", "resolution"}
)
"""Keys of a run that are no flag of the trainer, or not under their own name."""


def resolve_flags(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
) -> tuple[TrainerFlags, list[str]]:
    """The trainer's flags, and a note for each setting that has no effect here or another one than asked for.

    Args:
        lpips_weights: the folder of the files of LPIPS, for a backend whose loss has it.

    Raises:
        InvalidExperiment: `extra_args` holds a flag that the trainer does not know, or `patience` has nobody to look at.
    """
    notes = []
    precision = run.mixed_precision
    if device == "cpu" and precision != "no":
        notes.append(f"mixed_precision = {precision}: a CPU trains in full precision, no")
        precision = "no"
    if precision == "fp16":
        notes.append("mixed_precision = fp16: gradients may overflow; bf16 is safer where the GPU has it")
    tracker, note = usable_tracker(run.tracker.kind)
    notes += [note] if note else []
    plain = {name: value for name, value in run.model_dump().items() if name not in _ON_OUR_SIDE}
    flags = TrainerFlags(
        dataset_path=str(tree.data_json.absolute()),
        output_dir=str(tree.tuning_run(run_name).base.absolute()),
        tracker_run_name=run_name,
        mixed_precision=precision,
        report_to=tracker,
        tracker_project_name=run.tracker.project or TrainerFlags.tracker_project_name,
        tracker_entity=run.tracker.entity,
        tracker_tags=",".join(run.tracker.tags) or None,
        pretrained_model_name_or_path=_from_anywhere(run.model),
        lpips_weights=_folder(lpips_weights),
        resolution=_auto_resolution(tree, run, reported) if run.resolution == "auto" else run.resolution,
        validation_groups=",".join(validation_groups(tree, run, reported)) or None,
        keep_steps=",".join(map(str, sorted({*reported.steps, *_chosen_step(run)}))) or None,
        **plain,
    )
    # Through the parser even without `extra_args`: what stands in train_config.json is what the trainer reads.
    flags = parse_flags([*flags.as_arguments(), *run.extra_args])
    flags = TrainerFlags(**kept_settings(tree.tuning_run(run_name), flags.values(), settings_in_file(run)))
    check_patience(flags)
    if device == "cpu" and flags.allow_tf32:
        notes.append("allow_tf32 = True: no effect, a CPU has no TF32")
    if flags.crop and flags.crop >= max(size := native_size(tree)):
        notes.append(f"crop = {flags.crop}: no effect, the images are {size[0]}x{size[1]} and shown whole")
    return flags, notes + selection_notes(run) + BACKENDS[run.backend].notes_on_unused(flags)


def selection_notes(run: RunSpec) -> list[str]:
    """A line for each key of the selection that its rule does not look at. The groups are validation groups in any case."""
    given = run.selection.model_fields_set - {"rule", "step", "groups"}
    idle = [] if run.selection.rule.startswith("best_") else sorted(given)
    return [f"selection.{name}: no effect, rule {run.selection.rule} scores nothing" for name in idle]


def _folder(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _from_anywhere(model: str | None) -> str | None:
    """A directory's full path: the trainer may run elsewhere. A Hub id stays as it is."""
    path = Path(model).expanduser() if model is not None else None
    return str(path.absolute()) if path is not None and path.is_dir() else model


def launch_command(backend: Backend, flags: TrainerFlags, device: str) -> list[str]:
    """The trainer's start by this interpreter: `accelerate launch`, or `torchrun` for several processes on a CPU.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`. Which GPUs is the launcher's to say, by CUDA_VISIBLE_DEVICES; accelerate's
            `--gpu_ids` would put its own over it.
    """
    launcher = launcher_words(device, flags.num_processes or 1, flags.mixed_precision)
    start = [sys.executable, str(PATIENT_LAUNCH), str(flags.num_processes or 1)]
    return [*start, *launcher, str(backend.script), *flags.as_arguments()]


def launcher_words(device: str, processes: int, mixed_precision: str) -> list[str]:
    """The launcher's module, for `python -m`, and its flags; the trainer's script and flags come after them."""
    if device == "cpu" and processes > 1:
        # `accelerate launch --cpu --num_processes 2` runs one process, and says nothing.
        return ["torch.distributed.run", "--standalone", "--nnodes", "1", "--nproc_per_node", str(processes)]
    place = ["--cpu"] if device == "cpu" else ["--config_file", str(ACCELERATE_CONFIG)]
    # Port 0: a free one; the default of 29500 can be held by another run on the machine.
    place += ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else []
    # Quiet: a trainer that failed has said why; accelerate would put a traceback of its own below it.
    words = ["accelerate.commands.launch", "--quiet", *place, "--mixed_precision", mixed_precision]
    return [*words, "--num_processes", str(processes), "--num_machines", "1", "--dynamo_backend", "no"]


def launch_environment(device: str, processes: int = 1) -> dict[str, str]:
    """Variables for the trainer's processes, beside this one's own.

    On a CPU that others use too, OpenMP's spinning at barriers costs more than the work: 1.2 s a step in place of 0.35 s with
    two threads on two busy cores.
    """
    if device != "cpu":
        return {}
    wanted = {"OMP_WAIT_POLICY": "PASSIVE"}
    if processes > 1:
        wanted["ACCELERATE_USE_CPU"] = "true"
    return {name: value for name, value in wanted.items() if name not in os.environ}


def pretrained_start(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
) -> TrainerStart:
    """See `trainer_start`: nothing is trained, a checkpoint or a published model becomes step 0.

    Raises:
        InvalidFile: the model is a path, and no checkpoint, run or directory is there.
    """
    assert run.model is not None  # the experiment file's rules say so
    run_tree = tree.tuning_run(run_name)
    further = parse_flags(["--dataset_path", "", "--output_dir", "", "--tracker_run_name", "", *run.extra_args])
    sha256, source = digest_and_flags(run.model, run_tree)
    of_run = {name: getattr(run, name) for name in ("resolution", "timestep", "mv_unet")}
    if run.resolution == "auto":
        # Of a file that does not say: as its run was trained, else as all published weights were.
        of_run["resolution"] = source.get("resolution")
    settings = {
        "model": run.model,
        "model_sha256": sha256,
        # Of a checkpoint that does not say itself what it was tuned from.
        "pretrained_model_name_or_path": further.pretrained_model_name_or_path or base_model_in(source),
        # A directory may say itself how it is to be used, where the run does not.
        **{
            name: value if sha256 is not None or name in run.model_fields_set else None
            for name, value in of_run.items()
        },
        "num_samples_eval": N_EVALUATED,
        **{name: getattr(further, name) for name in ("revision", "variant", "prompt", "cache_dir")},
        "validation_groups": ",".join(validation_groups(tree, run, reported)) or None,
        "lpips_weights": _folder(lpips_weights),
    }
    assert tuple(settings) == PRETRAINED_SETTINGS
    notes = ["nothing is trained: the settings of a training have no effect", *selection_notes(run)]
    used = {"dataset_path", "output_dir", "tracker_run_name", "pretrained_model_name_or_path", *PRETRAINED_SETTINGS}
    notes += [f"extra_args --{name}: no effect, nothing is trained" for name in sorted(flags_in(run.extra_args) - used)]
    command = [sys.executable, str(TAKE_PRETRAINED), str(run_tree.base.absolute())]
    settings = kept_settings(run_tree, settings, settings_in_file(run))
    return TrainerStart(PlainFlags(settings, run.seed), notes, command, launch_environment(device))


def external_start(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    n_train: int,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
) -> TrainerStart:
    """See `trainer_start`: how the script is started and followed is `run_external`'s, which the job runs."""
    assert run.external is not None  # the experiment file's rules say so
    # A relative path counts from `cwd`, else from where the platform runs.
    script = (Path(run.external.cwd or ".").expanduser() / Path(run.external.script).expanduser()).absolute()
    external = run.external.model_copy(update={"script": str(script)})
    run_directory = str(tree.tuning_run(run_name).base.absolute())
    settings, notes = external_settings(tree, run_name, run, device, n_train, lpips_weights, reported)
    # The environment in the command, not in the locked configuration: a corrected interpreter is no other training.
    words = to_json_bytes(external.model_dump(mode="json"), indent=False).decode().strip()
    command = [sys.executable, str(RUN_EXTERNAL), run_directory, words]
    check = partial(_check_script, script)
    return TrainerStart(PlainFlags(settings, run.seed), notes, command, evaluates=False, check=check)


def external_settings(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    n_train: int,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
) -> tuple[dict[str, Any], list[str]]:
    """The settings of `EXTERNAL_SETTINGS`, and notes on what the published script makes of them."""
    precision = "no" if device == "cpu" else run.mixed_precision
    asked = "resolution" in run.model_fields_set
    settings: dict[str, Any] = {
        **{name: getattr(run, name) for name in EXTERNAL_SETTINGS if name in RunSpec.model_fields},
        "dataset_path": str(tree.data_json.absolute()),
        "output_dir": str(tree.tuning_run(run_name).base.absolute()),
        "tracker_project_name": run.tracker.project or "difix",
        "tracker_run_name": run_name,
        "tracker_entity": run.tracker.entity,
        # It imports wandb and logs to it, whatever is asked; WANDB_MODE says whether anything leaves the machine.
        "report_to": "wandb",
        "num_training_epochs": epochs_at_most(run, n_train),
        "resolution": run.resolution if asked else PUBLISHED_LONG_SIDE,
        "mixed_precision": precision,
        "base_model_id": run.model,
        "pretrained_model_name_or_path": run.model,
        "num_samples_eval": N_EVALUATED,
        "tracker": run.tracker.kind,
        "extra_args": list(run.extra_args),
        "validation_groups": ",".join(validation_groups(tree, run, reported)) or None,
        "lpips_weights": _folder(lpips_weights),
    }
    last = run.saved_steps()[-1]
    notes = [
        f"max_train_steps = {run.max_train_steps}: the script saves after each {run.checkpointing_steps}, at step {last} for "
        "the last time, and is ended then",
        f"resolution = {settings['resolution']}: the published script trains at 576x1024 all the same; its checkpoints are "
        "refined at this long side",
        "eval_freq, viz_freq: the published script evaluates nothing into eval/; the last checkpoint is evaluated after it",
    ]
    notes += selection_notes(run)
    if precision != run.mixed_precision:
        notes.append(f"mixed_precision = {run.mixed_precision}: a CPU trains in full precision, no")
    if run.tracker.kind != "wandb":
        notes.append(
            f"tracker = {run.tracker.kind}: the script logs to wandb, which is disabled; see logs/progress.jsonl"
        )
    settings = {name: settings[name] for name in EXTERNAL_SETTINGS}
    return kept_settings(tree.tuning_run(run_name), settings, settings_in_file(run)), notes


def epochs_at_most(run: RunSpec, n_train: int) -> int:
    """Epochs that reach `max_train_steps`: the published script counts these, and goes on past the steps."""
    batches = math.ceil(n_train / (run.train_batch_size * run.num_processes))
    return math.ceil(run.max_train_steps * run.gradient_accumulation_steps / max(1, batches))


def _check_script(script: Path) -> list[str]:
    if not script.is_file():
        raise InvalidFile(
            "the trainer script is not there",
            file=script,
            key="runs.<run_name>.external.script",
            remedy="correct the path; a relative one counts from external.cwd, else from where the platform runs",
        )
    return []
