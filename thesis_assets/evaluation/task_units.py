"""The numbers of one task of one (scene, epoch) as a unit, with the images and meshes that they were computed from.

Does not belong here: measuring (`nvs`, `pose`), or taking numbers over (`taken_numbers`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.nvs_metrics import lpips_tool
from thesis_assets.evaluation.nvs_tables import NVS_VERSION
from thesis_assets.evaluation.pose_inputs import body_model, estimated_cameras
from thesis_assets.evaluation.prediction_records import predicted_views
from thesis_assets.evaluation.prediction_units import prediction_place
from thesis_assets.evaluation.protocols import read_protocol
from thesis_assets.evaluation.source_trees import links_numbers, source_bodies, source_tree
from thesis_assets.evaluation.staging import files_below
from thesis_assets.evaluation.task_faults import IMPORTED, missing_sources, task_faults
from thesis_assets.evaluation.unit_parts import (
    Options,
    at_step,
    below,
    by_name,
    choosing_files,
    holds,
    kept,
    known_versions,
    picked,
    recorded,
    with_step,
    without_step,
)
from thesis_assets.evaluation.views import pose_frames
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.provenance import MadeFrom, Older, Place, Unit, Wanted

POSE_VERSION = "1"
"""Raised where a change of code changes a number or a mesh."""
TAKEN_VERSION = "1"
PREDICTED = ("evaluation.predictions.source", "evaluation.predictions.recompute", "evaluation.frames")
MEASURED_NVS = ("evaluation.nvs", *PREDICTED)
MEASURED_POSE = (
    "evaluation.pose",
    *PREDICTED,
    "generation.source_camera",
    "generation.frames.apply_skip_frames",
)
NVS_FOLDERS = ("pred", "gt_inputs", "viz")
POSE_FOLDERS = ("inputs", *NVS_FOLDERS)


def task_unit(cell: EvaluationCell, epoch: int, task: str) -> Unit:
    """The numbers of a task at an epoch. The scene, its predictions and the tools may be gone.

    Args:
        task: `nvs`, `pose_smplx` or `pose_smpl`.
    """
    tree = cell.tree.task(epoch, task)
    place = Place(tree.base, tree.made_from)
    record = recorded(place)
    as_kept = kept(cell, record)
    made = known_versions(record, {"predictions": prediction_place(cell, epoch)}) if task == "nvs" else {}
    if links_numbers(cell):
        wanted = _taken(cell, epoch, tree)
    elif task == "nvs":
        options, given = picked(cell, as_kept, MEASURED_NVS)
        files = by_name(cell, _true_views(cell, tree))
        wanted = Wanted(task, NVS_VERSION, options, given, tools=lpips_tool(cell.lpips_weights), files=files)
    else:
        wanted = _pose(cell, as_kept, epoch, tree, record)
    name = f"{task} of {cell.scene.name}, {epoch_name(epoch)}"
    return Unit(name, place, replace(wanted, made=made), lambda: _older(cell, epoch, tree, wanted))


def outputs_of(task: TaskTree) -> list[Path]:
    """Every file that the record of a task names. Those of `nvs/inputs/` are of the predictions' own record."""
    folders = NVS_FOLDERS if task.task == "nvs" else POSE_FOLDERS
    return files_below(*(task.base / name for name in folders), task.metrics_dir)


def of_all_epochs(record: MadeFrom) -> tuple[object, ...]:
    """What numbers were made from, but for which epoch they are of: bodies that no epoch moves are measured once."""
    return record.step, record.code_version, without_step(record.options), record.tools, record.inputs


def body_model_tools(folder: Path | None, names: Iterable[str]) -> dict[str, str]:
    """Digests of the body models' files, as tools of a record; those that are not here are left out.

    Args:
        names: relative to the folder.
    """
    paths = {name: folder / name for name in names} if folder is not None else {}
    return {
        f"body_models/{name}": _digest(path, path.stat().st_mtime_ns) for name, path in paths.items() if path.is_file()
    }


@functools.lru_cache(maxsize=16)
def _digest(path: Path, stamp: int) -> str:
    del stamp  # part of the key: a replaced file is read again
    return storage.sha256_file(path)


def _taken(cell: EvaluationCell, epoch: int, task: TaskTree) -> Wanted:
    """Numbers that are linked from a tree that was there."""
    options, given = picked(cell, cell, PREDICTED[:2])
    tree = source_tree(cell)
    files: dict[str, Path] = {}
    if tree is not None:
        source = tree.task(epoch, task.task)
        files = below("tree", tree.base, [tree.manifest, *outputs_of(source)])
    return Wanted(task.task, TAKEN_VERSION, options, given, files=files)


def _true_views(cell: EvaluationCell, task: TaskTree) -> Iterator[Path | None]:
    for view in predicted_views(task):
        yield cell.scene.image_path(view.cam_id, view.fname)
        yield cell.scene.mask_path(view.cam_id, view.fname)


def _pose(cell: EvaluationCell, as_kept: EvaluationCell, epoch: int, task: TaskTree, record: MadeFrom | None) -> Wanted:
    options, given = picked(cell, as_kept, MEASURED_POSE)
    tree, of_tree = source_tree(cell), source_bodies(cell, epoch, task.task)
    # A tree that is gone since still is where the bodies came from.
    taken = bool(of_tree) or (record is not None and any(name.startswith("tree/") for name in record.inputs))
    files = by_name(cell, _bodies(as_kept, task.task, estimates=not taken))
    if tree is not None:
        files |= below("tree", tree.base, of_tree.values())
    used = [name.removeprefix("body_models/") for name in record.tools] if record is not None else []
    return Wanted(
        task.task,
        POSE_VERSION,
        with_step(cell, epoch, options),
        with_step(cell, epoch, given),
        tools=body_model_tools(cell.body_models, used),
        files=files,
    )


def _bodies(cell: EvaluationCell, task_name: str, *, estimates: bool) -> Iterator[Path | None]:
    """Bodies of both roots at the chosen frames, the source camera's calibrations and images, and who is who."""
    scene, model = cell.scene, body_model(task_name)
    yield from {scene.tree.registry_entry, *choosing_files(cell)}
    yield scene.tree.ground_truth.meta if model == "smpl" else None
    try:
        source = cell.source_camera()
    except ThesisAssetsError:  # the scene is gone, or lacks its camera: measuring says so
        return
    frames = pose_frames(cell, model)
    yield from estimated_cameras(cell, frames).values()
    for fname in frames:
        yield scene.body_path(model, fname)
        yield scene.body_path(model, fname, estimated=True) if estimates else None
        yield scene.camera_files(source).paths.get(fname)
        yield scene.image_path(source, fname)


def _older(cell: EvaluationCell, epoch: int, task: TaskTree, wanted: Wanted) -> Older | None:
    """Whole numbers of a version that wrote no records, with the options that their protocol tells."""
    if not holds(task.protocol, "input_digest"):
        return None
    protocol = read_protocol(task)
    if protocol is None or task_faults(task) or next(missing_sources(task), None) is not None:
        return None
    options, tools = wanted.options, wanted.tools
    if IMPORTED not in protocol.details and not links_numbers(cell):
        said = {**protocol.comparable, **protocol.details}
        options = _as_said(wanted.options, task.task, said)
        if "epochs" in options["evaluation"]:
            options = at_step(options, epoch, protocol.step)
        if task.task == "nvs":
            weights = str(said.get("lpips", "")).rpartition("weights ")[2]
            tools = {"lpips": weights} if weights else {}
        elif isinstance(said.get("body_models"), list):
            tools = body_model_tools(
                cell.body_models, [f"{body_model(task.task)}/{name}" for name in said["body_models"]]
            )
    return Older(outputs_of(task), options=options, tools=tools)


def _as_said(options: Mapping[str, Any], task: str, said: Mapping[str, Any]) -> Options:
    """The options, each with the value that a protocol tells where it tells one."""
    evaluation: dict[str, Any] = dict(options["evaluation"])
    part = "nvs" if task == "nvs" else "pose"
    evaluation[part] = {key: said.get(key, value) for key, value in evaluation[part].items()}
    evaluation["frames"] = said.get("frame_choice", evaluation["frames"])
    return {**options, "evaluation": evaluation}
