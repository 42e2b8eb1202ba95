"""What a training will be, told before it starts: passes over the data, hours, disk, memory, the size that it refines at.

By what is known: the run's settings, and the trainings on this disk that had the same ones. A training whose checkpoints do not fit
on the disk is refused. Does not belong here: how a training is started.
"""

from __future__ import annotations

import re
import shutil
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import DiskFull, InvalidFile
from thesis_assets.experiments.spec import OURS_ALONE, RunSpec
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.tuning import CheckpointInfo, ProgressLine, TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.backends import BACKENDS
from thesis_assets.tuning.checkpoints import RESUME_KEYS, kept_steps, list_checkpoints
from thesis_assets.tuning.progress_file import ProgressReader
from thesis_assets.tuning.run_config import DEFAULTS, flags_in, kept_run
from thesis_assets.tuning.trained_model import processing_size, resize
from thesis_assets.tuning.trainer_start import Reported, TrainerStart, native_size, trainer_start

PAST_RUNS = 100
"""That are looked at for speed and sizes, the newest ones."""
SPEED = (
    *("resolution", "crop", "train_batch_size", "gradient_accumulation_steps", "num_processes", "mixed_precision"),
    *(
        "lora_rank_unet",
        "gradient_checkpointing",
        "channels_last",
        "allow_tf32",
        "mv_unet",
        "lambda_lpips",
        "lambda_gram",
    ),
)
"""Settings that the seconds of a step and its memory depend on."""
SIZE = ("pretrained_model_name_or_path", "base_model_id", "lora_rank_vae", "lora_rank_unet")
"""Settings that a checkpoint's size depends on."""
TINY_BYTES = 4_100_000
"""Of a checkpoint of the tiny network, with its optimizer's state."""
SHARE_OF_WEIGHTS = 3
"""A checkpoint has two moments a weight beside it."""
CEILING_SAMPLES = 4


@dataclass(frozen=True)
class TrainingPlan:
    """What a training will be.

    Attributes:
        lines: in words, one a subject.
        warnings: of these, what speaks against it.
        wanted_bytes: that its checkpoints will take; None: not known.
        free_bytes: on their disk.
    """

    lines: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    wanted_bytes: int | None = None
    free_bytes: int = 0

    def refuse_too_large(self, run_tree: TuningRunTree) -> None:
        """Refuse, by `DiskFull`, a training whose checkpoints do not fit."""
        if self.wanted_bytes is not None and self.wanted_bytes > self.free_bytes:
            raise DiskFull(
                "the checkpoints of this training do not fit on the disk",
                file=run_tree.base,
                found=f"{self.free_bytes / 1e9:.1f} GB free",
                wanted=f"about {self.wanted_bytes / 1e9:.1f} GB",
                remedy="make space there (`thesis-assets prune` shows what nothing needs); or write fewer: a higher "
                "checkpointing_steps, keep_last: 2, or save_optimizer: false",
            )


def plan_of_run(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    device: str,
    *,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
) -> TrainingPlan:
    """The plan of a run whose data is there. Starts nothing and writes nothing.

    Raises:
        InvalidExperiment, InvalidFile: as `trainer_start.trainer_start`.
    """
    run, n_train = kept_run(tree.tuning_run(run_name), run), len(read_rows(tree.split_train))
    start = trainer_start(tree, run_name, run, device, n_train=n_train, lpips_weights=lpips_weights, reported=reported)
    return plan_training(tree, run_name, run, start, device, n_train=n_train, reported=reported)


def plan_training(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    start: TrainerStart,
    device: str,
    *,
    n_train: int,
    reported: Reported,
) -> TrainingPlan:
    """The plan of a run that starts so, from where it stands.

    Args:
        n_train: training samples of the snapshot.
    """
    run_tree, settings = tree.tuning_run(run_name), start.flags.values()
    past = _PastRuns(tree.root, run, settings, device)
    if run.backend == "pretrained":
        lines = []
    else:
        lines = [_passes(run, settings, n_train), past.hours(run_tree, run), past.memory(), *_keys(run)]
    free = shutil.disk_usage(next(each for each in (run_tree.base, *run_tree.base.parents) if each.is_dir())).free
    wanted = _bytes_to_come(run_tree, run, settings, past.checkpoint_bytes())
    known = "" if wanted is not None else ": their size is not known, as none like them is here yet"
    size = (
        ""
        if wanted is None
        else f"about {wanted / 1e6:.0f} MB of "
        if wanted < 1e9
        else f"about {wanted / 1e9:.1f} GB of "
    )
    lines.append(f"disk: {size}checkpoints to come{known}; {free / 1e9:.1f} GB free")
    sizes, below = _sizes(tree, run, settings, reported)
    return TrainingPlan((*lines, *sizes, *_without_effect(run, start), *below), below, wanted, free)


def _keys(run: RunSpec) -> list[str]:
    """The platform's own keys that are set; none where all are as they stand by default."""
    asked = [
        f"{name} {value}" for name in OURS_ALONE if (value := getattr(run, name)) != RunSpec.model_fields[name].default
    ]
    return [f"keys: {', '.join(asked)}"] if asked else []


def _without_effect(run: RunSpec, start: TrainerStart) -> list[str]:
    """The notes on what the run itself asks for; its configuration has those on defaults too."""
    asked = {*run.model_fields_set, *flags_in(run.extra_args)}
    return [note for note in start.notes if re.split("[ .:]", note, maxsplit=1)[0] in asked]


def _passes(run: RunSpec, settings: Mapping[str, Any], n_train: int) -> str:
    a_step = run.train_batch_size * run.gradient_accumulation_steps * run.num_processes
    seen = run.max_train_steps * a_step
    passes = seen / max(1, n_train)
    of_a_pass = f"{passes:.0%} of one pass" if passes < 1 else f"{passes:.1f} passes"
    return f"samples: {run.max_train_steps} steps of {a_step} see {seen}: {of_a_pass} over {n_train}"


def _bytes_to_come(run_tree: TuningRunTree, run: RunSpec, settings: Mapping[str, Any], whole: int | None) -> int | None:
    if whole is None:
        return None
    weights = whole // SHARE_OF_WEIGHTS
    present = set(list_checkpoints(run_tree))
    left = [step for step in kept_steps(run_tree, run.saved_steps()) if step not in present]
    n_left = len(left)
    if run.keep_last and left:
        chosen = [step for step in str(settings.get("keep_steps") or "").split(",") if step]
        on_disk = sum(run_tree.checkpoint(step).is_file() for step in present)
        # One more than stay: a checkpoint is whole before another makes room for it.
        n_left = min(n_left, max(1, run.keep_last + len(chosen) + 1 - on_disk))
    taken = n_left * (whole if run.save_optimizer else weights) + (n_left * weights if run.ema_decay else 0)
    return taken + (2 * whole if left and not run.save_optimizer else 0)


def _sizes(
    tree: DifixTree, run: RunSpec, settings: Mapping[str, Any], reported: Reported
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The size that the run refines at beside that of the evaluation; and a warning where it is below."""
    side = settings.get("resolution")
    if side is None:
        return ("size: that of the published weights, or what the checkpoint itself says",), ()
    height, width = native_size(tree)
    refined, factor = processing_size(height, width, side), reported.downscale_factor
    compared = (height // factor, width // factor)
    line = f"size: refines {height}x{width} at {refined[0]}x{refined[1]}, compared at {compared[0]}x{compared[1]}"
    if run.crop:
        line += f"; trained on windows of {run.crop} pixels at full resolution"
    if max(refined) >= max(compared):
        return (line,), ()
    ceiling = refinement_ceiling(tree, side, factor, adds=run.backend == "tiny")
    warning = (
        f"warning: resolution {side} is below the {max(compared)} that is compared at: a perfect refiner would reach "
        f"{ceiling:.1f} dB PSNR, and none more; leave `resolution` out"
    )
    return (line,), (warning,)


def refinement_ceiling(tree: DifixTree, resolution: int, factor: int, *, adds: bool) -> float:
    """PSNR of a refiner that makes no error but that of its size, mean over some training samples, at the evaluation's size.

    Args:
        adds: a correction is enlarged and added to the render; else the image itself is enlarged.
    """
    import torch

    from thesis_assets.images.codecs import read_rgb
    from thesis_assets.images.metrics import psnr

    rows = read_rows(tree.split_train)
    found = []
    for row in rows[:: max(1, len(rows) // CEILING_SAMPLES)][:CEILING_SAMPLES]:
        render, target = (
            torch.from_numpy(read_rgb(tree.base / path).copy()).permute(2, 0, 1)[None].float()
            for path in (row.image_path, row.target_image_path)
        )
        size = (int(target.shape[-2]), int(target.shape[-1]))
        wanted = target - render if adds else target
        made = resize(resize(wanted, processing_size(*size, resolution)), size) + (render if adds else 0)
        small = (size[0] // factor, size[1] // factor)
        pair = (resize(one, small).round().clamp(0, 255).byte()[0].permute(1, 2, 0).numpy() for one in (made, target))
        value = psnr(*pair)
        assert value is not None  # without a region there always is a pixel
        found.append(value)
    return statistics.fmean(found)


class _PastRuns:
    """Trainings of this disk by the same backend on the same kind of device, the newest ones first."""

    def __init__(self, root: Path, run: RunSpec, settings: Mapping[str, Any], device: str) -> None:
        paths = [path for path in root.glob("*/tuning_runs/*/train_config.json") if path.is_file()]
        paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        self._settings = settings
        self._runs = list(_of_kind(paths[:PAST_RUNS], run.backend, device.partition(":")[0]))
        self._backend = run.backend

    def _equal(self, names: tuple[str, ...]) -> Iterator[TuningRunTree]:
        unused = BACKENDS[self._backend].unused if self._backend in BACKENDS else {}
        for tree, config in self._runs:
            if all(_value(config.flags, name) == _value(self._settings, name) for name in names if name not in unused):
                yield tree

    def hours(self, run_tree: TuningRunTree, run: RunSpec) -> str:
        a_step = run.train_batch_size * run.gradient_accumulation_steps * run.num_processes
        left = run.max_train_steps - max(list_checkpoints(run_tree), default=0)
        speeds = [
            line.samples_per_second
            for tree in self._equal(SPEED)
            for line in _last_steps(tree)
            if line.samples_per_second
        ]
        if not speeds:
            return f"time: not known, as no run with these settings was trained here; {left} steps are to be made"
        speed = statistics.median(speeds)
        hours = left * a_step / speed / 3600
        told = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
        return f"time: about {told} for {left} steps, by {speed:.2f} samples/s of past runs, without evaluations"

    def memory(self) -> str:
        peaks = [line.metrics.get("peak_memory_gb", 0.0) for tree in self._equal(SPEED) for line in _last_steps(tree)]
        return f"memory: {max(peaks):.1f} GB at most in past runs" if any(peaks) else "memory: not known"

    def checkpoint_bytes(self) -> int | None:
        """Of a checkpoint with its optimizer's state; of weights that are taken, theirs."""
        if self._backend == "pretrained":
            model = Path(str(self._settings["model"])).expanduser()
            return model.stat().st_size if model.is_file() else None
        for tree in self._equal(SIZE):
            for step in reversed(list_checkpoints(tree)):
                try:
                    info = read_json(tree.checkpoint_info(step), CheckpointInfo)
                except InvalidFile:  # a check of that run says so
                    continue
                has_state = (
                    "optimizer" in info.keys if self._backend == "external" else set(RESUME_KEYS) <= set(info.keys)
                )
                if has_state:
                    return info.bytes
        return TINY_BYTES if self._backend == "tiny" else None


def _value(settings: Mapping[str, Any], name: str) -> object:
    return settings.get(name, DEFAULTS.get(name))


def _of_kind(paths: list[Path], backend: str, device: str) -> Iterator[tuple[TuningRunTree, TrainConfig]]:
    for path in paths:
        try:
            config = read_json(path, TrainConfig)
        except InvalidFile:  # a check of that run says so
            continue
        if config.backend == backend and (config.device or "").partition(":")[0] == device and not config.is_adopted:
            yield TuningRunTree(path.parent), config


LAST_BYTES = 64 * 1024


def _last_steps(tree: TuningRunTree) -> list[ProgressLine]:
    """The last lines of steps of a run; the first steps of it have the start of readers and kernels in them."""
    if not tree.progress.is_file():
        return []
    reader = ProgressReader(tree.progress, start=max(0, tree.progress.stat().st_size - LAST_BYTES))
    return [line for line in reader.new_lines() if line.event == "step"][-20:]
