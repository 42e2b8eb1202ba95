"""The program of the `tiny` backend, started by `accelerate launch`.

    accelerate launch [flags] train_tiny.py --dataset_path data.json --output_dir <run directory> --tracker_run_name <run>

It goes on from the newest checkpoint of its run directory by itself, ends with status 0 after its last step or when asked by
SIGTERM or SIGUSR2 (having saved), and with status 1 and a message that says what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import NotBuiltYet, ThesisAssetsError
from thesis_assets.layout import TuningRunTree
from thesis_assets.storage import sha256_file
from thesis_assets.tuning.held_out_samples import from_data_json, stratified
from thesis_assets.tuning.launch_command import available_cores
from thesis_assets.tuning.learning_rate import check_schedule
from thesis_assets.tuning.progress_file import ProgressWriter
from thesis_assets.tuning.stop_signals import StopRequest, stop_on_signals
from thesis_assets.tuning.trackers import start_tracker, usable_tracker
from thesis_assets.tuning.trainer_flags import TrainerFlags, notes_on_unused, parse_flags
from thesis_assets.tuning.trainer_report import TrainerReport

if TYPE_CHECKING:
    from accelerate import Accelerator


def main(arguments: Sequence[str]) -> int:
    """Train as the flags say. Returns the exit status."""
    try:
        flags = parse_flags(arguments)
    except ThesisAssetsError as error:
        return _fail(error)
    tree = TuningRunTree(Path(flags.output_dir).absolute())
    report = TrainerReport(ProgressWriter(tree.progress), flags.max_train_steps)
    try:
        with stop_on_signals() as stop:
            _train(flags, tree, report, stop)
    except ThesisAssetsError as error:
        report.event("failed", str(error))
        return _fail(error)
    return 0


def _train(flags: TrainerFlags, tree: TuningRunTree, report: TrainerReport, stop: StopRequest) -> None:
    check_schedule(flags.lr_scheduler)
    _refuse_foreign_resume(flags, tree)
    # torch and accelerate take seconds to import: what can be refused is refused before.
    from accelerate import Accelerator

    from thesis_assets.tuning.tiny_training import TinyTraining, TrainingInputs
    from thesis_assets.tuning.triplets import Triplets, read_data_json

    data_json = Path(flags.dataset_path).absolute()
    tracker, note = usable_tracker(flags.report_to)
    data = read_data_json(data_json)
    accelerator = Accelerator(
        gradient_accumulation_steps=flags.gradient_accumulation_steps,
        mixed_precision=flags.mixed_precision,
        log_with=tracker if tracker != "none" else None,
        project_dir=str(tree.logs_dir),
    )
    _refuse_several_processes(accelerator.num_processes)
    workers = min(flags.dataloader_num_workers, max(0, available_cores() - 1))
    inputs = TrainingInputs(
        flags=flags,
        tree=tree,
        triplets=Triplets(data.train, flags.resolution),
        test_samples=stratified(from_data_json(data_json, data.test), flags.num_samples_eval, flags.seed),
        data_json_sha256=sha256_file(data_json),
        workers=workers,
    )
    training = TinyTraining(inputs, accelerator, report)
    refused = training.resume()
    report.step = training.step
    notes = [*refused, *([note] if note else []), *_precision_notes(accelerator)]
    if unused := notes_on_unused(flags):
        notes.append(f"{len(unused)} flags have no effect in this backend (`notes` of train_config.json says which)")
    if not inputs.test_samples:
        notes.append("data.json has no test sample: nothing is evaluated")
    report.event("start", "; ".join([f"{len(inputs.triplets)} samples on {accelerator.device}", *notes]))
    if tracker != "none":
        start_tracker(accelerator, flags)
        report.tracker = accelerator
    try:
        finished = training.run(stop)
    finally:
        accelerator.end_training()
    report.event("done" if finished else "stopped", "" if finished else f"asked by {stop.signal_name}")


def _precision_notes(accelerator: Accelerator) -> list[str]:
    import torch

    cuda = accelerator.device.type == "cuda"
    if accelerator.mixed_precision == "bf16" and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        return ["mixed_precision = bf16: this GPU only emulates it; no or fp16 is faster"]
    return []


def _refuse_several_processes(count: int) -> None:
    if count != 1:
        raise NotBuiltYet(
            "this version trains in one process",
            key="num_processes",
            found=count,
            wanted=1,
            remedy="set num_processes: 1",
        )


def _refuse_foreign_resume(flags: TrainerFlags, tree: TuningRunTree) -> None:
    """A run resumes by itself, from its own directory; anything else would not be the run that its configuration says."""
    if flags.resume is None:
        return
    path = Path(flags.resume).absolute()
    if tree.checkpoints_dir not in (path, path.parent):
        raise NotBuiltYet(
            "this version resumes from the run's own checkpoints only",
            key="resume",
            found=path,
            wanted=tree.checkpoints_dir,
            remedy="leave the flag away, or copy the checkpoint with its side file into that directory",
        )


def _fail(error: ThesisAssetsError) -> int:
    sys.stderr.write(f"train_tiny: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
