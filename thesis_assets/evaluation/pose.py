"""A pose task of one epoch: matched people, the ground truth moved into the predicted world, meshes, metrics, pictures.

`inputs/`, `pred/`, `gt_inputs/` and `viz/` are published first; `metrics/` with `protocol.json` comes last, by one rename.
Refining renders moves no body: epochs share their files by links, and each has its own metrics.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets import __version__, storage
from thesis_assets.errors import InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell, links_numbers
from thesis_assets.evaluation.metric_tables import CONDITIONING, MESH_ALIGNMENTS, write_tables
from thesis_assets.evaluation.outputs import Staging, kept, publish, staged, verified, withdraw, without_step
from thesis_assets.evaluation.pose_inputs import (
    ESTIMATES,
    BodyFrames,
    WorldMotions,
    body_frames,
    of_the_rotation,
    read_matched,
    read_points,
    world_motions,
)
from thesis_assets.evaluation.pose_metrics import (
    EQUAL_DEPTH_M,
    LAYER_GAP_M,
    UNHELD,
    WELL_CONDITIONED,
    Array,
    ComparedBodies,
    FrameMetrics,
    emptied,
    frame_metrics,
    read_compared,
    true_body_bytes,
)
from thesis_assets.evaluation.pose_motion import FrameJoints, frame_ranges, motion_metrics
from thesis_assets.evaluation.shared_work import Outcomes, SceneEpochs
from thesis_assets.evaluation.source_trees import take_numbers
from thesis_assets.evaluation.units import (
    POSE_FOLDERS,
    body_model_tools,
    of_all_epochs,
    task_unit,
)
from thesis_assets.launch.telling import tell
from thesis_assets.layout import TaskTree, epoch_name
from thesis_assets.provenance import CODE_VERSIONS, Contents, Making, Unit, begin
from thesis_assets.scenes.bodies import is_complete, read_bodies, write_bodies
from thesis_assets.schemas.evaluation import Protocol

if TYPE_CHECKING:
    from PIL import ImageDraw


PREDICTED_RGB = (255, 140, 0)
TRUE_RGB = (40, 200, 70)
LONG_SIDE = 640
MOST_ENLARGED = 3.0


def measure_poses(task_name: str, work: SceneEpochs) -> Outcomes[Protocol]:
    """Measure one pose task of every epoch of a scene: epochs share their files. What is current already is left alone.

    Args:
        task_name: `pose_smplx` or `pose_smpl`.
    """
    outcomes: Outcomes[Protocol] = Outcomes()
    contents = Contents()
    with outcomes.of_scene(work.cell):
        for epoch in outcomes.epochs_with(task_name, work):
            outcomes.records[work.cell.scene.name, epoch] = evaluate_pose(work.cell, epoch, task_name, contents)
    return outcomes


def evaluate_pose(cell: EvaluationCell, epoch: int, task_name: str, contents: Contents | None = None) -> Protocol:
    """Measure the predicted bodies of one epoch; what is as wanted is left alone.

    Args:
        task_name: `pose_smplx` or `pose_smpl`.

    Raises:
        InvalidScene: the scene has no frame with usable bodies on both sides (`absent_tasks` says so beforehand).
        InvalidFile: a file that was listed cannot be read.
    """
    contents = contents or Contents()
    if links_numbers(cell):
        return take_numbers(cell, epoch, task_name, tell, contents)
    task, unit = cell.tree.task(epoch, task_name), task_unit(cell, epoch, task_name)
    verdict = verified(unit, contents)
    if verdict.is_made:
        return storage.read_json(task.protocol, Protocol)
    step, cell = cell.epoch_steps()[epoch], kept(cell, verdict.record)
    frames = body_frames(cell, task_name, epoch)
    models = [f"{frames.model}/{path.name}" for path in frames.model_files]
    unit = replace(unit, wanted=replace(unit.wanted, tools=body_model_tools(cell.body_models, models)))
    making = begin(unit, contents)
    equal = _equal_epoch(cell, epoch, unit, making, contents)
    with staged(*(task.base / name for name in POSE_FOLDERS), task.metrics_dir) as stages:
        if equal is not None:
            protocol = _linked(equal, task, epoch, step, stages)
        else:
            protocol = _measure(cell, task, frames, epoch, stages)
        withdrawn = functools.partial(withdraw, cell.tree, epoch, task)
        publish(stages, unit, verdict, making, contents, on_change=withdrawn)
    tell(f"{cell.title} {epoch_name(epoch)} {task_name}: {len(protocol.details['frames'])} frames")
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


def _linked(sibling: TaskTree, task: TaskTree, epoch: int, step: int | None, stages: Sequence[Staging]) -> Protocol:
    """Link the files of another epoch, with metrics of the epoch's own."""
    *folders, metrics = stages
    for stage in folders:
        stage.link_all(sibling.base / stage.final.name)
    own = storage.read_json(sibling.protocol, Protocol).model_copy(update={"epoch": epoch, "step": step})
    for path in (task.pose_per_frame, task.pose_results):
        metrics.write(path, (sibling.metrics_dir / path.name).read_bytes())
    metrics.write(task.protocol, storage.to_json_bytes(own))
    return own


def _measure(
    cell: EvaluationCell, task: TaskTree, frames: BodyFrames, epoch: int, stages: Sequence[Staging]
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
    rows: dict[str, FrameMetrics] = {}
    joints: dict[str, FrameJoints] = {}
    *folders, metrics = stages
    for fname in usable:
        compared = _write_frame(cell, task, frames, fname, motions, folders)
        rows[fname], joints[fname] = frame_metrics(compared), FrameJoints.of(compared)
    fps = frames_per_second(cell)
    in_motion = motion_metrics(joints, fps)
    unheld = () if motions.is_conditioned else of_the_rotation(motions.depth_camera)
    rows = {fname: emptied(row.with_more(in_motion[fname]), unheld) for fname, row in rows.items()}
    protocol = _protocol(cell, task, frames, epoch, rows, left_out, motions, compared, fps)
    write_tables(metrics, task, [{"frame_id": int(name), **each.values} for name, each in rows.items()], protocol)
    return protocol


def _write_frame(
    cell: EvaluationCell,
    task: TaskTree,
    frames: BodyFrames,
    fname: str,
    motions: WorldMotions,
    stages: Sequence[Staging],
) -> ComparedBodies:
    """Write one frame's files, and read back what is measured."""
    inputs, pred, truth, viz = stages
    matched, predicted = read_matched(cell, frames, fname), frames.predicted[fname]
    if is_complete(read_bodies(predicted, frames.model, finite=False)):
        inputs.link(predicted, task.input_body(fname))
    else:  # With the points that the numbers are of: whoever recomputes them needs no body model.
        bodies = read_points(cell, predicted, frames.model, predicted=True)
        write_bodies(inputs.place(task.input_body(fname)), bodies, finite=False)
    extrinsics = motions.source_extrinsics(fname)
    truth.write(task.true_body(fname), true_body_bytes(matched, motions.of_frame(fname), extrinsics))
    compared = read_compared(inputs.place(task.input_body(fname)), truth.place(task.true_body(fname)), frames.model)
    write_meshes(pred, task, "pred", fname, compared, matched.faces)
    write_meshes(truth, task, "gt_inputs", fname, compared, matched.faces)
    _write_overlay(cell, task, viz, fname, compared)
    return compared


def frames_per_second(cell: EvaluationCell) -> float | None:
    """Of the source camera's video, as the registry says it; None where it does not."""
    entry = cell.scene.registry
    return None if entry is None else entry.fps


def _protocol(
    cell: EvaluationCell,
    task: TaskTree,
    frames: BodyFrames,
    epoch: int,
    rows: Mapping[str, FrameMetrics],
    left_out: dict[str, str],
    motions: WorldMotions,
    compared: ComparedBodies,
    fps: float | None,
) -> Protocol:
    """How the numbers of one epoch were made. `compared`: any frame, for the numbers of points."""
    spec, mapping = cell.experiment.evaluation, cell.scene.identity_mapping()
    empty: dict[str, set[str]] = {}
    for frame in rows.values():
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
            CONDITIONING: "by camera: nothing is fitted"
            if motions.fit is None
            else f"checked: second singular value at least {WELL_CONDITIONED[motions.alignment]:g} of the first",
            "depth_camera": motions.depth_camera,
            "joints": compared.true.joints.shape[1],
            "vertices": compared.true.vertices.shape[1],
            "frames_per_second": fps,
            "missing_people": _by_person(motions.missing),
            "frame_choice": spec.frames.model_dump(mode="json"),
            "identity_mapping": None if mapping is None else {str(ours): mapping[ours] for ours in sorted(mapping)},
            "equal_depth_m": EQUAL_DEPTH_M,
            "layer_gap_m": LAYER_GAP_M,
            "metrics": f"version {CODE_VERSIONS['pose_smplx']}",
        },
        empty_metrics={metric: "; ".join(sorted(reasons)) for metric, reasons in sorted(empty.items())},
        versions={"thesis_assets": __version__, "numpy": np.__version__},
        details={
            "frames": list(rows),
            "source_camera": cell.source_camera(),
            "empty_values": {name: each.reasons for name, each in rows.items() if each.reasons},
            "left_out": left_out,
            "missing_people": motions.missing,
            "alignment": _alignment(motions),
            **_joints_said(motions, compared.true.joints.shape[1]),
            "units": {"accel_mm": "mm/frame^2" if fps is None else "mm/s^2", "jitter": "10 m/s^3"},
            "note": "refining renders moves no body: these numbers are the same at every epoch"
            if frames.origin == ESTIMATES
            else "the bodies are those of the epoch",
        },
    )


def _by_person(missing: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The frames at which each true person is missing: part of the protocol, as a difference is over the same people."""
    people = sorted({person for of_frame in missing.values() for person in of_frame})
    return {str(person): frame_ranges(name for name in missing if person in missing[name]) for person in people}


def _joints_said(motions: WorldMotions, n_compared: int) -> dict[str, str]:
    """Which joints are compared, where a file has more; the numbers are those of a file that has these alone."""
    numbers = sorted(motions.file_joints)
    if all(number == n_compared for pair in numbers for number in pair):
        return {}
    found = ", ".join(f"{predicted} predicted and {true} true" for predicted, true in numbers)
    return {"joints": f"the first {n_compared} of both sides, SMPL's own joints; the files have {found}"}


def _alignment(motions: WorldMotions) -> dict[str, Any]:
    """How sure the fit of the two worlds is, and which metrics are empty for it."""
    if motions.fit is None:
        return {}
    return {
        "singular_values_m2": motions.fit.singular_values,
        "second_to_first": motions.fit.second_to_first,
        UNHELD: [] if motions.is_conditioned else list(of_the_rotation(motions.depth_camera)),
    }


def write_meshes(
    stage: Staging, task: TaskTree, side: str, fname: str, compared: ComparedBodies, faces: Array | None
) -> None:
    """Write one side's meshes of a frame; a person is numbered as in the ground truth.

    Args:
        side: `pred` or `gt_inputs`, the directory that `stage` publishes.
    """
    people = compared.predicted if side == "pred" else compared.true
    for alignment in MESH_ALIGNMENTS:
        vertices = people.vertices if alignment == "world_aligned" else people.vertices - people.roots[:, None]
        rows = [_vertex_rows(of_person) for of_person in vertices]
        for (_, person), of_person in zip(compared.pairs, rows, strict=True):
            stage.write(task.person_mesh(side, alignment, person, fname), _with_faces([of_person], faces, 0))
        stage.write(task.mesh(side, alignment, fname), _with_faces(rows, faces, vertices.shape[1]))


def obj_bytes(meshes: list[Array], faces: Array | None) -> bytes:
    """Wavefront OBJ with `v` and `f` rows (indices from 1), in micrometres' precision.

    Args:
        meshes: (V, 3) metres each, the same V.
        faces: (F, 3) indices from 0, the same for every mesh; None writes points only.
    """
    return _with_faces([_vertex_rows(vertices) for vertices in meshes], faces, len(meshes[0]) if meshes else 0)


def _with_faces(rows: list[bytes], faces: Array | None, n_vertices: int) -> bytes:
    """The `v` rows of several meshes of `n_vertices` each, then the `f` rows of all; none without faces."""
    if faces is None:
        return b"".join(rows)
    content = np.ascontiguousarray(faces, np.int64).tobytes()
    return b"".join([*rows, *(_face_rows(content, 1 + place * n_vertices) for place in range(len(rows)))])


def _vertex_rows(vertices: Array) -> bytes:
    """One format for all rows: a third of the time of one a row. `vertices`: (V, 3) metres."""
    return (("v %.6f %.6f %.6f\n" * len(vertices)) % tuple(vertices.ravel().tolist())).encode()


@functools.lru_cache(maxsize=8)
def _face_rows(content: bytes, first: int) -> bytes:
    """Faces are the same in every frame."""
    numbers = np.frombuffer(content, np.int64) + first
    return (("f %d %d %d\n" * (len(numbers) // 3)) % tuple(numbers.tolist())).encode()


def _write_overlay(cell: EvaluationCell, task: TaskTree, viz: Staging, fname: str, compared: ComparedBodies) -> None:
    """Predicted joints (orange) and true ones (green) over the source camera's image, at most `LONG_SIDE` pixels."""
    from PIL import Image, ImageDraw

    from thesis_assets.images.codecs import read_rgb

    source = cell.source_camera()
    path = cell.scene.image_path(source, fname)
    if path is None or fname not in cell.scene.camera_files(source).paths:
        return  # A picture to look at, not a result: there is nothing to draw on.
    image, camera = read_rgb(path), cell.scene.camera(source, fname)
    small = camera.scaled(min(MOST_ENLARGED, LONG_SIDE / max(image.shape[:2])))
    picture = Image.fromarray(image).resize((small.width, small.height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius = max(1.0, max(small.width, small.height) / 160)
    true_joints = compared.motion.inverse().move(compared.true.joints)
    _dots(draw, small.intrinsics, camera.extrinsics, true_joints, radius, TRUE_RGB)
    if compared.source_extrinsics is not None:  # the predicted joints are seen by the camera in their own world
        _dots(draw, small.intrinsics, compared.source_extrinsics, compared.predicted.joints, radius, PREDICTED_RGB)
    viz.write_png(task.pose_overlay(fname), np.asarray(picture), cell.experiment.generation.export.png_encoder)


def _dots(
    draw: ImageDraw.ImageDraw,
    intrinsics: Array,
    extrinsics: Array,
    joints: Array,
    radius: float,
    color: tuple[int, int, int],
) -> None:
    local = joints.reshape(-1, 3) @ extrinsics[:, :3].T + extrinsics[:, 3]
    for x, y, depth in (local[np.isfinite(local).all(axis=1)] @ intrinsics.T).tolist():
        if depth > 0:
            left, top = x / depth, y / depth
            draw.ellipse((left - radius, top - radius, left + radius, top + radius), fill=color)
