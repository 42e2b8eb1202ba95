"""Predictions of the source `command`: the user's own 3DGS pipeline, run once a scene with the run's selected checkpoint.

It writes a tree of the output document into a folder of its own; what is evaluated is linked from there (`source_trees`).
It runs again where its command line, its environment, the checkpoint or the scene's files changed, or where a person asks for it:
into a folder beside what it wrote before, which stays until the new one is whole; or where it did not end well (what it wrote stays,
for it to go on from).
Does not belong here: what is missing in what it wrote (`source_trees`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError, command_for
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.outputs import Options, checkpoint_name, files_below, holds, named_files, verified
from thesis_assets.evaluation.views import MEASURED, RENDERS, source_renders
from thesis_assets.experiments.command_template import fill_template, in_environment, placeholders
from thesis_assets.launch.child_environment import hydra_run_folder
from thesis_assets.launch.commands import end_running, run_command
from thesis_assets.launch.jobs import log_tail
from thesis_assets.launch.supervisors import watched
from thesis_assets.launch.telling import every, tell
from thesis_assets.layout import CONVERTED_RECORD, EvaluationTree, epoch_name
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Contents,
    Making,
    Older,
    Place,
    Unit,
    Verdict,
    Wanted,
    begin,
    is_asked_anew,
)
from thesis_assets.schemas.evaluation import PipelineRecord
from thesis_assets.schemas.tuning import ConvertedModel, JobRecord, SelectedCheckpoint
from thesis_assets.tuning.checkpoints import handed_off

_REPORT_SECONDS = 10.0


class PipelineFailed(ThesisAssetsError):
    """The user's pipeline ended with an error, or without what is to be evaluated."""


@dataclass(frozen=True)
class HandedCheckpoint:
    """What a pipeline is given.

    Attributes:
        path: of the selected checkpoint; empty for a run of the backend `pretrained`, whose weights are the pipeline's base model.
        model_dir: the diffusers directory that the checkpoint was converted to, or what a `pretrained` run names; empty where
            the command does not take it.
    """

    path: str
    model_dir: str
    sha256: str | None
    step: int | None


def handed_checkpoint(cell: EvaluationCell) -> HandedCheckpoint:
    """The selected checkpoint of the cell's run.

    Raises:
        InvalidFile: it has not been selected yet, or it is gone.
    """
    if cell.run.backend == "pretrained":
        return HandedCheckpoint("", cell.run.model or "", None, None)
    if not cell.tuning_run.selected_checkpoint.is_file():
        raise InvalidFile(
            "no checkpoint of the run has been selected, so there is none to give to the pipeline",
            file=cell.tuning_run.selected_checkpoint,
            remedy=f"`{command_for('selected_checkpoint', cell.exp_name, cell.run_name)}` chooses one",
        )
    selected = storage.read_json(cell.tuning_run.selected_checkpoint, SelectedCheckpoint)
    path = handed_off(cell.tuning_run, selected.step).checkpoint(selected.step)
    if not path.is_file():
        raise InvalidFile("the selected checkpoint is gone", file=path, remedy="restore it, or train the run again")
    model_dir = str(cell.tuning_run.converted(selected.step).absolute()) if _takes_a_directory(cell) else ""
    return HandedCheckpoint(str(path.absolute()), model_dir, selected.sha256, selected.step)


def _takes_a_directory(cell: EvaluationCell) -> bool:
    template = cell.experiment.evaluation.predictions.command
    return template is not None and "model_dir" in placeholders(template)


def prepare_model_dir(cell: EvaluationCell) -> None:
    """Make the diffusers directory that the command takes, where it is not there, or is another checkpoint's. Once for all scenes.

    Raises:
        InvalidFile: no checkpoint is selected, or it is not of a backend that has such a directory.
    """
    handed = handed_checkpoint(cell)
    if handed.step is None or not _takes_a_directory(cell):
        return
    from thesis_assets.tuning.difix.checkpoint import to_directory

    out = cell.tuning_run.converted(handed.step)
    record = out / CONVERTED_RECORD
    if record.is_file() and storage.read_json(record, ConvertedModel).checkpoint_sha256 == handed.sha256:
        return
    to_directory(Path(handed.path), out)


def run_pipeline(cell: EvaluationCell) -> None:
    """Run the command where its tree is not there already, whole and current.

    Raises:
        PipelineFailed: it ended with an error (the message has the end of its stderr), or lacks an epoch.
        CellLocked: another process runs it for this scene.
        InvalidFile: what it wrote is lost or damaged, and nobody asked for it anew.
    """
    pipeline = cell.tree.pipeline
    with storage.cell_lock(pipeline.lock, f"the pipeline of {cell.scene.name}"):
        contents, unit, record = Contents(), pipeline_unit(cell), _read_record(cell)
        verdict = verified(unit, contents)
        if record is not None and verdict.is_made and not _lacking(cell, pipeline.output_dir):
            return
        _refuse_lost(cell, unit, verdict)
        checkpoint = handed_checkpoint(cell)
        if record is not None and not record.finished and pipeline.job.is_file():
            end_running(storage.read_json(pipeline.job, JobRecord))
        making = begin(unit, contents)
        ended = record is not None and record.finished and not _lacking(cell, pipeline.output_dir)
        if ended and verdict.record is None and record is not None and record.identity == making.identity:
            tell(f"{cell.scene.name}: the pipeline's output is given the record again that it lost")
            making.finish(files_below(pipeline.output_dir))
            return
        stays = verdict.record is not None or ended or pipeline.next_output_dir.exists()
        out = pipeline.next_output_dir if stays and pipeline.output_dir.exists() else pipeline.output_dir
        if record is None or record.finished or record.identity != making.identity:
            _remove(out)  # another command's, or of one that ended: it must not be taken for this one's
        _run(cell, checkpoint, making, out)


def _refuse_lost(cell: EvaluationCell, unit: Unit, verdict: Verdict) -> None:
    lost = [*verdict.damaged, *verdict.missing]
    if verdict.record is not None and lost and not verdict.is_stale and not is_asked_anew(unit.place):
        again = f"{command_for('predictions', cell.exp_name, cell.run_name)} --force predictions"
        raise InvalidFile(
            "what the pipeline's command wrote is not whole any more",
            file=unit.place.base / lost[0],
            found=verdict.in_words,
            remedy=f"restore it from a copy; or `{again}` runs the command again",
        )


def pipeline_unit(cell: EvaluationCell) -> Unit:
    """What the command wrote for a scene: everything that shapes it, as far as the platform sees it; not where that lies."""
    pipeline = cell.tree.pipeline
    wanted = Wanted(
        step="pipeline",
        code_version=CODE_VERSIONS["pipeline"],
        options=of_pipeline(cell, {}),
        files=pipeline_files(cell),
        made=handed_version(cell),
        of_outputs=True,
    )

    def older() -> Older | None:
        record = _read_record(cell)
        finished = record is not None and record.finished and holds(pipeline.record, "command_digest")
        same = record is not None and set(wanted.made.values()) <= {record.checkpoint_sha256}
        return Older(files_below(pipeline.output_dir)) if finished and same else None

    return Unit(f"pipeline of {cell.scene.name}", pipeline_place(cell), wanted, older)


def pipeline_place(cell: EvaluationCell) -> Place:
    """Where the command's output and its record lie."""
    return Place(cell.tree.pipeline.base, cell.tree.pipeline.made_from)


def of_pipeline(cell: EvaluationCell, options: Options) -> Options:
    """The options, with what the command is, where it works, and what it is told of the run."""
    predictions = cell.experiment.evaluation.predictions
    command = predictions.model_dump(mode="json", include={"source", "command", "python", "setup", "cwd", "env"})
    told = placeholders(predictions.command) if predictions.command is not None else set()
    names = {key: value for key, value in (("exp_name", cell.exp_name), ("run_name", cell.run_name)) if key in told}
    return {
        **options,
        "evaluation": {**options.get("evaluation", {}), "predictions": command},
        "run": {"backend": cell.run.backend, "model": cell.run.model},
        **names,
    }


def pipeline_files(cell: EvaluationCell) -> Mapping[str, Path | str]:
    """Every file of the scene in both roots: which of them the command reads is not known."""
    tree = cell.scene.tree
    return named_files(cell, files_below(tree.ground_truth.base, tree.estimated.base))


def handed_version(cell: EvaluationCell) -> dict[str, str]:
    """The checkpoint that the command is given; empty where it is given none, or none is selected."""
    try:
        handed = handed_checkpoint(cell)
    except InvalidFile:  # not selected, or gone: only running the command needs it, and says so
        return {}
    return {} if handed.step is None or handed.sha256 is None else {checkpoint_name(handed.step): handed.sha256}


def _read_record(cell: EvaluationCell) -> PipelineRecord | None:
    try:
        return storage.read_json(cell.tree.pipeline.record, PipelineRecord)
    except InvalidFile:  # it never ran, or an older version ran it
        return None


def _remove(output: Path) -> None:
    if output.exists():
        aside = storage.temporary_sibling(output)
        output.replace(aside)
        shutil.rmtree(aside)


def _run(cell: EvaluationCell, checkpoint: HandedCheckpoint, making: Making, out: Path) -> None:
    predictions, pipeline = cell.experiment.evaluation.predictions, cell.tree.pipeline
    assert predictions.command is not None, "the source `command` has a command"
    filled = fill_template(
        predictions.command,
        {
            "scene_name": cell.scene.name,
            "exp_name": cell.exp_name,
            "run_name": cell.run_name,
            "model_dir": checkpoint.model_dir,
            "checkpoint": checkpoint.path,
            "output_dir": str(out.absolute()),
            "hydra_run_dir": str(
                hydra_run_folder(pipeline, predictions.env, cell.exp_name, cell.run_name, cell.scene.name)
            ),
        },
    )
    words = in_environment(filled, predictions)
    record = PipelineRecord(
        identity=making.identity,
        command=words,
        checkpoint_sha256=checkpoint.sha256,
        step=checkpoint.step,
        finished=False,
    )
    # Before its first file: what a killed command left is known as its own.
    storage.write_json(pipeline.record, record)
    out.mkdir(parents=True, exist_ok=True)
    stderr_start = pipeline.stderr.stat().st_size if pipeline.stderr.is_file() else 0
    returncode = run_command(
        watched(words),
        stdout=pipeline.stdout,
        stderr=pipeline.stderr,
        job=pipeline.job,
        cwd=Path(predictions.cwd).expanduser() if predictions.cwd is not None else None,
        env=predictions.env,
        poll=_reporter(cell, out),
    )
    if returncode != 0:
        raise _failure(cell, returncode, stderr_start)
    if lacking := _lacking(cell, out):
        raise _without_renders(cell, lacking, out)
    if out != pipeline.output_dir:
        pipeline.made_from.unlink(missing_ok=True)  # of what is replaced now
        storage.publish_directory(out, pipeline.output_dir)
    storage.write_json(pipeline.record, record.model_copy(update={"finished": True}))
    making.finish(files_below(pipeline.output_dir))


def _lacking(cell: EvaluationCell, out: Path) -> list[str]:
    """The epochs that the experiment names and the pipeline left without a render, where novel views are evaluated."""
    if "nvs" not in cell.tasks:
        return []
    tree = EvaluationTree(out, cell.exp_name)
    return [epoch_name(epoch) for epoch in cell.epoch_steps() if not source_renders(tree.task(epoch, "nvs"))]


def _failure(cell: EvaluationCell, returncode: int, stderr_start: int) -> PipelineFailed:
    how = f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"
    tail = log_tail(cell.tree.pipeline.stderr, start=stderr_start)
    return PipelineFailed(
        f"the pipeline of {cell.scene.name} ended {how}",
        file=cell.tree.pipeline.stderr,
        found="\n" + tail if tail else "nothing on its stderr",
        remedy="correct its cause, then start again: the other scenes are kept, and the command finds what it had written",
    )


def _without_renders(cell: EvaluationCell, lacking: list[str], out: Path) -> PipelineFailed:
    tree = EvaluationTree(out, cell.exp_name)
    there = sorted(path.name for path in tree.evaluation_dir.glob("*")) if tree.evaluation_dir.is_dir() else []
    return PipelineFailed(
        f"the pipeline of {cell.scene.name} ended well, and left no render of {', '.join(lacking)}",
        file=tree.epoch_dir(next(iter(cell.epoch_steps()))),
        found=f"evaluation/ with {', '.join(there)}" if there else "no evaluation/",
        wanted=f"{cell.exp_name}/evaluation/<epoch_XXXX>/{RENDERS} (or {MEASURED}) below {{output_dir}}",
        remedy="let the command write there, or name its own epochs in `evaluation.epochs`",
    )


def _reporter(cell: EvaluationCell, out: Path) -> Callable[[], None]:
    """Tells every few seconds how long the command runs, and how many epochs have renders."""
    n_epochs = len(cell.epoch_steps())

    def line(seconds: float) -> str:
        done = n_epochs - len(_lacking(cell, out))
        return f"{cell.scene.name}: the pipeline runs for {seconds:.0f} s, {done} of {n_epochs} epochs have renders"

    return every(_REPORT_SECONDS, tell, line)
