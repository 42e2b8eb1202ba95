"""Checkpoints of our trainers: written atomically with a digest beside them, read without trusting them, verified, listed.

A checkpoint is a zip `.pkl` of tensors and numbers. One without its side file was not finished and is never read.
Does not belong here: what the network does with its weights.
"""

from __future__ import annotations

import io
import pickletools
import re
import shutil
import sys
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TEMPORARY_PREFIX, TuningRunTree, parse_checkpoint_step
from thesis_assets.schemas.tuning import CheckpointInfo, EarlyStop, PrunedCheckpoints, TrainConfig
from thesis_assets.storage import atomic_file, read_json, sha256_file, write_json

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "state_dict_unet"
TINY_KEYS = (WEIGHTS, "architecture", "resolution")
PUBLISHED_KEYS = ("vae_lora_target_modules", "rank_vae", "state_dict_unet", "state_dict_vae", "optimizer")
RESUME_KEYS = ("optimizer", "step", "scheduler", "data_order", "random_state")
"""What the training loop adds to a model's own keys; the published trainer writes none of them but the first."""
WEIGHTS_PREFIX = "state_dict_"
MAPPED_BYTES = 256 * 1024**2
"""A checkpoint of this size is mapped, not read: of a file of 10 GB refining looks at a third."""


def save_checkpoint(
    tree: TuningRunTree,
    state: Mapping[str, Any],
    *,
    metrics: Mapping[str, float],
    data_json_sha256: str,
    hyperparameter_digest: str,
) -> CheckpointInfo:
    """Write `model_<step>.pkl`, then its side file. `state`: a model's keys and `RESUME_KEYS`, tensors and numbers only.

    Raises:
        InvalidFile: a weight is not finite, or the file cannot be written; earlier checkpoints are untouched.
    """
    import torch

    step = int(state["step"])
    path = tree.checkpoint(step)
    _check_finite(path, state)
    tree.checkpoint_info(step).unlink(missing_ok=True)
    try:
        # An open file, not a path: the archive would carry the temporary name, and equal weights would differ in bytes.
        with atomic_file(path) as temporary:
            with _NotingWriter(io.FileIO(temporary, "w")) as handle:
                torch.save(_same_bytes_for_same_values(dict(state)), handle)
            digest, size = sha256_file(temporary), temporary.stat().st_size
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(path.parent).free
        raise InvalidFile(
            f"the checkpoint of step {step} could not be written",
            file=path,
            found=f"{handle.failure or error}; {free / 1e6:.1f} MB free",
            wanted=f"about {_bytes_of(state) / 1e6:.1f} MB",
            remedy="make space there, then start the run again: it goes on from its last checkpoint, which is intact",
        ) from error
    info = CheckpointInfo(
        step=step,
        sha256=digest,
        bytes=size,
        keys=sorted(state),
        metrics=dict(metrics),
        data_json_sha256=data_json_sha256,
        hyperparameter_digest=hyperparameter_digest,
    )
    write_json(tree.checkpoint_info(step), info)
    return info


class _NotingWriter(io.BufferedWriter):
    """Remembers why a write failed: torch says of a full disk only that it is at another position than it expected."""

    failure: OSError | None = None

    def write(self, buffer: Any, /) -> int:
        try:
            return super().write(buffer)
        except OSError as error:
            self.failure = error
            raise


def _same_bytes_for_same_values(value: Any) -> Any:
    """Containers built anew, equal strings as one object: pickle writes an object that it has seen as a reference to it, so that
    a resumed run's file would else differ from an uninterrupted one's, though every number in it is the same."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Mapping):
        return {_same_bytes_for_same_values(key): _same_bytes_for_same_values(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_same_bytes_for_same_values(inner) for inner in value)
    return value


def _bytes_of(value: object) -> int:
    """Of the tensors in a nest of mappings and lists."""
    if isinstance(value, Mapping):
        return sum(_bytes_of(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of(inner) for inner in value)
    return int(getattr(value, "nbytes", 0))


def register_checkpoint(tree: TuningRunTree, step: int, config: TrainConfig) -> CheckpointInfo:
    """Write the side file of a whole `model_<step>.pkl` that another's program wrote.

    Raises:
        InvalidFile: the file cannot be read as a checkpoint, or a weight is not finite.
    """
    path = tree.checkpoint(step)
    info = CheckpointInfo(
        keys=sorted(load_checkpoint(path)),
        step=step,
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        metrics={},
        data_json_sha256=config.data_json_sha256,
        hyperparameter_digest=config.hyperparameter_digest,
    )
    write_json(tree.checkpoint_info(step), info)
    return info


def add_metrics(tree: TuningRunTree, step: int, metrics: Mapping[str, float]) -> None:
    """Note what an evaluation found in the side file of a checkpoint, where that step has one."""
    path = tree.checkpoint_info(step)
    if path.is_file():
        info = read_json(path, CheckpointInfo)
        write_json(path, info.model_copy(update={"metrics": {**info.metrics, **metrics}}))


def list_checkpoints(tree: TuningRunTree) -> list[int]:
    """Steps of the finished checkpoints, ascending."""
    if not tree.checkpoints_dir.is_dir():
        return []
    steps = (parse_checkpoint_step(path.name) for path in tree.checkpoints_dir.iterdir())
    return sorted(step for step in steps if step is not None and tree.checkpoint_info(step).is_file())


def pruned_steps(tree: TuningRunTree) -> dict[int, str]:
    """Steps whose checkpoint was removed on request, with when. One whose file is there (again) is not among them."""
    if not tree.pruned.is_file():
        return {}
    steps = read_json(tree.pruned, PrunedCheckpoints).steps
    return {step: when for step, when in sorted(steps.items()) if not tree.checkpoint(step).is_file()}


def kept_steps(tree: TuningRunTree, saved: Sequence[int]) -> list[int]:
    """`saved`, the steps of a run's schedule, up to where it ended, without those that were removed on request."""
    gone, end = pruned_steps(tree), reached_step(tree, saved[-1])
    return sorted({*(step for step in saved if step < end), end} - gone.keys())


def reached_step(tree: TuningRunTree, step: int) -> int:
    """The step, or the one that the training ended at early, where that is before it."""
    return min(step, read_json(tree.early_stop, EarlyStop).step) if tree.early_stop.is_file() else step


def handed_off(tree: TuningRunTree, step: int) -> TuningRunTree:
    """Where the weights of a step lie that are evaluated, chosen and handed off: the averaged ones, where the run has them."""
    return tree.averaged if tree.averaged.checkpoint_info(step).is_file() else tree


def note_removed(tree: TuningRunTree, steps: Sequence[int], why: str) -> None:
    """Write down that checkpoints are removed, before they are: one that is noted and still there is simply not removed yet."""
    write_json(tree.pruned, PrunedCheckpoints(steps=pruned_steps(tree) | dict.fromkeys(steps, why)))


def remove_checkpoints(tree: TuningRunTree, steps: Sequence[int]) -> None:
    """Remove the files of steps that are noted as removed, averaged weights too. Their side files stay."""
    for step in steps:
        for where in (tree.averaged, tree):
            where.checkpoint(step).unlink(missing_ok=True)


def keep_only(tree: TuningRunTree, last: int, steps: Collection[int]) -> list[int]:
    """Remove all checkpoints but the `last` newest and those of `steps`. Returns the steps that are gone."""
    present = [step for step in list_checkpoints(tree) if tree.checkpoint(step).is_file()]
    gone = [step for step in present[:-last] if step not in steps]
    if gone:
        note_removed(tree, gone, f"by keep_last: {last}")
        remove_checkpoints(tree, gone)
    return gone


def remove_unfinished(tree: TuningRunTree) -> None:
    """Take away what a killed trainer left half written: some gigabytes each, with the larger networks. Only for a run's one
    trainer."""
    for path in tree.checkpoints_dir.glob(f"**/{TEMPORARY_PREFIX}model_*.partial"):
        path.unlink(missing_ok=True)


def state_place(tree: TuningRunTree, step: int) -> TuningRunTree:
    """Where a run's own state of a step lies that it goes on from."""
    return tree.resume if tree.resume.checkpoint_info(step).is_file() else tree


def hold_weights_alone(tree: TuningRunTree, steps: Sequence[int]) -> bool:
    """Whether a run cannot go on from one of these checkpoints itself, by its side file; one that cannot be read may be such."""
    try:
        infos = [read_json(tree.checkpoint_info(step), CheckpointInfo) for step in steps]
    except InvalidFile:
        return True
    return not all(set(info.keys) >= set(RESUME_KEYS) for info in infos)


def latest_verified(tree: TuningRunTree, *, averaged: bool = False) -> tuple[CheckpointInfo | None, list[str]]:
    """The newest checkpoint that verifies and that a run can go on from, and a line for each newer one that does not.

    Args:
        averaged: the averaged weights of the step must be there too.
    """
    refused: list[str] = []
    for step in sorted({*list_checkpoints(tree), *list_checkpoints(tree.resume)}, reverse=True):
        try:
            if averaged:
                verify_checkpoint(tree.averaged, step)
            where = state_place(tree, step)
            return _resumable(where, verify_checkpoint(where, step)), refused
        except InvalidFile as error:
            refused.append(" ".join(str(error).split()))
    return None, refused


MAX_PICKLE_BYTES = 64 * 1024**2
"""Of a checkpoint's names and shapes; its numbers stand in files of their own in the archive."""


@dataclass(frozen=True)
class ResumeSource:
    """A checkpoint that a run is told to go on from.

    Attributes:
        has_state: it is one of ours, with the order of the samples; else the published trainer's, with weights and optimizer.
    """

    path: Path
    step: int
    has_state: bool

    @property
    def note(self) -> str:
        rest = "" if self.has_state else "; of the published trainer, so the order of the samples is ours from here on"
        return f"goes on from {self.path}, step {self.step}{rest}"


def resume_source(resume: str | None, backend: str) -> ResumeSource | None:
    """What `--resume` names: a checkpoint, or a folder whose newest one is taken, as the published trainer does. None: nothing.

    Looked at by its names alone, without torch, so that the wrong file is refused at once; it is read whole when it is loaded.

    Raises:
        InvalidFile: it is missing, no checkpoint of this backend, or holds no optimizer's state.
    """
    if resume is None:
        return None
    path = Path(resume).expanduser().absolute()
    if path.is_dir():
        steps = {parse_checkpoint_step(each.name): each for each in path.glob("*.pkl")}
        path = max(
            ((step, each) for step, each in steps.items() if step is not None), default=(0, path / "model_*.pkl")
        )[1]
    names, step = _names_in(path), parse_checkpoint_step(path.name)
    wanted = TINY_KEYS if backend == "tiny" else PUBLISHED_KEYS
    missing = [key for key in wanted if key not in names]
    if missing or step is None:
        raise _not_resumable(
            path,
            f"it is no checkpoint of backend {backend}" if missing else "its name does not say its step",
            f"without {', '.join(missing)}" if missing else path.name,
        )
    if "ema_decay" in names:
        raise _not_resumable(path, "it holds averaged weights (EMA), which are for use", "ema_decay")
    has_state = all(key in names for key in RESUME_KEYS)
    if not has_state and ("data_order" in names or "exp_avg" not in names):
        raise _not_resumable(
            path,
            "it was saved without the optimizer's state (save_optimizer: false, or taken as pretrained)",
            "weights alone",
        )
    return ResumeSource(path, step, has_state)


def _not_resumable(path: Path, why: str, found: str) -> InvalidFile:
    return InvalidFile(
        f"a training cannot go on from this file: {why}",
        file=path,
        key="resume",
        found=found,
        wanted="model_<step>.pkl with weights and optimizer, of this backend or of the published trainer",
        remedy="name another checkpoint; or start from these weights under another run name "
        "(`thesis-assets checkpoint convert` makes a directory of a DiFix checkpoint, which `model` may name)",
    )


def _names_in(path: Path) -> set[str]:
    """Every text in the pickle of a torch archive: the names of its keys are among them. Nothing of it is made or run."""
    try:
        with zipfile.ZipFile(path) as archive:
            (entry,) = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if entry.file_size > MAX_PICKLE_BYTES:
                raise ValueError(f"{entry.file_size} bytes of names")
            return {text for _, text, _ in pickletools.genops(archive.read(entry)) if isinstance(text, str)}
    except FileNotFoundError as error:
        raise InvalidFile(
            "there is nothing to go on from", file=path, key="resume", remedy="correct the path"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _not_resumable(path, "it is no archive of torch", str(error)[:200]) from error


def _resumable(tree: TuningRunTree, info: CheckpointInfo) -> CheckpointInfo:
    missing = [key for key in RESUME_KEYS if key not in info.keys]
    if missing:
        raise InvalidFile(
            "the checkpoint has weights, but not what a run needs to go on from it",
            file=tree.checkpoint(info.step),
            key=missing[0],
            found=info.keys,
            wanted=RESUME_KEYS,
        )
    return info


def verify_checkpoint(tree: TuningRunTree, step: int) -> CheckpointInfo:
    """Read a checkpoint whole and compare it with its side file.

    Raises:
        InvalidFile: one of the two is missing, size or digest differ, it holds more than tensors and numbers, keys are
            missing, or a weight is not finite.
    """
    path = tree.checkpoint(step)
    info = read_json(tree.checkpoint_info(step), CheckpointInfo)
    if not path.is_file():
        when = pruned_steps(tree).get(step)
        raise InvalidFile(
            "the checkpoint is missing" if when is None else f"the checkpoint was removed on request (prune, {when})",
            file=path,
            remedy="restore it from a copy"
            if when is None
            else "choose a step that was kept, or train the run again under another name",
        )
    _refuse_changed(
        path,
        info,
        "restore it from a copy; where it is the newest one, starting the run again trains it anew from the one before",
    )
    state = load_checkpoint(path)
    # The published trainer's files do not say their step.
    said = state.get("step", step)
    if said != step or info.step != step or sorted(state) != info.keys:
        raise InvalidFile(
            "the checkpoint and its side file do not belong together",
            file=path,
            found=f"step {said}, keys {sorted(state)}",
            wanted=f"step {info.step}, keys {info.keys}",
        )
    return info


def _refuse_changed(path: Path, info: CheckpointInfo, remedy: str) -> None:
    size = path.stat().st_size
    if size != info.bytes or sha256_file(path) != info.sha256:
        raise InvalidFile(
            "the checkpoint is not the one that was written",
            file=path,
            key="sha256",
            found=f"{size} bytes, another digest",
            wanted=f"{info.bytes} bytes, {info.sha256}",
            remedy=remedy,
        )


def load_told_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint from anywhere whole, into memory: as `load_checkpoint`, and held against the side file where it has one.

    Raises:
        InvalidFile: also where it is not the file that its side file tells of.
    """
    side_file = TuningRunTree.info_beside(path)
    if path.is_file() and side_file.is_file():
        _refuse_changed(
            path, read_json(side_file, CheckpointInfo), "restore it from a copy, or name another checkpoint"
        )
    return load_checkpoint(path, mapped=False)


def load_checkpoint(path: Path, map_location: str = "cpu", *, mapped: bool = True) -> dict[str, Any]:
    """Read a checkpoint of any of our trainers, or of the published one: tensors and numbers, nothing that could run.

    Args:
        mapped: tensors stay in the file until they are looked at, so that refining with one of 10 GB reads a third of it.

    Raises:
        InvalidFile: it is missing, no such archive, holds anything else, has the keys of neither, or a weight is not finite.
    """
    import torch

    try:
        mapped = mapped and path.stat().st_size >= MAPPED_BYTES and zipfile.is_zipfile(path)
        state = torch.load(path, map_location=map_location, weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise InvalidFile("the checkpoint is missing", file=path) from error
    except Exception as error:  # damaged bytes make torch raise whatever they spell, an IndexError for one
        raise InvalidFile(
            "the checkpoint cannot be read: it is damaged, or holds more than tensors and numbers",
            file=path,
            found=re.split(r"[.\n]", str(error), maxsplit=1)[0][:300] or type(error).__name__,
            remedy="do not load it by other means if you do not know who wrote it: a pickle can run any program",
        ) from error
    if not _has_known_keys(state):
        keys = sorted(map(str, state)) if isinstance(state, dict) else []
        raise InvalidFile(
            "the checkpoint is neither one of the tiny backend nor has it the published keys",
            file=path,
            found=keys[:20] or type(state).__name__,
            wanted=f"{', '.join(TINY_KEYS)}; or {', '.join(PUBLISHED_KEYS)}",
        )
    _check_finite(path, state)
    return dict(state)


def _has_known_keys(state: object) -> bool:
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        return False
    return any(set(state) >= set(keys) for keys in (TINY_KEYS, PUBLISHED_KEYS))


def _check_finite(path: Path, state: Mapping[str, Any]) -> None:
    parts = [value for key, value in state.items() if key.startswith(WEIGHTS_PREFIX)]
    for name, tensor in (named for weights in parts for named in _tensors(weights)):
        if not bool(tensor.isfinite().all()):
            raise InvalidFile(
                "a weight is not finite",
                file=path,
                key=name,
                remedy="lower the learning rate, or clip gradients (max_grad_norm), under another run name",
            )


def _tensors(weights: object) -> Iterator[tuple[str, Tensor]]:
    import torch

    if not isinstance(weights, Mapping):
        raise InvalidFile("the checkpoint's weights are not a mapping", key=WEIGHTS, found=type(weights).__name__)
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise InvalidFile("a weight is not a plain tensor", key=str(name), found=type(tensor).__name__)
        # Bytes that stand for many (a stride of 0) would take their claimed size when they are looked at.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InvalidFile("a weight claims more than the file holds", key=str(name), found=tuple(tensor.shape))
        yield str(name), tensor
