"""What is taken over from a tree that others wrote: predictions with the scene's masks and cameras, or numbers as they are.

A tree with `protocol.json` keeps its tables as they are. One without was measured by other scripts: its PSNR enters as
`psnr_channel_sum`, its PCDR as `pcdr_legacy`, never under the name of ours, and its protocol equals none of ours.
Does not belong here: running the pipeline that writes such a tree (`pipeline_command`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell, Progress, links_numbers, silent, source_tree
from thesis_assets.evaluation.metric_tables import (
    IMPORTED,
    ITS_OWN_RESULTS,
    KEY_COLUMNS,
    OLDER_COLUMNS,
    RENDER_SIZE,
    frame_table,
    older_faults,
    older_row,
    read_protocol,
    read_table,
    task_faults,
    write_tables,
)
from thesis_assets.evaluation.nvs_metrics import scale_of, smaller
from thesis_assets.evaluation.outputs import Staging, kept, publish, staged, verified, withdraw
from thesis_assets.evaluation.pipeline_command import handed_checkpoint
from thesis_assets.evaluation.thesis_names import name_views
from thesis_assets.evaluation.units import NVS_FOLDERS, POSE_FOLDERS, prediction_unit, task_unit
from thesis_assets.evaluation.views import (
    RENDERS,
    View,
    epochs_on_disk,
    measured_pictures,
    no_views,
    pictured_views,
    predicted_views,
    read_predictions,
    source_camera_file,
    source_mask,
    source_renders,
    source_views,
)
from thesis_assets.layout import EvaluationTree, TaskTree, camera_folder, epoch_name, frame_name
from thesis_assets.provenance import Contents, begin
from thesis_assets.schemas.evaluation import (
    POSE_FRAME_COLUMNS,
    PredictionRecord,
    Protocol,
)

OLDER = "measured by other scripts: the tree has no protocol.json"
MOST_SMALLER = 64
"""As `evaluation.nvs.downscale_factor`."""
ENTERS_AS = {
    "psnr": f"{OLDER}, so its PSNR enters as psnr_channel_sum",
    "pcdr": f"{OLDER}, so its PCDR enters as pcdr_legacy",
}


def take_predictions(
    cell: EvaluationCell, epoch: int, on_progress: Progress = silent, contents: Contents | None = None
) -> PredictionRecord:
    """Publish `nvs/inputs/` of one epoch by one rename; what is as wanted is left alone.

    Raises:
        InvalidFile: the tree lacks the epoch, or a render has another size than its ground truth.
        InvalidScene: no view can be compared.
    """
    task, unit = cell.tree.task(epoch, "nvs"), prediction_unit(cell, epoch)
    contents = contents or Contents()
    verdict = verified(unit, contents)
    if verdict.is_made:
        return read_predictions(task)
    tree = _tree_with(cell, epoch)
    cell, source, making = kept(cell, verdict.record), tree.task(epoch, "nvs"), begin(unit, contents)
    record = _record(cell, epoch, tree, source)
    left_out: dict[str, str] = {}
    with staged(task.inputs_dir) as (stage,):
        if links_numbers(cell):
            stage.link_all(source.inputs_dir)
            views = predicted_views(source)
        else:
            chosen, renders = source_views(cell, source), source_renders(source)
            views, left_out = list(chosen.views), chosen.left_out
            if not views:
                raise no_views(cell, left_out)
            scale = render_scale(cell, {view: renders[view] for view in views})
            record = record.model_copy(update={"render_scale": scale})
            for view in views:
                _take_view(cell, source, task, view, renders[view], stage)
        record = record.model_copy(update={"n_images": len(views), "left_out": left_out})
        stage.write(task.prediction_record, storage.to_json_bytes(record))
        withdrawn = functools.partial(withdraw, cell.tree, epoch, task)
        publish([stage], unit, verdict, making, contents, noted={"from": record.renderer}, on_change=withdrawn)
    on_progress(
        f"{cell.scene.name} {epoch_name(epoch)}: {record.n_images} predictions linked, {len(left_out)} left out"
    )
    return record


def _tree_with(cell: EvaluationCell, epoch: int) -> EvaluationTree:
    """The source tree, which has the epoch."""
    tree = source_tree(cell)
    assert tree is not None, "the sources `command` and `existing` have a tree"
    if not tree.epoch_dir(epoch).is_dir():
        raise InvalidFile(
            f"the tree of `{cell.scene.name}` lacks an epoch that the experiment names",
            file=tree.epoch_dir(epoch),
            key="evaluation.epochs",
            found=", ".join(map(epoch_name, epochs_on_disk(tree))) or "no evaluation/epoch_XXXX",
            wanted=f"{epoch_name(epoch)}/{RENDERS}",
            remedy="name the epochs that are there (`evaluation.epochs`), or let the pipeline write this one",
        )
    return tree


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
        refiner_size=taken.refiner_size if taken else None,
        renderer="the pipeline's command" if handed else f"the tree {tree.base}",
    )


def render_scale(cell: EvaluationCell, renders: Mapping[View, Path]) -> int:
    """The photographs' size over that of the renders, which all of them have alike.

    Raises:
        InvalidFile: a render has another size than its ground truth, and none that the protocol makes of it on its way to its own.
    """
    from thesis_assets.images.codecs import image_size

    factor = cell.experiment.evaluation.nvs.downscale_factor
    common: int | None = None
    for view, render in renders.items():
        truth = cell.scene.image_path(view.cam_id, view.fname)
        assert truth is not None, "a view without a photograph is left out"
        size, whole = image_size(render), image_size(truth)
        scale = scale_of(size, whole, factor)
        if scale is None or common not in (None, scale):
            allowed = [smaller(whole, n) for n in range(1, factor + 1) if factor % n == 0]
            raise InvalidFile(
                "a render has another size than its ground truth"
                + ("" if scale is None else ", and than the renders before it"),
                file=render,
                found=size,
                wanted=f"one of {allowed} (height, width) for all of them, by {truth}",
                remedy="write all renders at the photographs' own size, or at a part of it that divides evaluation.nvs."
                "downscale_factor; the protocol makes the photographs as small",
            )
        common = scale
    return common or 1


def _take_view(
    cell: EvaluationCell, source: TaskTree, task: TaskTree, view: View, render: Path, stage: Staging
) -> None:
    from thesis_assets.images.codecs import read_rgb

    key = (view.cam_id, view.fname)
    if render.suffix == ".png":
        stage.link(render, task.input_render(*key))
    else:  # The document's place holds PNG: the pixels are those that the JPEG decodes to.
        stage.write_png(task.input_render(*key), read_rgb(render), cell.experiment.generation.export.png_encoder)
    mask, camera = source_mask(cell, source, view), source_camera_file(cell, source, view)
    if mask is not None:
        stage.link(mask, task.input_mask(*key))
    if camera is not None:
        stage.link(camera, task.input_camera(*key))


def take_numbers(
    cell: EvaluationCell,
    epoch: int,
    task_name: str,
    on_progress: Progress = silent,
    contents: Contents | None = None,
) -> Protocol:
    """Link one task of one epoch; what is as wanted is left alone.

    Raises:
        InvalidFile: the tree lacks the epoch or a required file, or a table cannot be read.
    """
    task, unit = cell.tree.task(epoch, task_name), task_unit(cell, epoch, task_name)
    contents = contents or Contents()
    verdict = verified(unit, contents)
    if verdict.is_made:
        return storage.read_json(task.protocol, Protocol)
    tree = _tree_with(cell, epoch)
    source, making = tree.task(epoch, task_name), begin(unit, contents)
    protocol = read_protocol(source)
    if faults := task_faults(source) if protocol is not None else older_faults(source, cell.source_camera()):
        raise InvalidFile(
            "the tree that is to be taken over is not whole, or its files do not agree with each other",
            file=faults[0][0],
            found=faults[0][1],
            remedy="mend it, or let its renders be measured again (`recompute: true`)",
        )
    if protocol is not None:
        protocol = protocol.model_copy(update={"epoch": epoch, "step": cell.epoch_steps()[epoch]})
    names = NVS_FOLDERS if task_name == "nvs" else POSE_FOLDERS
    with staged(*(task.base / name for name in names), task.metrics_dir) as stages:
        *folders, metrics = stages
        for stage in folders:
            stage.link_all(source.base / stage.final.name)
        if task_name == "nvs":
            _link_measured(source, task, folders)
            name_views(cell.tree, task, pictured_views(folders[0].temporary), cell.scene.image_path, folders)
        if protocol is not None:
            metrics.link_all(source.metrics_dir)
            metrics.write(task.protocol, storage.to_json_bytes(protocol))
        else:
            protocol = _older(cell, epoch, tree, source, task, metrics)
        withdrawn = functools.partial(withdraw, cell.tree, epoch, task)
        publish(stages, unit, verdict, making, contents, noted={"from": str(tree.base)}, on_change=withdrawn)
    on_progress(f"{cell.scene.name} {epoch_name(epoch)} {task_name}: taken over from {tree.base}")
    return protocol


def _link_measured(source: TaskTree, task: TaskTree, stages: Sequence[Staging]) -> None:
    """Let pictures that were measured also stand where the document has them, for cameras that have none there."""
    for stage in stages:
        side = stage.final.name
        for view, path in measured_pictures(source, side).items():
            if not any(path.parent.parent.glob(f"{view.fname}.*")):
                stage.link(path, stage.final / camera_folder(view.cam_id) / path.name)


def _older(
    cell: EvaluationCell,
    epoch: int,
    tree: EvaluationTree,
    source: TaskTree,
    task: TaskTree,
    stage: Staging,
) -> Protocol:
    """Write the tables of a tree without a protocol in the columns of ours, and the protocol that says so."""
    rows = _older_rows(source)
    empty = sorted({name for row in rows for name, value in row.items() if value is None})
    comparable: dict[str, Any] = {"prediction_source": "existing", "protocol": OLDER}
    frames: Any = [frame_name(row["frame_id"]) for row in rows]
    if task.task == "nvs":
        comparable["cameras"] = sorted({row["camera_id"] for row in rows})
        comparable |= _told_size(cell, source)
        frames = {
            str(cam_id): [frame_name(row["frame_id"]) for row in rows if row["camera_id"] == cam_id]
            for cam_id in comparable["cameras"]
        }
    else:
        comparable["world_alignment"] = _older_alignment(tree)
    protocol = Protocol(
        task=task.task,
        epoch=epoch,
        step=cell.epoch_steps()[epoch],
        comparable=comparable,
        empty_metrics={name: ENTERS_AS.get(name, OLDER) for name in empty},
        versions={"thesis_assets": __version__},
        details={
            IMPORTED: str(tree.base),
            "frames": frames,
            "source_camera": cell.source_camera(),
            ITS_OWN_RESULTS: _older_results(source),
        },
    )
    write_tables(stage, task, rows, protocol)
    return protocol


def _told_size(cell: EvaluationCell, source: TaskTree) -> dict[str, str]:
    """At which part of the photographs' size a tree without a protocol was measured, by its pictures; empty: it keeps none."""
    from thesis_assets.images.codecs import image_size

    for view, picture in measured_pictures(source, "pred").items():
        truth = cell.scene.image_path(view.cam_id, view.fname)
        if truth is not None:
            size, whole = image_size(picture), image_size(truth)
            part = next((n for n in range(1, MOST_SMALLER + 1) if smaller(whole, n) == size), None)
            return {RENDER_SIZE: f"1/{part} of the photographs'" if part else f"{size} of {whole}"}
    return {}


def _older_rows(source: TaskTree) -> list[dict[str, Any]]:
    """The table of frames in the names of ours, by camera and frame. A table of bodies may have more than the older columns."""
    table, columns = frame_table(source), OLDER_COLUMNS[source.task]
    try:
        found = read_table(table, columns if source.task == "nvs" else POSE_FRAME_COLUMNS)
    except InvalidFile:  # the scripts before wrote fewer columns
        found = read_table(table, columns)
    rows = [
        {**older_row(source.task, row), **{key: int(row[key] or 0) for key in KEY_COLUMNS if key in row}}
        for row in found
    ]
    return sorted(rows, key=lambda row: [row[key] for key in KEY_COLUMNS if key in row])


def _older_results(source: TaskTree) -> str:
    """What its overall file says, word for word: the means in our table are ours, without the source camera."""
    return source.required_files[0].read_bytes()[:2000].decode("utf-8", errors="replace")


def _older_alignment(tree: EvaluationTree) -> str:
    try:
        value = storage.read_json_value(tree.manifest)
    except InvalidFile:  # the scripts before did not always write one
        return "unknown"
    said = value.get("pose_eval_world_alignment_method") if isinstance(value, dict) else None
    return said if isinstance(said, str) else "unknown"
