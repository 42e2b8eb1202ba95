"""A pose task of one epoch: matched people, the ground truth moved into the predicted world, meshes, metrics.

`inputs/`, `pred/`, `gt_inputs/` and `viz/` are published first; `metrics/` with `protocol.json` comes last, by one rename.
Refining renders moves no body: epochs share their files by links, and each has its own metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidScene, ThesisAssetsError
from thesis_assets.evaluation.body_meshes import write_meshes
from thesis_assets.evaluation.cell import EvaluationCell, Progress, absent_tasks, silent
from thesis_assets.evaluation.compared_bodies import FrameMetrics, frame_metrics, read_compared, true_body_bytes
from thesis_assets.evaluation.matched_people import MatchedPeople
from thesis_assets.evaluation.metric_tables import mean_of, table_text
from thesis_assets.evaluation.pose_inputs import ESTIMATES, BodyFrames, body_frames, read_matched, read_points
from thesis_assets.evaluation.pose_metrics import EQUAL_DEPTH_M, LAYER_GAP_M
from thesis_assets.evaluation.pose_overlays import overlay
from thesis_assets.evaluation.shared_work import Crew, Outcomes, over_scenes
from thesis_assets.evaluation.source_trees import links_numbers
from thesis_assets.evaluation.staging import Staging, staged
from thesis_assets.evaluation.taken_numbers import take_numbers
from thesis_assets.evaluation.task_units import (
    POSE_FOLDERS,
    POSE_VERSION,
    body_model_tools,
    of_all_epochs,
    outputs_of,
    task_unit,
)
from thesis_assets.evaluation.unit_parts import described, kept, verified, without_step
from thesis_assets.evaluation.withdrawal import withdraw
from thesis_assets.evaluation.world_motions import WorldMotions, world_motions
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.provenance import Contents, Making, Output, Unit, begin
from thesis_assets.scenes.bodies import is_complete, read_bodies, write_bodies
from thesis_assets.schemas.evaluation import POSE_FRAME_COLUMNS, POSE_METRICS, Protocol, format_results


@dataclass(frozen=True)
class _Measured:
    metrics: dict[str, FrameMetrics]
    left_out: dict[str, str]
    n_joints: int
    n_vertices: int
    depth_camera: str


def evaluate_pose_scenes(
    cells: Sequence[EvaluationCell], task_name: str, crew: Crew | None = None, on_progress: Progress = silent
) -> Outcomes[Protocol]:
    """Measure every scene and epoch; what is current already is left alone. A failed scene leaves the others.

    Args:
        cells: of one (experiment, run).
        crew: who measures: a scene each, since its epochs share their files.
    """
    outcomes: Outcomes[Protocol] = Outcomes()
    works: dict[str, tuple[EvaluationCell, str]] = {}
    for cell in cells:
        try:
            absent = absent_tasks(cell)
        except ThesisAssetsError as error:
            outcomes.fail(cell.scene.name, error)
            continue
        if task_name in absent:
            outcomes.absent[cell.scene.name] = absent[task_name]
        else:
            works[cell.scene.name] = (cell, task_name)
    over_scenes(pose_of_scene, works, outcomes, crew or Crew(), on_progress)
    return outcomes


def pose_of_scene(work: tuple[EvaluationCell, str]) -> dict[int, Protocol]:
    """In a worker: one pose task of one scene, all its epochs."""
    cell, task_name = work
    contents = Contents()
    return {epoch: evaluate_pose(cell, epoch, task_name, tell, contents) for epoch in cell.epoch_steps()}


def evaluate_pose(
    cell: EvaluationCell,
    epoch: int,
    task_name: str,
    on_progress: Progress = silent,
    contents: Contents | None = None,
) -> Protocol:
    """Measure the predicted bodies of one epoch; what is as wanted is left alone.

    Args:
        task_name: `pose_smplx` or `pose_smpl`.

    Raises:
        InvalidScene: the scene has no frame with usable bodies on both sides (`absent_tasks` says so beforehand).
        InvalidFile: a file that was listed cannot be read.
    """
    contents = contents or Contents()
    if links_numbers(cell):
        return take_numbers(cell, epoch, task_name, on_progress, contents)
    task, unit = cell.tree.task(epoch, task_name), task_unit(cell, epoch, task_name)
    verdict = verified(unit, contents)
    if verdict.is_made:
        return storage.read_json(task.protocol, Protocol)
    step, cell = cell.epoch_steps()[epoch], kept(cell, verdict.record)
    frames = body_frames(cell, task_name, epoch)
    models = [f"{frames.model}/{path.name}" for path in frames.model_files]
    unit = replace(unit, wanted=replace(unit.wanted, tools=body_model_tools(cell.body_models, models)))
    making, written = begin(unit, contents), dict[Path, Output]()
    equal = _equal_epoch(cell, epoch, unit, making, contents)
    withdraw(cell.tree, epoch, task)
    protocol = _linked(equal, task, epoch, step) if equal is not None else _measure(cell, task, frames, epoch, written)
    making.finish(described(unit.place, outputs_of(task), written, contents))
    on_progress(f"{cell.scene.name} {epoch_name(epoch)} {task_name}: {len(protocol.details['frames'])} frames")
    return protocol


def _equal_epoch(cell: EvaluationCell, epoch: int, unit: Unit, making: Making, contents: Contents) -> TaskTree | None:
    """Another epoch that was measured from the same bodies in the same way, and lies there whole; None where there is none."""
    name, wanted = cell.tree.task(epoch, unit.wanted.step).task, unit.wanted
    same = (wanted.step, wanted.code_version, without_step(wanted.options), wanted.tools, making.inputs)
    for other in cell.epoch_steps():
        if other != epoch:
            verdict = task_unit(cell, other, name).look(contents)
            if verdict.is_made and verdict.record is not None and of_all_epochs(verdict.record) == same:
                return cell.tree.task(other, name)
    return None


def _linked(sibling: TaskTree, task: TaskTree, epoch: int, step: int | None) -> Protocol:
    """Link the files of another epoch, with metrics of the epoch's own."""
    for name in POSE_FOLDERS:
        with staged(task.base / name) as stage:
            stage.link_all(sibling.base / name)
    own = storage.read_json(sibling.protocol, Protocol).model_copy(update={"epoch": epoch, "step": step})
    with staged(task.metrics_dir) as stage:
        for path in (task.pose_per_frame, task.pose_results):
            stage.write(path, (sibling.metrics_dir / path.name).read_bytes())
        stage.write(task.protocol, storage.to_json_bytes(own))
    return own


def _measure(
    cell: EvaluationCell, task: TaskTree, frames: BodyFrames, epoch: int, written: dict[Path, Output]
) -> Protocol:
    motions = world_motions(cell, frames) if frames.usable else None
    left_out = {**frames.left_out, **(motions.left_out if motions else {})}
    usable = [fname for fname in frames.usable if fname not in left_out]
    if motions is None or not usable:
        raise InvalidScene(
            f"no frame of `{cell.scene.name}` can be compared",
            file=cell.scene.tree.estimated.bodies_dir(frames.model),
            key=task.task,
            found="; ".join(sorted(set(left_out.values()))[:5]) or "no ground-truth body",
        )
    metrics: dict[str, FrameMetrics] = {}
    with (
        staged(task.inputs_dir, written) as inputs,
        staged(task.pred_dir, written) as pred,
        staged(task.gt_inputs_dir, written) as truth,
        staged(task.viz_dir, written) as viz,
    ):
        for fname in usable:
            matched = read_matched(cell, frames, fname)
            metrics[fname] = _write_frame(cell, task, frames, matched, motions, (inputs, pred, truth, viz))
    measured = _Measured(
        metrics, left_out, matched.true.joints.shape[1], matched.true.vertices.shape[1], motions.depth_camera
    )
    protocol = _protocol(cell, task, frames, epoch, measured)
    _write_metrics(task, measured, protocol)
    return protocol


def _write_frame(
    cell: EvaluationCell,
    task: TaskTree,
    frames: BodyFrames,
    matched: MatchedPeople,
    motions: WorldMotions,
    stages: tuple[Staging, Staging, Staging, Staging],
) -> FrameMetrics:
    """Write one frame's files, and measure what was written."""
    inputs, pred, truth, viz = stages
    fname = matched.fname
    bodies = read_points(cell, frames.predicted[fname], frames.model, predicted=True)
    if is_complete(read_bodies(frames.predicted[fname], frames.model)):
        inputs.link(frames.predicted[fname], task.input_body(fname))
    else:  # With the points that the numbers are of: whoever recomputes them needs no body model.
        write_bodies(inputs.place(task.input_body(fname)), bodies)
    extrinsics = motions.source_extrinsics(fname)
    truth.write(task.true_body(fname), true_body_bytes(matched, motions.of_frame(fname), extrinsics))
    compared = read_compared(inputs.place(task.input_body(fname)), truth.place(task.true_body(fname)), frames.model)
    write_meshes(pred, task, "pred", fname, compared, matched.faces)
    write_meshes(truth, task, "gt_inputs", fname, compared, matched.faces)
    _write_overlay(cell, task, viz, fname, compared)
    return frame_metrics(compared)


def _write_overlay(cell: EvaluationCell, task: TaskTree, viz: Staging, fname: str, compared: Any) -> None:
    from thesis_assets.images.codecs import read_rgb

    source = cell.source_camera()
    image = cell.scene.image_path(source, fname)
    if image is None or fname not in cell.scene.camera_files(source).paths:
        return  # A picture to look at, not a result: there is nothing to draw on.
    picture = overlay(read_rgb(image), cell.scene.camera(source, fname), compared)
    viz.write_png(task.pose_overlay(fname), picture, cell.experiment.generation.export.png_encoder)


def _protocol(cell: EvaluationCell, task: TaskTree, frames: BodyFrames, epoch: int, measured: _Measured) -> Protocol:
    spec = cell.experiment.evaluation
    mapping = cell.scene.identity_mapping()
    empty: dict[str, set[str]] = {}
    for frame in measured.metrics.values():
        for metric, reason in frame.reasons.items():
            empty.setdefault(metric, set()).add(reason)
    return Protocol(
        task=task.task,
        epoch=epoch,
        step=cell.epoch_steps()[epoch],
        comparable={
            "prediction_source": spec.predictions.source,
            "predicted_bodies": frames.origin,
            "body_models": [path.name for path in frames.model_files] or "none: the files hold joints and vertices",
            "world_alignment": spec.pose.world_alignment,
            "depth_camera": measured.depth_camera,
            "joints": measured.n_joints,
            "vertices": measured.n_vertices,
            "frame_choice": spec.frames.model_dump(mode="json"),
            "identity_mapping": None if mapping is None else {str(ours): mapping[ours] for ours in sorted(mapping)},
            "equal_depth_m": EQUAL_DEPTH_M,
            "layer_gap_m": LAYER_GAP_M,
            "metrics": f"version {POSE_VERSION}",
        },
        empty_metrics={metric: "; ".join(sorted(reasons)) for metric, reasons in sorted(empty.items())},
        versions={"thesis_assets": __version__, "numpy": np.__version__},
        details={
            "frames": list(measured.metrics),
            "source_camera": cell.source_camera(),
            "empty_values": {name: each.reasons for name, each in measured.metrics.items() if each.reasons},
            "left_out": measured.left_out,
            "note": "refining renders moves no body: these numbers are the same at every epoch"
            if frames.origin == ESTIMATES
            else "the bodies are those of the epoch",
        },
    )


def _write_metrics(task: TaskTree, measured: _Measured, protocol: Protocol) -> None:
    rows = [{"frame_id": int(name), **each.values} for name, each in measured.metrics.items()]
    overall = {metric: mean_of(rows, metric) for metric in POSE_METRICS}
    with staged(task.metrics_dir) as stage:
        stage.write(task.pose_per_frame, table_text(POSE_FRAME_COLUMNS, rows).encode())
        stage.write(task.pose_results, format_results(overall).encode())
        stage.write(task.protocol, storage.to_json_bytes(protocol))
