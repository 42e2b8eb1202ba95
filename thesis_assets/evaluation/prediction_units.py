"""The predictions of one (scene, epoch) as a unit: what lies under `nvs/inputs/`, and what it would be made from now.

Does not belong here: making them (`refined_predictions`, `taken_predictions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.pipeline_command import (
    handed_version,
    of_pipeline,
    pipeline_files,
    pipeline_place,
)
from thesis_assets.evaluation.prediction_records import predicted_views, read_predictions
from thesis_assets.evaluation.protocols import read_protocol
from thesis_assets.evaluation.source_trees import (
    links_numbers,
    source_camera_file,
    source_mask,
    source_tree,
    source_views,
)
from thesis_assets.evaluation.staging import files_below
from thesis_assets.evaluation.unit_parts import (
    CHOICE,
    Options,
    at_step,
    below,
    by_name,
    checkpoint_version,
    choosing_files,
    holds,
    kept,
    known_versions,
    picked,
    recorded,
    shard_version,
    with_step,
)
from thesis_assets.evaluation.views import evaluated_views
from thesis_assets.layout import epoch_name
from thesis_assets.provenance import MadeFrom, Older, Place, Unit, Wanted
from thesis_assets.rendering.gaussian_renderer import GSPLAT, rasteriser_on, revision_of
from thesis_assets.rendering.torch_rasteriser import TORCH_RASTERISER

PREDICTION_VERSION = "1"
"""Raised where a change of code changes a prediction's pixels."""
TAKEN_VERSION = "1"
REFINED = ("evaluation.predictions.source", *CHOICE, "generation.renders", "generation.filtering.apply_mask")
TAKEN = ("evaluation.predictions.source", "evaluation.predictions.recompute", *CHOICE)


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
    wanted = _refined(cell, as_kept, epoch, record) if refined else _taken(cell, as_kept, epoch, record)
    name = f"predictions of {cell.scene.name}, {epoch_name(epoch)}"
    return Unit(name, place, wanted, lambda: _older(cell, epoch, wanted))


def _refined(cell: EvaluationCell, as_kept: EvaluationCell, epoch: int, record: MadeFrom | None) -> Wanted:
    options, given = picked(cell, as_kept, REFINED)
    renders = {}
    if cell.experiment.generation.renders.source == "command":
        tree = cell.scene.tree
        renders = known_versions(
            record, {f"renders/{cell.scene.name}": Place(tree.renders_dir, tree.renders_made_from)}
        )
    return Wanted(
        step="predictions",
        code_version=PREDICTION_VERSION,
        options=with_step(cell, epoch, options),
        given=with_step(cell, epoch, given),
        tools=_rasteriser(cell),
        files=by_name(cell, _refined_files(as_kept)),
        made={**checkpoint_version(cell, epoch), **shard_version(cell, record), **renders},
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


def _taken(cell: EvaluationCell, as_kept: EvaluationCell, epoch: int, record: MadeFrom | None) -> Wanted:
    options, given = picked(cell, as_kept, TAKEN)
    files = {**by_name(cell, choosing_files(cell)), **_taken_files(as_kept, epoch)}
    made: dict[str, str] = {}
    if cell.experiment.evaluation.predictions.source == "command":
        options, given = of_pipeline(cell, options), of_pipeline(cell, given)
        files |= pipeline_files(cell)
        made = {**handed_version(cell), **known_versions(record, {"pipeline": pipeline_place(cell)})}
    return Wanted(
        step="predictions",
        code_version=TAKEN_VERSION,
        options=options,
        given=given,
        files=files,
        made=made,
        of_outputs=True,
    )


def _taken_files(cell: EvaluationCell, epoch: int) -> dict[str, Path]:
    """What is linked from the tree, and from the scene beside it; nothing where the tree is gone."""
    tree = source_tree(cell)
    if tree is None:
        return {}
    source = tree.task(epoch, "nvs")
    if links_numbers(cell):
        return below("tree", tree.base, [tree.manifest, *files_below(source.inputs_dir)])
    found: dict[str, Path] = below("tree", tree.base, [tree.manifest])
    for view in source_views(cell, source)[0]:
        paths = (
            source.input_render(view.cam_id, view.fname),
            source_mask(cell, source, view),
            source_camera_file(cell, source, view),
        )
        for path in paths:
            if path is not None:
                of_tree = path.is_relative_to(tree.base)
                found |= below("tree", tree.base, [path]) if of_tree else by_name(cell, [path])
    return found


def _older(cell: EvaluationCell, epoch: int, wanted: Wanted) -> Older | None:
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
