"""Predictions that others made: `nvs/inputs/` linked from a tree of the output document, with the scene's masks and cameras.

Does not belong here: running the pipeline that writes such a tree (`pipeline_command`), any number (`nvs`, `taken_numbers`).
"""

from __future__ import annotations

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell, Progress, silent
from thesis_assets.evaluation.pipeline_command import handed_checkpoint
from thesis_assets.evaluation.prediction_records import no_views, predicted_views, read_predictions
from thesis_assets.evaluation.prediction_units import prediction_unit
from thesis_assets.evaluation.source_trees import (
    links_numbers,
    source_camera_file,
    source_epoch,
    source_mask,
    source_tree,
    source_views,
)
from thesis_assets.evaluation.staging import Staging, files_below, staged
from thesis_assets.evaluation.unit_parts import kept, verified
from thesis_assets.evaluation.views import View
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.layout import EvaluationTree, TaskTree, epoch_name
from thesis_assets.provenance import Contents, begin
from thesis_assets.schemas.evaluation import PredictionRecord


def take_predictions(
    cell: EvaluationCell, epoch: int, on_progress: Progress = silent, contents: Contents | None = None
) -> PredictionRecord:
    """Publish `nvs/inputs/` of one epoch by one rename; what is as wanted is left alone.

    Raises:
        InvalidFile: the tree lacks the epoch, or a render has another size than its ground truth.
        InvalidScene: no view can be compared.
    """
    task, unit = cell.tree.task(epoch, "nvs"), prediction_unit(cell, epoch)
    verdict = verified(unit, contents)
    if verdict.is_made:
        return read_predictions(task)
    tree = source_tree(cell)
    assert tree is not None, "the sources `command` and `existing` have a tree"
    source_epoch(cell, tree, epoch)
    cell, source, making = kept(cell, verdict.record), tree.task(epoch, "nvs"), begin(unit, contents)
    record = _record(cell, epoch, tree, source)
    withdraw(cell.tree, epoch, task)
    left_out: dict[str, str] = {}
    with staged(task.inputs_dir) as stage:
        if links_numbers(cell):
            stage.link_all(source.inputs_dir)
            views = predicted_views(source)
        else:
            views, left_out = source_views(cell, source)
            for view in views:
                _link_view(cell, source, task, view, stage)
            if not views:
                raise no_views(cell, left_out)
        record = record.model_copy(update={"n_images": len(views), "left_out": left_out})
        stage.write(task.prediction_record, storage.to_json_bytes(record))
    making.finish(files_below(task.inputs_dir), noted={"from": record.renderer})
    on_progress(
        f"{cell.scene.name} {epoch_name(epoch)}: {record.n_images} predictions linked, {len(left_out)} left out"
    )
    return record


def _record(cell: EvaluationCell, epoch: int, tree: EvaluationTree, source: TaskTree) -> PredictionRecord:
    predictions = cell.experiment.evaluation.predictions
    handed = handed_checkpoint(cell) if predictions.source == "command" else None
    try:
        taken = None if handed else read_predictions(source)
    except InvalidFile:  # of a tree that other scripts wrote
        taken = None
    return PredictionRecord(
        prediction_source=taken.prediction_source if taken else predictions.source,
        epoch=epoch,
        step=cell.epoch_steps()[epoch],
        checkpoint_sha256=handed.sha256 if handed else taken.checkpoint_sha256 if taken else None,
        n_images=0,
        renderer="the pipeline's command" if handed else f"the tree {tree.base}",
    )


def _link_view(cell: EvaluationCell, source: TaskTree, task: TaskTree, view: View, stage: Staging) -> None:
    from thesis_assets.images.codecs import image_size

    key = (view.cam_id, view.fname)
    render, truth = source.input_render(*key), cell.scene.image_path(*key)
    if truth is not None and image_size(render) != image_size(truth):
        raise InvalidFile(
            "a render has another size than its ground truth",
            file=render,
            found=image_size(render),
            wanted=f"{image_size(truth)} (height, width), as {truth}",
            remedy="write the renders at the photographs' own size; the protocol scales both",
        )
    stage.link(render, task.input_render(*key))
    mask, camera = source_mask(cell, source, view), source_camera_file(cell, source, view)
    if mask is not None:
        stage.link(mask, task.input_mask(*key))
    if camera is not None:
        stage.link(camera, task.input_camera(*key))
