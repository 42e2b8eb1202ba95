"""The tree that others wrote and predictions are taken from: the pipeline's own, or one that was there; by the output document.

Reads such a tree, and says what is missing in it. Does not belong here: running the pipeline (`pipeline_command`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.prediction_records import predicted_views
from thesis_assets.evaluation.views import View, chosen_frames
from thesis_assets.experiments.command_template import fill_text
from thesis_assets.layout import EvaluationTree, TaskTree, epoch_name, parse_epoch
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets.schemas.tuning import SelectedCheckpoint

RENDERS = "nvs/inputs/cam_<id>/render/<frame>.png"


def source_tree(cell: EvaluationCell) -> EvaluationTree | None:
    """Where the predictions of `command` and `existing` lie; None for `refine`.

    Raises:
        InvalidFile: `predictions.tree` names no folder that a tree may have.
    """
    predictions = cell.experiment.evaluation.predictions
    if predictions.source == "command":
        return EvaluationTree(cell.tree.pipeline.output_dir, cell.exp_name)
    if predictions.tree is None:
        return None
    keys = {"scene_name": cell.scene.name, "exp_name": cell.exp_name, "run_name": cell.run_name}
    folder = Path(fill_text(predictions.tree, keys)).expanduser().absolute()
    try:
        return EvaluationTree(folder.parent, folder.name)
    except InvalidKey as error:
        raise InvalidFile(
            "the tree's folder has a name that no experiment may have",
            file=folder,
            key="evaluation.predictions.tree",
            wanted=error.wanted,
            remedy="rename the folder, or name it by a link",
        ) from error


def links_numbers(cell: EvaluationCell) -> bool:
    """Whether the numbers of the tree are taken over as they are: `existing`, and nothing is asked to be measured again."""
    predictions = cell.experiment.evaluation.predictions
    return predictions.source == "existing" and not predictions.recompute


def taken_steps(cell: EvaluationCell, epochs: Sequence[int]) -> dict[int, int | None]:
    """The checkpoint step that each epoch of a source tree was made with: the selected one, or what the tree's manifest says."""
    if cell.experiment.evaluation.predictions.source == "command":
        return dict.fromkeys(epochs, _selected_step(cell))
    tree = source_tree(cell)
    try:
        notes = storage.read_json(tree.manifest, EvaluationManifest).notes if tree else {}
    except InvalidFile:  # an older tree, or one whose manifest says less than ours
        notes = {}
    steps = notes.get("epoch_steps")
    known = steps if isinstance(steps, dict) else {}
    found = {epoch: known.get(epoch_name(epoch)) for epoch in epochs}
    return {epoch: step if isinstance(step, int) else None for epoch, step in found.items()}


def _selected_step(cell: EvaluationCell) -> int | None:
    if cell.run.backend == "pretrained":
        return None
    try:
        return storage.read_json(cell.tuning_run.selected_checkpoint, SelectedCheckpoint).step
    except InvalidFile:  # not selected yet: the command says so when it is to run
        return None


def why_not_taken(cell: EvaluationCell, task_name: str) -> str | None:
    """Why an existing tree lacks a task altogether; None where any of the epochs has it."""
    tree = source_tree(cell)
    if tree is None or any(tree.task(epoch, task_name).base.is_dir() for epoch in cell.epoch_steps()):
        return None
    if task_name != "nvs" and not links_numbers(cell):
        return None  # Measured here, on the estimates of the preprocessing root.
    return f"the tree {tree.base} has no evaluation/<epoch>/{task_name} of the named epochs"


def source_epoch(cell: EvaluationCell, tree: EvaluationTree, epoch: int) -> Path:
    """The folder of an epoch in the source tree.

    Raises:
        InvalidFile: it is not there; the message has the epochs that are.
    """
    folder = tree.epoch_dir(epoch)
    if not folder.is_dir():
        found = [name for name in _names(tree.evaluation_dir) if _is_epoch(name)]
        raise InvalidFile(
            f"the tree of `{cell.scene.name}` lacks an epoch that the experiment names",
            file=folder,
            key="evaluation.epochs",
            found=", ".join(found) or "no evaluation/epoch_XXXX",
            wanted=f"{epoch_name(epoch)}/{RENDERS}",
            remedy="name the epochs that are there (`evaluation.epochs`), or let the pipeline write this one",
        )
    return folder


def source_views(cell: EvaluationCell, source: TaskTree) -> tuple[list[View], dict[str, str]]:
    """The renders of a source tree's task that are evaluated, the source camera's too; and those left out, with the reason.

    Cameras are those of `evaluation.cameras` where it names any; frames are chosen by `evaluation.frames`, after the skip frames.
    """
    found = predicted_views(source)
    named = set(cell.experiment.evaluation.cameras)
    skipped = cell.scene.skip_frames() if cell.applies_skip_frames else set()
    frames = sorted({view.fname for view in found if int(view.fname) not in skipped}, key=int)
    chosen = set(chosen_frames(cell, frames))
    kept: list[View] = []
    left_out: dict[str, str] = {}
    for view in found:
        if (named and view.cam_id not in named) or view.fname not in chosen:
            continue
        reason = _lacks(cell, source, view)
        if reason is None:
            kept.append(view)
        else:
            left_out[str(view)] = reason
    return kept, left_out


def source_mask(cell: EvaluationCell, source: TaskTree, view: View) -> Path | None:
    """The mask of a view: the scene's union mask, else what the tree has."""
    key = (view.cam_id, view.fname)
    own = source.input_mask(*key)
    return cell.scene.mask_path(*key) or (own if own.is_file() else None)


def source_camera_file(cell: EvaluationCell, source: TaskTree, view: View) -> Path | None:
    """The calibration of a view: the scene's, else what the tree has."""
    key = (view.cam_id, view.fname)
    own = source.input_camera(*key)
    return cell.scene.camera_files(view.cam_id).paths.get(view.fname) or (own if own.is_file() else None)


def source_bodies(cell: EvaluationCell, epoch: int, task_name: str) -> dict[str, Path]:
    """The predicted bodies of a pose task at an epoch, by frame, where a source tree has them; else empty."""
    tree = source_tree(cell)
    if tree is None:
        return {}
    folder = tree.task(epoch, task_name).inputs_dir / tree.task(epoch, task_name).body_model
    names = [path for path in sorted(folder.glob("*.npz")) if path.stem.isdigit()] if folder.is_dir() else []
    return {path.stem: path for path in sorted(names, key=lambda path: int(path.stem)) if path.stat().st_size}


def _lacks(cell: EvaluationCell, source: TaskTree, view: View) -> str | None:
    if cell.scene.image_path(view.cam_id, view.fname) is None:
        return "there is no ground-truth image"
    if source.input_render(view.cam_id, view.fname).stat().st_size == 0:
        return "the render is an empty file"
    return None


def _names(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        yield from sorted(path.name for path in folder.iterdir())


def _is_epoch(name: str) -> bool:
    try:
        parse_epoch(name)
    except InvalidKey:
        return False
    return True
