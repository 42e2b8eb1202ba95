"""The program around the training loop, the same for every backend: flags in, exit status out.

It goes on from the newest checkpoint of its run directory by itself, ends with status 0 after its last step or when asked by
SIGTERM or SIGUSR2 (having saved), and with status 1 and a message that says what to do.
Does not belong here: the loop, and how the program is started (`trainer_start`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import DiskFull, InvalidFile, ThesisAssetsError
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import EarlyStop
from thesis_assets.splits.data_json import content_of_file, former_folders
from thesis_assets.splits.snapshot_guard import look_at_data, recorded_images, refuse_leaks, split_rows_of
from thesis_assets.storage import full_disk_explained, read_json, sha256_file
from thesis_assets.tuning.backends import Backend
from thesis_assets.tuning.checkpoints import ResumeSource, list_checkpoints, resume_source
from thesis_assets.tuning.patient_launch import available_cores, forget_other_launches
from thesis_assets.tuning.progress_file import (
    AnotherProcessFailed,
    ProgressReader,
    ProgressWriter,
    RunTracker,
    StopRequest,
    TrainerReport,
    at_step,
    stop_on_signals,
    usable_tracker,
    write_curves,
)
from thesis_assets.tuning.run_config import (
    RunIdentity,
    TrainerFlags,
    check_patience,
    check_schedule,
    flags_in,
    kept_settings,
    lock_config,
    make_config,
    parse_flags,
    snapshot_of,
)
from thesis_assets.tuning.scoring import from_data_json, lpips_where_it_is, of_groups, stratified, with_records

if TYPE_CHECKING:
    from thesis_assets.tuning.training_loop import TrainingInputs


def main(arguments: Sequence[str], backend: Backend) -> int:
    """Train as the flags say. Returns the exit status."""
    # From the very first moment: the imports below take seconds.
    with stop_on_signals() as stop:
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            # No launcher of several processes started this one: ranks are of another launch, in whose shell it runs.
            forget_other_launches()
        try:
            flags = parse_flags(arguments)
            tree = TuningRunTree(Path(flags.output_dir).absolute())
            # Where a run is gone on with, what the command line leaves out is as it was begun with.
            flags = TrainerFlags(**kept_settings(tree, flags.values(), flags_in(arguments)))
        except ThesisAssetsError as error:
            return _fail(backend, error, None)
        since = ProgressReader(tree.progress, from_end=True)
        report = TrainerReport(ProgressWriter(tree.progress), flags.max_train_steps, speaks=_is_first_process())
        try:
            with full_disk_explained(tree.base):
                _train(backend, flags, tree, report, stop)
        except AnotherProcessFailed as error:
            return _fail(backend, error, None)
        except DiskFull as error:
            return _fail(backend, at_step(error, report.step), report)
        except ThesisAssetsError as error:
            return _fail(backend, error, report)
        except RuntimeError:
            if not any(line.event == "failed" for line in since.new_lines()):
                raise
            # What gloo or nccl says of a peer that is gone is not the cause.
            return _fail(backend, AnotherProcessFailed("another process failed; its message is the one to read"), None)
        finally:
            report.close()
    return 0


def _train(
    backend: Backend, flags: TrainerFlags, tree: TuningRunTree, report: TrainerReport, stop: StopRequest
) -> None:
    check_schedule(flags.lr_scheduler)
    check_patience(flags)
    source = _resume_source(flags, tree, backend)
    snapshot = snapshot_of(tree, Path(flags.dataset_path))
    if snapshot is not None and _is_first_process():
        look_at_data(snapshot)
        if not tree.train_config.is_file():  # else it was written after `guard_snapshot`
            refuse_leaks(snapshot)
    # torch and accelerate take seconds to import: what can be refused is refused before.
    import torch

    from thesis_assets.tuning.training_loop import (
        TrainingLoop,
        make_accelerator,
        memory_layout,
        precision_notes,
        refuse_emulated_bf16,
    )

    tracker, note = usable_tracker(flags.report_to)
    accelerator = make_accelerator(flags, tree, tracker)
    refuse_emulated_bf16(accelerator)
    flags = replace(flags, num_processes=accelerator.num_processes)
    lpips = lpips_where_it_is(Path(flags.lpips_weights) if flags.lpips_weights else None, str(accelerator.device))
    inputs = replace(_inputs(flags, tree), source=source, lpips=lpips)
    if accelerator.is_main_process:
        inputs = _locked(backend, inputs)
    torch.manual_seed(flags.seed)
    model = backend.build(flags)
    model.network.to(memory_format=memory_layout(flags))  # type: ignore[call-overload]
    notes = [*([note] if note else []), *precision_notes(accelerator, model.network)]
    if flags.allow_tf32 and accelerator.device.type != "cuda":
        notes.append("allow_tf32 = True: no effect without a GPU")
    training = TrainingLoop(inputs, model, accelerator, report)
    notes = [*training.resume(), *notes]
    report.step = training.step
    if tracker != "none":
        report.tracker = RunTracker(accelerator, flags, tracker, training.step)
        notes += [report.tracker.failure] if report.tracker.failure else []
    processes = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    what = f"{len(inputs.triplets)} samples on {accelerator.device}{processes}"
    report.event("start", "; ".join([what, *notes, *_remarks(backend, inputs)]))
    try:
        finished = training.run(stop)
    finally:
        if report.tracker is not None:
            report.tracker.finish()
        accelerator.end_training()
    if accelerator.is_main_process:
        write_curves(tree)
    ended_early = finished and training.step < flags.max_train_steps and accelerator.is_main_process
    early = _why_early(tree, flags) if ended_early else ""
    report.event("done" if finished else "stopped", early if finished else f"asked by {stop.signal_name}")


def _why_early(tree: TuningRunTree, flags: TrainerFlags) -> str:
    stop = read_json(tree.early_stop, EarlyStop)
    return (
        f"no evaluation was better for {stop.patience} in a row than the {stop.best_psnr:.2f} dB PSNR of step {stop.best_step} "
        f"on validation groups: ended at step {stop.step}, and not at {flags.max_train_steps}"
    )


def _locked(backend: Backend, inputs: TrainingInputs) -> TrainingInputs:
    """The inputs, under the lock on the run's name, that of a trainer which was started by hand too: it writes `train_config.json`.

    They are known by the names that the configuration has for them: a version before named the same otherwise. Outside a
    snapshot's folder the checkpoints' side files alone know their data.

    Raises:
        SnapshotChanged: the run's name has other data or other hyperparameters.
    """
    import torch

    run_tree, flags, identity = inputs.tree, inputs.flags, inputs.identity
    # Where there is a configuration, who started this has asked already, and written the answer down.
    notes = [] if run_tree.train_config.is_file() else backend.check(flags)
    tree = snapshot_of(run_tree, Path(flags.dataset_path))
    if tree is None:
        return inputs
    manifests = (tree.all_samples, tree.split_train, tree.split_test)
    asked = make_config(
        tree,
        run_tree.base.name,
        backend=backend.name,
        flags=flags,
        notes=["started by hand", *notes, *backend.notes_on_unused(flags)],
        command=[sys.executable, *sys.argv],
        device="cuda" if torch.cuda.is_available() else "cpu",
        data_json_sha256=identity.data_json_sha256,
        manifest_sha256={path.name: sha256_file(path) for path in manifests if path.is_file()},
        n_train=len(inputs.triplets),
        n_test=inputs.n_test,
    )
    config = lock_config(tree, asked)
    data, settings = config.data_json_sha256, config.hyperparameter_digest
    return replace(inputs, identity=replace(identity, data_json_sha256=data, hyperparameter_digest=settings))


def _inputs(flags: TrainerFlags, tree: TuningRunTree) -> TrainingInputs:
    from thesis_assets.tuning.training_loop import TrainingInputs
    from thesis_assets.tuning.triplets import Triplets, read_data_json

    data_json = Path(flags.dataset_path).absolute()
    data = read_data_json(data_json)
    content, snapshot = content_of_file(data_json), snapshot_of(tree, data_json)
    folders = [str(data_json.parent.parent)] if snapshot is None else list(former_folders(snapshot))
    recorded = (
        {} if snapshot is None else recorded_images(snapshot, {row.scene_name for row in split_rows_of(snapshot)})
    )
    processes = flags.num_processes or 1
    return TrainingInputs(
        flags=flags,
        tree=tree,
        triplets=Triplets(data.train, flags.resolution, recorded, flags.crop),
        n_test=len(data.test),
        test_samples=with_records(
            stratified(
                of_groups(from_data_json(data_json, data.test), flags.validation_groups),
                flags.num_samples_eval,
                flags.seed,
            ),
            recorded,
        ),
        identity=RunIdentity(
            content.sha256, flags.hyperparameter_digest(), lambda named: content.is_named(named, folders)
        ),
        workers=min(flags.dataloader_num_workers, max(0, available_cores() // processes - 1)),
    )


def _remarks(backend: Backend, inputs: TrainingInputs) -> list[str]:
    remarks = []
    if unused := backend.notes_on_unused(inputs.flags):
        remarks.append(f"{len(unused)} flags have no effect in this backend (`notes` of train_config.json says which)")
    if not inputs.n_test:
        remarks.append("data.json has no test sample: nothing is evaluated")
    elif not inputs.test_samples:
        remarks.append(f"no test sample is of {inputs.flags.validation_groups}: nothing is evaluated")
    return remarks


def _resume_source(flags: TrainerFlags, tree: TuningRunTree, backend: Backend) -> ResumeSource | None:
    """What `--resume` names, where the run has yet to begin from it. A run that began goes on from its own newest checkpoint.

    Raises:
        InvalidFile: a training cannot go on from that file, or the run has checkpoints that did not come of it.
    """
    source, own = resume_source(flags.resume, backend.name), list_checkpoints(tree)
    if source is None:
        return None
    from_own = source.path.parent == tree.checkpoints_dir
    if not from_own and source.step >= flags.max_train_steps:
        raise InvalidFile(
            "the file is at the run's last step, or beyond it: nothing is left to train",
            file=source.path,
            key="resume, max_train_steps",
            found=source.step,
            wanted=f"a step before {flags.max_train_steps}",
            remedy="raise max_train_steps, or take an earlier checkpoint",
        )
    if not own:
        return source
    came_of_it = own[-1] == source.step if from_own else own[0] > source.step
    if not came_of_it:
        raise InvalidFile(
            "the run has checkpoints that did not come of the file it is to go on from",
            file=source.path,
            key="resume",
            found=f"step {source.step}; the run has {', '.join(map(str, own[-5:]))}",
            remedy="leave the flag away: the run goes on from its newest; or move the others away; or take another run name",
        )
    return source


def _is_first_process() -> bool:
    """By the variable that torchrun and `accelerate launch` set: torch is not imported yet."""
    return os.environ.get("RANK", "0") == "0"


def _fail(backend: Backend, error: ThesisAssetsError, report: TrainerReport | None) -> int:
    if report is not None:
        report.failed(str(error))
    sys.stderr.write(f"{backend.script.stem}: {error}\n")
    return 1
