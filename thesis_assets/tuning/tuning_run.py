"""One tuning run from the snapshot to verified checkpoints: guard, lock, launch, follow, verify."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from thesis_assets.errors import CellLocked, InvalidFile, ProcessLost, ThesisAssetsError, command_for, first_names
from thesis_assets.experiments.spec import RunSpec, SplitSpec
from thesis_assets.launch.jobs import Following, Job, JobState, Launcher, Resources, left_running, log_tail, run_job
from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.provenance import Contents, Verdict, is_asked_anew
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.splits.snapshot_guard import freeze, guard_snapshot
from thesis_assets.storage import cell_lock, read_json
from thesis_assets.tuning.checkpoints import handed_off, kept_steps, list_checkpoints, reached_step, verify_checkpoint
from thesis_assets.tuning.progress_file import ProgressReader, last_progress, read_curves
from thesis_assets.tuning.run_config import kept_run, lock_config, make_config
from thesis_assets.tuning.run_record import checkpoint_place, checkpoint_unit, lost_checkpoints, record_run
from thesis_assets.tuning.trainer_start import Reported, trainer_start
from thesis_assets.tuning.training_plan import TrainingPlan, plan_training


class TrainerFailed(ThesisAssetsError):
    """The trainer ended with a message of its own, or died."""


class TrainerLost(TrainerFailed, ProcessLost):
    """The trainer was killed outright, by the machine's want of memory or with its node: it goes on from its last checkpoint."""


class TrainerStopped(ThesisAssetsError):
    """The trainer was asked to stop, and ended before its last step."""


@dataclass(frozen=True)
class TuningResult:
    """A finished run.

    Attributes:
        steps: of the checkpoints that the run's schedule names, ascending.
        curves: series over steps and evaluations (`progress_file.read_curves`).
        contact_sheet: of the last evaluation.
        job: that trained it; None where its record is lost.
        plan: what was told before it started; empty where nothing was started now.
    """

    steps: list[int]
    curves: dict[str, list[float]]
    contact_sheet: Path | None
    job: JobRecord | None
    plan: tuple[str, ...] = ()


def tune(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    *,
    split: SplitSpec,
    device: str,
    launcher: Launcher,
    roots: SceneRoots | None = None,
    lpips_weights: Path | None = None,
    reported: Reported = Reported(),
    on_plan: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[ProgressLine], None] | None = None,
    following: Following = Following(),
) -> TuningResult:
    """Train a run to its end, from where it stands, and record it; one that is as recorded is returned at once.

    A trainer that an earlier call left at work is followed. The first run freezes the snapshot.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`.
        launcher: where the trainer runs.
        roots: where the scenes lie, see `splits.photographs.check_photographs`.
        lpips_weights: the folder of the two files of LPIPS, for a loss that has it; None looks into torch's hub cache.
        reported: what the experiment evaluates, which nothing is chosen by.
        on_plan: called with each line of the training's plan, before it starts.
        on_progress: called with every line of the trainer, one a step.
        following: what else its follower wants of the trainer's job, and when it ends it or leaves it.

    Raises:
        NotBuiltYet: the run needs what this version does not have.
        ThesisAssetsError: no place of the launcher has what the run needs: its GPUs, the preset it names, or bf16.
        Leak, SnapshotChanged, InvalidFile: the snapshot may not be trained on (`splits.snapshot_guard`), or the run's name
            belongs to other data or hyperparameters; or files of the finished run are not those that were recorded.
        DiskFull: its checkpoints do not fit.
        CellLocked: another process trains this run, or a job of another machine or launcher.
        TrainerFailed: the trainer ended with an error; the message is its own.
        TrainerStopped: it was stopped; starting again goes on from its last checkpoint.
    """
    run_tree = tree.tuning_run(run_name)
    anew = is_asked_anew(checkpoint_place(tree, run_name))
    run = run if anew else kept_run(run_tree, run)
    resources = training_resources(run, device)
    # Before anything is written: a run whose number of processes is locked into its configuration could not be corrected.
    launcher.require(resources)
    with cell_lock(tree.lock(f"run-{run_name}"), f"the tuning run {run_name} of {tree.exp_name}"):
        snapshot = guard_snapshot(tree, split, roots)
        if anew:
            _set_aside(tree, run_name, launcher)
        start = trainer_start(
            tree,
            run_name,
            run,
            device,
            n_train=len(snapshot.train),
            lpips_weights=lpips_weights,
            reported=reported,
        )
        # A job that is left may be about to write its last files: it is followed even where nothing is missing.
        left = left_running(launcher, run_tree.job)
        unit, contents = checkpoint_unit(tree, run_name, run), Contents()
        verdict = unit.look(contents)
        if not left:
            _refuse_damaged(tree, run_name, run, verdict)
        recorded = verdict.is_made and verdict.record is not None
        evaluated = start.evaluates and bool(snapshot.test)
        finished = not left and (recorded or _is_finished(run_tree, run, evaluated=evaluated))
        notes, plan = start.notes, TrainingPlan(())
        if not left and not finished:
            plan = plan_training(tree, run_name, run, start, device, n_train=len(snapshot.train), reported=reported)
            plan.refuse_too_large(run_tree)
            for line in plan.lines:
                on_plan(line)
            notes = [*start.notes, *plan.warnings, *start.check()]
        if run.preset is not None and launcher.name == "local":
            notes = [*notes, f"preset = {run.preset}: no effect, it is for Slurm and this run is local"]
        config = make_config(
            tree,
            run_name,
            backend=run.backend,
            flags=start.flags,
            notes=notes,
            command=start.command,
            device=device,
            data_json_sha256=snapshot.data_json_sha256,
            manifest_sha256=snapshot.manifest_sha256,
            n_train=len(snapshot.train),
            n_test=len(snapshot.test),
        )
        freeze(tree, f"tuning run {run_name}")
        lock_config(tree, config)
        if finished and recorded:
            return _result(run_tree, run)
        if not finished:
            job = Job(
                name=f"{tree.exp_name}-{run_name}",
                command=start.command,
                record=run_tree.job,
                exit_file=run_tree.job_exit,
                stdout=run_tree.logs_dir / "stdout.log",
                stderr=run_tree.logs_dir / "stderr.log",
                env=start.env,
                resources=resources,
            )
            _train(launcher, job, run_tree, on_progress, following)
        _verify(run_tree, run, contents)
        record_run(tree, run_name, run, unit=unit, contents=contents)
        return replace(_result(run_tree, run), plan=plan.lines)


def training_resources(run: RunSpec, device: str) -> Resources:
    """What the trainer of a run needs."""
    on_gpu = device != "cpu"
    return Resources(
        gpus=run.num_processes if on_gpu else 0,
        processes=run.num_processes,
        preset=run.preset,
        bf16=on_gpu and run.mixed_precision == "bf16" and run.backend != "pretrained",
    )


def _set_aside(tree: DifixTree, run_name: str, launcher: Launcher) -> None:
    """Move a finished training away, whole: another is made in its place.

    Raises:
        CellLocked: its trainer is still at work.
    """
    run_tree = tree.tuning_run(run_name)
    if left_running(launcher, run_tree.job) is not None:
        raise CellLocked(
            "the trainer of this run is still at work",
            file=run_tree.job,
            remedy=f"wait for it: `thesis-assets run --exp {tree.exp_name} --run {run_name}` follows it",
        )
    place = next(path for number in itertools.count(1) if not (path := tree.run_set_aside(run_name, number)).exists())
    place.parent.mkdir(parents=True, exist_ok=True)
    run_tree.base.replace(place)
    tell(f"the training that was there is moved to {place}")


def _is_finished(run_tree: TuningRunTree, run: RunSpec, *, evaluated: bool) -> bool:
    """Whether the last wanted step is saved, whole, and where it is to be `evaluated` that too."""
    last = reached_step(run_tree, run.saved_steps()[-1])
    if not run_tree.checkpoint_info(last).is_file():
        return False
    if evaluated and not run_tree.eval_metrics(last).is_file():
        return False
    try:
        verify_checkpoint(run_tree, last)
    except InvalidFile:
        # The trainer goes on from the newest checkpoint that verifies, and says which ones do not.
        return False
    return True


def _train(
    launcher: Launcher,
    job: Job,
    run_tree: TuningRunTree,
    on_progress: Callable[[ProgressLine], None] | None,
    following: Following,
) -> None:
    stderr_start = job.stderr.stat().st_size if job.stderr.is_file() else 0
    reader = ProgressReader(run_tree.progress, from_end=True)
    # One that an earlier call left may have said its last word already.
    last_line = last_progress(run_tree.progress) if left_running(launcher, job.record) else None

    def follow() -> None:
        nonlocal last_line
        if following.poll is not None:
            following.poll()
        for line in reader.new_lines():
            # Of several processes one may still tell of its step when another has told why all of them end.
            if last_line is None or last_line.event != "failed":
                last_line = line
            if on_progress:
                on_progress(line)

    state = run_job(launcher, job, following=replace(following, poll=follow))
    # Its own last word counts even where its job was taken away before that could say how it ended.
    if last_line is not None and last_line.event == "done" and state.returncode in (0, None):
        return
    if last_line is not None and last_line.event == "stopped":
        # A trainer of ours saves when it is asked to end; the user's own does not.
        steps = list_checkpoints(run_tree)
        raise TrainerStopped(
            f"the trainer was stopped after step {last_line.step} of {last_line.max_steps}",
            file=run_tree.base,
            found=last_line.message,
            remedy="start the run again: it goes on from "
            + (f"its checkpoint of step {steps[-1]}" if steps else "the beginning, since it has no checkpoint yet"),
        )
    raise _failure(state, last_line, job.stderr, stderr_start)


def _failure(state: JobState, line: ProgressLine | None, stderr: Path, stderr_start: int) -> TrainerFailed:
    if line is not None and line.event == "failed":
        return TrainerFailed(f"the trainer ended: {line.message}", file=stderr)
    where = f"after step {line.step} of {line.max_steps}" if line is not None else "before its first step"
    killed = state.returncode in (None, -signal.SIGKILL)
    return (TrainerLost if killed else TrainerFailed)(
        f"the trainer ended {state.how} {where}, without a word of its own",
        file=stderr,
        found="\n" + log_tail(stderr, start=stderr_start),
        remedy="start the run again once the cause is gone: it goes on from its last checkpoint (a signal 9 is most often the "
        "memory: lower train_batch_size or resolution)",
    )


def _refuse_damaged(tree: DifixTree, run_name: str, run: RunSpec, verdict: Verdict) -> None:
    """A training that came to its end and lost files is not trained again by itself, whoever asks for its step.

    `train_config.json` is written anew from what the run is.

    Raises:
        InvalidFile: with the files, and the command that trains it anew.
    """
    base = tree.tuning_run(run_name)
    if verdict.record is None:
        lost = lost_checkpoints(base, run)
    else:
        lost = [name for name in (*verdict.damaged, *verdict.missing) if name != base.train_config.name]
    if lost:
        again = f"{command_for('tuned_checkpoint', tree.exp_name, run_name)} --force tuned_checkpoint"
        raise InvalidFile(
            "files of the finished run are not those that were recorded",
            file=base.base / lost[0],
            found=f"{first_names(lost, 5)}; {verdict.in_words}",
            remedy=f"restore them from a copy; or `{again}` trains it anew, and moves this one aside",
        )


def _verify(run_tree: TuningRunTree, run: RunSpec, contents: Contents) -> None:
    """Read every wanted checkpoint whole. `InvalidFile`: one is missing or damaged."""
    present = set(list_checkpoints(run_tree))
    wanted = kept_steps(run_tree, run.saved_steps())
    missing = [step for step in wanted if step not in present]
    if missing:
        raise InvalidFile(
            "the run lacks checkpoints that its schedule names",
            file=run_tree.checkpoints_dir,
            found=sorted(present),
            wanted=wanted,
            remedy="restore them from a copy, or train the run again under another name",
        )
    for step in wanted:
        for where in {run_tree, handed_off(run_tree, step)}:
            contents.saw(where.checkpoint(step), verify_checkpoint(where, step).sha256)


def _result(run_tree: TuningRunTree, run: RunSpec) -> TuningResult:
    wanted = kept_steps(run_tree, run.saved_steps())
    sheet = run_tree.eval_contact_sheet(wanted[-1])
    return TuningResult(
        steps=wanted,
        curves=read_curves(run_tree.progress),
        contact_sheet=sheet if sheet.is_file() else None,
        job=read_json(run_tree.job, JobRecord) if run_tree.job.is_file() else None,
    )
