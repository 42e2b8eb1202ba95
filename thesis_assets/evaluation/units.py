"""The predictions and the numbers of one (scene, epoch) as units: what lies there, and what it would be made from now.

Does not belong here: making them (`refined_predictions`, `nvs`, `pose`, `source_trees`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell, links_numbers, source_tree
from thesis_assets.evaluation.metric_tables import IMPORTED, missing_sources, read_protocol, task_faults
from thesis_assets.evaluation.outputs import (
    CHOICE,
    Options,
    at_step,
    below,
    checkpoint_version,
    choosing_files,
    files_below,
    holds,
    kept,
    known_versions,
    named_files,
    picked,
    shard_version,
    with_step,
    without_step,
)
from thesis_assets.evaluation.pipeline_command import (
    handed_version,
    of_pipeline,
    pipeline_files,
    pipeline_place,
)
from thesis_assets.evaluation.pose_inputs import body_model, estimated_cameras, why_pose_is_absent
from thesis_assets.evaluation.views import (
    evaluated_views,
    pose_frames,
    predicted_views,
    read_predictions,
    source_bodies,
    source_camera_file,
    source_mask,
    source_renders,
    source_views,
    why_not_taken,
    why_nvs_is_absent,
)
from thesis_assets.images.lpips_files import lpips_tool
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.provenance import CODE_VERSIONS, MadeFrom, Older, Place, Unit, Wanted, recorded
from thesis_assets.rendering.gaussian_renderer import GSPLAT, rasteriser_on, revision_of
from thesis_assets.rendering.torch_rasteriser import TORCH_RASTERISER

REFINED = ("evaluation.predictions.source", *CHOICE, "generation.renders", "generation.filtering.apply_mask")
TAKEN = ("evaluation.predictions.source", "evaluation.predictions.recompute", *CHOICE)
PREDICTED = ("evaluation.predictions.source", "evaluation.predictions.recompute", "evaluation.frames")
MEASURED_NVS = ("evaluation.nvs", *PREDICTED)
BEFORE_NVS = {"evaluation.nvs.lpips": ["vgg"]}
MEASURED_POSE = ("evaluation.pose", *PREDICTED, "generation.source_camera", "generation.frames.apply_skip_frames")
NVS_FOLDERS = ("pred", "gt_inputs", "viz")
POSE_FOLDERS = ("inputs", *NVS_FOLDERS)


def prediction_place(cell: EvaluationCell, epoch: int) -> Place:
    """Where an epoch's predictions and their record lie."""
    task = cell.tree.task(epoch, "nvs")
    return Place(task.inputs_dir, task.predictions_made_from)


def prediction_unit(cell: EvaluationCell, epoch: int) -> Unit:
    """The predictions of an epoch. The scene, the checkpoint or the tree that they came from may be gone."""
    place = prediction_place(cell, epoch)
    record = recorded(place)
    as_kept = kept(cell, record)
    refined = cell.experiment.evaluation.predictions.source == "refine"
    wanted = _refined(cell, as_kept, epoch, record) if refined else _taken_predictions(cell, as_kept, epoch, record)
    name = f"predictions of {cell.scene.name}, {epoch_name(epoch)}"
    return Unit(name, place, wanted, lambda: _older_predictions(cell, epoch, wanted))


def _refined(cell: EvaluationCell, as_kept: EvaluationCell, epoch: int, record: MadeFrom | None) -> Wanted:
    options, given = (with_step(cell, epoch, each) for each in picked(cell, as_kept, REFINED))
    made = {**checkpoint_version(cell, epoch), **shard_version(cell, record)}
    if cell.experiment.generation.renders.source == "command":
        renders = Place(cell.scene.tree.renders_dir, cell.scene.tree.renders_made_from)
        made |= known_versions(record, {f"renders/{cell.scene.name}": renders})
    return Wanted(
        step="predictions",
        code_version=CODE_VERSIONS["predictions"],
        options=options,
        given=given,
        tools=_rasteriser(cell),
        files=named_files(cell, _refined_files(as_kept)),
        made=made,
    )


def _rasteriser(cell: EvaluationCell) -> dict[str, str]:
    """What draws the scene's Gaussians here, and its revision; nothing where renders are read."""
    if cell.experiment.generation.renders.source != "gaussians":
        return {}
    name = rasteriser_on(cell.device)
    revision = revision_of(name)
    return {} if revision is None else {name: revision}


def _refined_files(cell: EvaluationCell) -> Iterator[Path | None]:
    """What renders, references, masks and cameras of the evaluated views are read from, as far as it is there."""
    scene, generation = cell.scene, cell.experiment.generation
    yield from choosing_files(cell)
    try:
        source, views = cell.source_camera(), evaluated_views(cell).views
    except ThesisAssetsError:  # the scene is gone, or lacks what its predictions are made of: making them says so
        return
    for fname in dict.fromkeys(view.fname for view in views):
        yield scene.image_path(source, fname)
        yield scene.mask_path(source, fname) if generation.filtering.apply_mask else None
        yield scene.gaussians_path(fname) if generation.renders.source == "gaussians" else None
    for view in views:
        key = (view.cam_id, view.fname)
        yield scene.camera_files(view.cam_id).paths.get(view.fname)
        yield scene.mask_path(*key)
        yield scene.render_path(*key) if generation.renders.source == "precomputed" else None


def _taken_predictions(cell: EvaluationCell, as_kept: EvaluationCell, epoch: int, record: MadeFrom | None) -> Wanted:
    options, given = picked(cell, as_kept, TAKEN)
    files: dict[str, Path | str] = {**named_files(cell, choosing_files(cell)), **_taken_files(as_kept, epoch)}
    made: dict[str, str] = {}
    if cell.experiment.evaluation.predictions.source == "command":
        options, given = of_pipeline(cell, options), of_pipeline(cell, given)
        files |= pipeline_files(cell)
        made = {**handed_version(cell), **known_versions(record, {"pipeline": pipeline_place(cell)})}
    return Wanted("predictions", CODE_VERSIONS["taken"], options, given, files=files, made=made, of_outputs=True)


def _taken_files(cell: EvaluationCell, epoch: int) -> Mapping[str, Path | str]:
    """What is linked from the tree, and from the scene beside it; nothing where the tree is gone."""
    tree = source_tree(cell)
    if tree is None:
        return {}
    source = tree.task(epoch, "nvs")
    if links_numbers(cell):
        return below("tree", tree.base, [tree.manifest, *files_below(source.inputs_dir)])
    paths: list[Path | None] = [tree.manifest]
    renders = source_renders(source)
    for view in source_views(cell, source).views:
        paths += (
            renders[view],
            source_mask(cell, source, view),
            source_camera_file(cell, source, view),
        )
    of_tree = [path for path in paths if path is not None and path.is_relative_to(tree.base)]
    beside = [path for path in paths if path is not None and not path.is_relative_to(tree.base)]
    return {**below("tree", tree.base, of_tree), **named_files(cell, beside)}


def _older_predictions(cell: EvaluationCell, epoch: int, wanted: Wanted) -> Older | None:
    """Whole predictions of a version that wrote no records, of the checkpoint that would make them now."""
    task = cell.tree.task(epoch, "nvs")
    if not holds(task.prediction_record, "input_digest"):
        return None
    try:
        record = read_predictions(task)
    except InvalidFile:
        return None
    checkpoints = [sha256 for name, sha256 in wanted.made.items() if name.startswith("tuned_checkpoint/")]
    other_checkpoint = bool(checkpoints) and checkpoints != [record.checkpoint_sha256]
    if record.epoch != epoch or other_checkpoint or len(predicted_views(task)) != record.n_images:
        return None
    # Of a render that came from the samples their record tells who drew it.
    words = [] if "samples" in record.renderer else record.renderer.split(", ")
    tools = {name: version for name, version in map(_tool, words) if version}
    options = _options_then(cell, epoch, record.step, wanted)
    return Older(files_below(task.inputs_dir), options=options, tools=tools if words and wanted.tools else None)


def _options_then(cell: EvaluationCell, epoch: int, step: int | None, wanted: Wanted) -> Options:
    """Today's, but for what the files say: the step, and of a measured epoch the choice of frames."""
    options = dict(wanted.options)
    if "epochs" in options["evaluation"]:
        options = at_step(options, epoch, step)
    protocol = read_protocol(cell.tree.task(epoch, "nvs"))
    said = protocol.comparable.get("frame_choice") if protocol is not None else None
    return options if said is None else {**options, "evaluation": {**options["evaluation"], "frames": said}}


def _tool(word: str) -> tuple[str, str]:
    """`torch rasteriser 1` -> its name and revision; the version of a library is none."""
    name, _, version = word.rpartition(" ")
    return name, version if name in (TORCH_RASTERISER, GSPLAT) else ""


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
        wanted = _taken_numbers(cell, epoch, tree)
    elif task == "nvs":
        options, given = picked(cell, as_kept, MEASURED_NVS)
        files = named_files(cell, _true_views(cell, tree))
        tools = lpips_tool(cell.lpips_weights, as_kept.experiment.evaluation.nvs.lpips)
        wanted = Wanted(task, CODE_VERSIONS["nvs"], options, given, BEFORE_NVS, tools=tools, files=files)
    else:
        wanted = _pose(cell, as_kept, epoch, tree, record)
    name = f"{task} of {cell.scene.name}, {epoch_name(epoch)}"
    return Unit(name, place, replace(wanted, made=made), lambda: _older_numbers(cell, epoch, tree, wanted))


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


def _taken_numbers(cell: EvaluationCell, epoch: int, task: TaskTree) -> Wanted:
    """Numbers that are linked from a tree that was there."""
    options, given = picked(cell, cell, PREDICTED[:2])
    tree = source_tree(cell)
    files: dict[str, Path] = {}
    if tree is not None:
        source = tree.task(epoch, task.task)
        files = below("tree", tree.base, [tree.manifest, *outputs_of(source)])
    return Wanted(task.task, CODE_VERSIONS["taken"], options, given, files=files)


def _true_views(cell: EvaluationCell, task: TaskTree) -> Iterator[Path | None]:
    for view in predicted_views(task):
        yield cell.scene.image_path(view.cam_id, view.fname)
        yield cell.scene.mask_path(view.cam_id, view.fname)


def _pose(cell: EvaluationCell, as_kept: EvaluationCell, epoch: int, task: TaskTree, record: MadeFrom | None) -> Wanted:
    options, given = (with_step(cell, epoch, each) for each in picked(cell, as_kept, MEASURED_POSE))
    tree, of_tree = source_tree(cell), source_bodies(cell, epoch, task.task)
    # A tree that is gone since still is where the bodies came from.
    taken = bool(of_tree) or (record is not None and any(name.startswith("tree/") for name in record.inputs))
    files: Mapping[str, Path | str] = named_files(cell, _bodies(as_kept, task.task, estimates=not taken))
    if tree is not None:
        files = {**files, **below("tree", tree.base, of_tree.values())}
    used = [name.removeprefix("body_models/") for name in record.tools] if record is not None else []
    tools = body_model_tools(cell.body_models, used)
    return Wanted(task.task, CODE_VERSIONS["pose_smplx"], options, given, tools=tools, files=files)


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


def _older_numbers(cell: EvaluationCell, epoch: int, task: TaskTree, wanted: Wanted) -> Older | None:
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
            options["evaluation"]["nvs"]["lpips"] = BEFORE_NVS["evaluation.nvs.lpips"]
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


def absent_tasks(cell: EvaluationCell) -> dict[str, str]:
    """The enabled tasks that this scene cannot have, each with the reason; never silently skipped."""

    def reason_of(task: str) -> str | None:
        if cell.experiment.evaluation.predictions.source == "existing" and (why := why_not_taken(cell, task)):
            return why
        if links_numbers(cell):
            return None
        return why_nvs_is_absent(cell) if task == "nvs" else why_pose_is_absent(cell, task)

    reasons: dict[str, str] = {}
    for task in cell.tasks:
        try:
            reason = reason_of(task)
        except ThesisAssetsError:
            if not _is_made(cell, task):
                raise
            continue
        if reason is not None and not _is_made(cell, task):
            reasons[task] = reason
    return reasons


def enabled_tasks(cell: EvaluationCell) -> list[str]:
    """The tasks that the scene can have, or has; all enabled ones where that cannot be told."""
    try:
        absent = absent_tasks(cell)
    except ThesisAssetsError:  # the scene is gone, or lacks what it needs: making the output says so
        absent = {}
    return [task for task in cell.tasks if task not in absent]


def _is_made(cell: EvaluationCell, task: str) -> bool:
    """Whether the task lies there as wanted at every epoch: what it was made from may be gone since."""
    return all(task_unit(cell, epoch, task).look().is_made for epoch in cell.epoch_steps())
