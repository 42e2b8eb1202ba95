"""The recording of one evaluation epoch: predictions beside ground truth, metric curves, pose meshes, the protocol.

Reads only the evaluation tree. Does not belong here: how a track is written, the layout of views, any metric's formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.evaluation.qualitative import tree_files
from thesis_assets.evaluation.qualitative.identity import identity_of
from thesis_assets.evaluation.qualitative.input_data import first_camera_files, up_axis
from thesis_assets.evaluation.qualitative.made_from import (
    begin_recording,
    finish_recording,
    inputs_of,
    options_of,
    place_of,
    recording_facts,
    recording_unit,
    remove_recording,
)
from thesis_assets.evaluation.qualitative.task_tracks import nvs_tracks, pose_tracks
from thesis_assets.evaluation.qualitative.tracks import Absences, ExportOptions, Track, WorldUp
from thesis_assets.evaluation.qualitative.viewpoints import with_image_planes
from thesis_assets.layout import TASKS, EvaluationTree, epoch_name, parse_epoch
from thesis_assets.provenance import Unit
from thesis_assets.schemas.recordings import RecordingFacts


def export_evaluation(
    tree: EvaluationTree,
    epoch: int,
    *,
    tasks: Sequence[str] = TASKS,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
    split_bytes: int = 0,
    force: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> RecordingFacts:
    """Write `rerun/evaluation_epoch_XXXX.rrd` unless it is current. What the tree lacks is named in the result's `absent`.

    Args:
        tasks: those to record; one that the tree does not have is noted.
        run_name, scene_name: for the recording's identity; without them the tree's own manifest says.
        options: None: those that the recording was made by, or the defaults.
        split_bytes: above this size each task also gets a file of its own, `<task>_epoch_XXXX.rrd`; 0 = never.
        force: write it also where its inputs did not change.

    Raises:
        InvalidFile: no task of this epoch is on disk, or the file could not be written.
    """
    job = _Export(tree, epoch, run_name, scene_name, options, force, on_progress)
    facts = job.write(tree.evaluation_recording(epoch), tuple(tasks), "evaluation")
    apart = bool(split_bytes) and facts.bytes > split_bytes
    for name in TASKS:
        path = tree.task_recording(epoch, name)
        if apart and name in tasks and tree.task(epoch, name).base.is_dir():
            job.write(path, (name,), name)
        else:  # of a time when the epoch was larger, or the limit lower
            remove_recording(path)
    return facts


def evaluation_recording_unit(
    tree: EvaluationTree,
    epoch: int,
    *,
    tasks: Sequence[str] = TASKS,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
    kind: str = "evaluation",
) -> Unit:
    """A recording of an epoch, made from every task folder but `viz/`, and the cameras that say where up is.

    Args:
        kind: `evaluation`, or the task whose own recording it is; the others are those of `export_evaluation`.
    """
    path = tree.evaluation_recording(epoch) if kind == "evaluation" else tree.task_recording(epoch, kind)
    identity = identity_of(tree, kind, epoch=epoch, run_name=run_name, scene_name=scene_name)
    inputs = inputs_of(path, tree.base)
    inputs.add_files(first_camera_files(tree))
    for task in (tree.task(epoch, name) for name in tasks):
        folders = [task.inputs_dir, task.pred_dir, task.gt_inputs_dir, task.metrics_dir]
        if task.task == "nvs":
            inputs.add_part(tree.relative(task.inputs_dir), task.predictions_made_from, [folders.pop(0)])
        inputs.add_part(tree.relative(task.base), task.made_from, folders)
    return recording_unit(path, identity, options, inputs, tasks=list(tasks))


def epoch_recording_units(
    tree: EvaluationTree,
    epoch: int,
    *,
    tasks: Sequence[str] = TASKS,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
) -> dict[Path, Unit]:
    """By its file: the recording of an epoch, and those of single tasks where it was split into them."""

    def unit(kind: str, of_tasks: Sequence[str]) -> Unit:
        return evaluation_recording_unit(
            tree, epoch, tasks=of_tasks, run_name=run_name, scene_name=scene_name, options=options, kind=kind
        )

    whole = {tree.evaluation_recording(epoch): unit("evaluation", tasks)}
    return whole | {path: unit(task, (task,)) for task, path in task_recordings(tree, epoch).items()}


def task_recordings(tree: EvaluationTree, epoch: int) -> dict[str, Path]:
    """The recordings of single tasks that an epoch was split into; none where it was not."""
    paths = {task: tree.task_recording(epoch, task) for task in TASKS}
    return {task: path for task, path in paths.items() if path.is_file() or place_of(path).record.is_file()}


@dataclass(frozen=True)
class _Export:
    """What the files of one epoch have in common."""

    tree: EvaluationTree
    epoch: int
    run_name: str | None
    scene_name: str | None
    options: ExportOptions | None
    force: bool
    on_progress: Callable[[str], None] | None

    def write(self, path: Path, tasks: tuple[str, ...], kind: str) -> RecordingFacts:
        """Write one recording of some tasks, unless it is current."""
        from thesis_assets.evaluation.qualitative.blueprints import evaluation_blueprint
        from thesis_assets.evaluation.qualitative.track_writers import write_recording

        tree, epoch = self.tree, self.epoch
        names = {"run_name": self.run_name, "scene_name": self.scene_name}
        unit = evaluation_recording_unit(tree, epoch, tasks=tasks, options=self.options, kind=kind, **names)
        making = begin_recording(unit, force=self.force)
        if making is None:
            return recording_facts(path)
        absences = Absences(tree.base)
        tracks = evaluation_tracks(tree, epoch, tasks, absences)
        if not tracks:
            raise InvalidFile(
                "the tree has nothing to record at this epoch",
                file=tree.epoch_dir(epoch),
                found=", ".join(epoch_name(number) for number in evaluated_epochs(tree)) or "no epoch at all",
                wanted=f"one of {', '.join(tasks)}",
                remedy="evaluate this epoch first, or name another",
            )
        write_recording(
            path,
            identity_of(tree, kind, epoch=epoch, **names),
            tracks,
            evaluation_blueprint(epoch, tracks, first_camera_files(tree)),
            options_of(unit),
            absences,
            tasks=tasks,
            on_progress=self.on_progress,
        )
        return finish_recording(making, path, absences.lines)


def evaluated_epochs(tree: EvaluationTree) -> list[int]:
    """The epochs that have a folder, ascending."""
    epochs = []
    for folder in tree_files.subfolders(tree.evaluation_dir):
        try:
            epochs.append(parse_epoch(folder.name))
        except InvalidKey:  # somebody's own folder beside the epochs
            continue
    return sorted(epochs)


def evaluation_tracks(tree: EvaluationTree, epoch: int, tasks: Sequence[str], absences: Absences) -> list[Track]:
    """Everything of an epoch that can be looked at, as tracks; tasks and parts that are not there are noted."""
    tracks: list[Track] = []
    for name in TASKS:
        if name not in tasks:
            continue
        task = tree.task(epoch, name)
        root = f"/evaluation/{epoch_name(epoch)}/{name}"
        found = nvs_tracks(task, root, epoch, absences) if name == "nvs" else pose_tracks(task, root, epoch, absences)
        if not found:
            absences.not_there(task.base, "the task was not evaluated at this epoch")
        elif axis := up_axis(first_camera_files(tree)):
            found.insert(0, WorldUp(root, axis))
        tracks += with_image_planes(found)
    return tracks
