"""One tuning run from the snapshot to verified checkpoints: guard, lock, launch, follow, verify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import CellLocked, InvalidFile, ThesisAssetsError
from thesis_assets.experiments.runs import RunSpec
from thesis_assets.experiments.split import SplitSpec
from thesis_assets.launch.commands import log_tail, run_command, still_running
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.splits.freeze import freeze
from thesis_assets.splits.snapshot_guard import SnapshotState, guard_snapshot
from thesis_assets.storage import cell_lock, read_json
from thesis_assets.tuning.checkpoints import list_checkpoints, verify_checkpoint
from thesis_assets.tuning.launch_command import launch_command, launch_environment, resolve_flags
from thesis_assets.tuning.progress_file import ProgressReader, read_curves
from thesis_assets.tuning.run_config import lock_config, make_config
from thesis_assets.tuning.supported import require_supported


class TrainerFailed(ThesisAssetsError):
    """The trainer ended with a message of its own, or died."""


class TrainerStopped(ThesisAssetsError):
    """The trainer was asked to stop, saved, and ended before its last step."""


@dataclass(frozen=True)
class TuningResult:
    """A finished run.

    Attributes:
        steps: of the verified checkpoints that the run's schedule names, ascending.
        curves: series over steps and evaluations (`progress_file.read_curves`).
        contact_sheet: of the last evaluation.
    """

    steps: list[int]
    curves: dict[str, list[float]]
    contact_sheet: Path | None
    job: JobRecord


def tune(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    *,
    split: SplitSpec,
    device: str,
    launcher: str,
    on_progress: Callable[[ProgressLine], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TuningResult:
    """Train a run to its end, from where it stands; a finished one is verified and returned at once.

    The first run freezes the snapshot.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`.
        on_progress: called with every line of the trainer, one a step.
        should_stop: true ends the trainer, which saves first.

    Raises:
        NotBuiltYet: the run or the launcher needs what this version does not have.
        Leak, SnapshotChanged, InvalidFile: the snapshot may not be trained on (`splits.snapshot_guard`), or the run's name
            belongs to other data or hyperparameters.
        CellLocked: another process trains this run.
        TrainerFailed: the trainer ended with an error; the message is its own.
        TrainerStopped: it was stopped; starting again goes on from its last checkpoint.
    """
    require_supported(run, launcher)
    run_tree = tree.tuning_run(run_name)
    with cell_lock(tree.lock(f"run-{run_name}"), f"the tuning run {run_name} of {tree.exp_name}"):
        _refuse_while_running(run_tree)
        snapshot = guard_snapshot(tree, split, split.group_rules)
        flags, notes = resolve_flags(tree, run_name, run, device)
        command = launch_command(flags, device)
        config = make_config(
            tree,
            run_name,
            backend=run.backend,
            flags=flags,
            notes=notes,
            command=command,
            device=device,
            data_json_sha256=snapshot.data_json_sha256,
            manifest_sha256=snapshot.manifest_sha256,
            n_train=len(snapshot.train),
            n_test=len(snapshot.test),
        )
        freeze(tree, f"tuning run {run_name}")
        lock_config(tree, config)
        if not _is_finished(run_tree, run, snapshot):
            _train(run_tree, command, launch_environment(device), on_progress, should_stop)
        return _verified_result(run_tree, run)


def _refuse_while_running(run_tree: TuningRunTree) -> None:
    """A trainer whose starter was killed outright still writes into the run; a second one beside it would mix with it."""
    if not run_tree.job.is_file():
        return
    left = still_running(read_json(run_tree.job, JobRecord))
    if left:
        raise CellLocked(
            "a trainer of this run is still at work, though who started it is gone",
            file=run_tree.job,
            found=f"processes {', '.join(map(str, left))}",
            remedy="wait for it, or end these processes (it saves on SIGTERM), then start again",
        )


def _is_finished(run_tree: TuningRunTree, run: RunSpec, snapshot: SnapshotState) -> bool:
    """Whether the last step is saved, whole, and evaluated."""
    last = run.max_train_steps
    if not run_tree.job.is_file() or not run_tree.checkpoint_info(last).is_file():
        return False
    if snapshot.test and not run_tree.eval_metrics(last).is_file():
        return False
    try:
        verify_checkpoint(run_tree, last)
    except InvalidFile:
        # The trainer goes on from the newest checkpoint that verifies, and says which ones do not.
        return False
    return True


def _train(
    run_tree: TuningRunTree,
    command: list[str],
    env: dict[str, str],
    on_progress: Callable[[ProgressLine], None] | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    stdout, stderr = run_tree.logs_dir / "stdout.log", run_tree.logs_dir / "stderr.log"
    stderr_start = stderr.stat().st_size if stderr.is_file() else 0
    reader = ProgressReader(run_tree.progress, from_end=True)
    last_line: list[ProgressLine] = []

    def follow() -> None:
        for line in reader.new_lines():
            last_line[:] = [line]
            if on_progress:
                on_progress(line)

    returncode = run_command(
        command,
        stdout=stdout,
        stderr=stderr,
        job=run_tree.job,
        env=env,
        poll=follow,
        should_stop=should_stop,
    )
    line = last_line[0] if last_line else None
    if line is not None and line.event == "done" and returncode == 0:
        return
    if line is not None and line.event == "stopped":
        raise TrainerStopped(
            f"the trainer was stopped after step {line.step} of {line.max_steps}, having saved",
            file=run_tree.base,
            found=line.message,
            remedy="start the run again: it goes on from there",
        )
    raise _failure(returncode, line, stderr, stderr_start)


def _failure(returncode: int, line: ProgressLine | None, stderr: Path, stderr_start: int) -> TrainerFailed:
    if line is not None and line.event == "failed":
        return TrainerFailed(f"the trainer ended: {line.message}", file=stderr)
    where = f"after step {line.step} of {line.max_steps}" if line is not None else "before its first step"
    how = f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"
    return TrainerFailed(
        f"the trainer ended {how} {where}, without a word of its own",
        file=stderr,
        found="\n" + log_tail(stderr, start=stderr_start),
        remedy="start the run again once the cause is gone: it goes on from its last checkpoint (a signal 9 is most often the "
        "memory: lower train_batch_size or resolution)",
    )


def _verified_result(run_tree: TuningRunTree, run: RunSpec) -> TuningResult:
    """What the run left, every wanted checkpoint verified.

    Raises:
        InvalidFile: one is missing or damaged.
    """
    present = set(list_checkpoints(run_tree))
    missing = [step for step in run.saved_steps() if step not in present]
    if missing:
        raise InvalidFile(
            "the run lacks checkpoints that its schedule names",
            file=run_tree.checkpoints_dir,
            found=sorted(present),
            wanted=run.saved_steps(),
            remedy="restore them from a copy, or train the run again under another name",
        )
    for step in run.saved_steps():
        verify_checkpoint(run_tree, step)
    sheet = run_tree.eval_contact_sheet(run.max_train_steps)
    return TuningResult(
        steps=run.saved_steps(),
        curves=read_curves(run_tree.progress),
        contact_sheet=sheet if sheet.is_file() else None,
        job=read_json(run_tree.job, JobRecord),
    )
