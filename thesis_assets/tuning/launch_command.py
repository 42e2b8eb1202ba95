"""From a run's specification to the trainer's flags and to the `accelerate launch` command."""

import os
import sys
from pathlib import Path

from thesis_assets.experiments.spec import RunSpec
from thesis_assets.layout import DifixTree
from thesis_assets.tuning.backends import BACKENDS, Backend
from thesis_assets.tuning.kept_settings import kept_settings, settings_in_file
from thesis_assets.tuning.trackers import usable_tracker
from thesis_assets.tuning.trainer_flags import TrainerFlags, parse_flags

PATIENT_LAUNCH = Path(__file__).with_name("patient_launch.py")
ACCELERATE_CONFIG = Path(__file__).with_name("accelerate.yaml")
_ON_OUR_SIDE = frozenset(
    {"backend", "model", "mixed_precision", "preset", "stable_v100", "tracker"}
    | {"selection", "external", "extra_args"}
)
"""Keys of a run that are no flag of the trainer, or not under their own name."""


def resolve_flags(
    tree: DifixTree, run_name: str, run: RunSpec, device: str, lpips_weights: Path | None = None
) -> tuple[TrainerFlags, list[str]]:
    """The trainer's flags, and a note for each setting that has no effect here or another one than asked for.

    Args:
        lpips_weights: the folder of the files of LPIPS, for a backend whose loss has it.

    Raises:
        InvalidExperiment: `extra_args` holds a flag that the trainer does not know.
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
        lpips_weights=str(lpips_weights.absolute()) if lpips_weights is not None and run.backend == "difix" else None,
        **plain,
    )
    # Through the parser even without `extra_args`: what stands in train_config.json is what the trainer reads.
    flags = parse_flags([*flags.as_arguments(), *run.extra_args])
    flags = TrainerFlags(**kept_settings(tree.tuning_run(run_name), flags.values(), settings_in_file(run)))
    return flags, notes + BACKENDS[run.backend].notes_on_unused(flags)


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
