"""The views of a scene: which are compared, which lie under `nvs/inputs/`, which a tree of others has; those left out, with the reason."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidExperiment, InvalidKey, InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell, links_numbers, source_tree
from thesis_assets.evaluation.metric_tables import DAMAGED
from thesis_assets.layout import EvaluationTree, TaskTree, parse_epoch
from thesis_assets.samples import plan
from thesis_assets.scenes.bodies import BodyModel
from thesis_assets.schemas.evaluation import AdoptedTree, PredictionRecord

RENDERS = "nvs/inputs/cam_<id>/render/<frame>.png"
MEASURED = "nvs/pred/cam_<id>/metrics_input/<frame>.jpg"
_CAMERA, _FRAME = r"cam_(?P<cam>0|[1-9]\d{0,9})", r"(?P<frame>\d{6}|[1-9]\d{6,11})"
_RENDER = re.compile(rf"{_CAMERA}/render/{_FRAME}\.png", re.ASCII)
_PICTURE = re.compile(rf"{_CAMERA}/{_FRAME}\.(?:jpe?g|png)", re.ASCII)
_MEASURED = re.compile(rf"{_CAMERA}/metrics_input/{_FRAME}\.(?:jpe?g|png)", re.ASCII)


@dataclass(frozen=True)
class View:
    """One image to compare: a camera at a frame."""

    cam_id: int
    fname: str

    def __str__(self) -> str:
        return f"cam_{self.cam_id}/{self.fname}"


@dataclass(frozen=True)
class EvaluatedViews:
    """The views of a scene, by camera and frame number, and those left out with the reason."""

    views: tuple[View, ...]
    left_out: dict[str, str]


def evaluated_views(cell: EvaluationCell) -> EvaluatedViews:
    """The views that the experiment asks for and the scene has everything for.

    Skip frames are taken out first, then every `stride`-th frame of those that any camera has is kept, then `max_per_camera`
    counts: so that all cameras are compared at the same moments.

    Raises:
        InvalidExperiment: the experiment names a camera that the scene lacks, or the source camera.
    """
    if "views" not in cell.looked_up:
        cell.looked_up["views"] = _evaluated_views(cell)
    found: EvaluatedViews = cell.looked_up["views"]
    return found


def _evaluated_views(cell: EvaluationCell) -> EvaluatedViews:
    scene, source, cameras = cell.scene, cell.source_camera(), evaluated_cameras(cell)
    listed = {fname for cam in cameras for fname in scene.frames(cam, apply_skip_frames=cell.applies_skip_frames)}
    masked = any(scene.mask_path(cam, fname) for cam in cameras for fname in scene.frames(cam))

    def lacks(view: View) -> str | None:
        if scene.image_path(view.cam_id, view.fname) is None:
            return "there is no ground-truth image"
        if scene.image_path(source, view.fname) is None:
            return f"the source camera {source} has no image of this frame, so there is no reference"
        if view.fname not in scene.camera_files(view.cam_id).paths:
            return "the camera has no calibration at this frame"
        if masked and scene.mask_path(view.cam_id, view.fname) is None:
            return "there is no union mask"
        return None

    frames = chosen_frames(cell, sorted(listed, key=int))
    return _sorted_out((View(cam, fname) for cam in cameras for fname in frames), lacks)


def _sorted_out(views: Iterable[View], lacks: Callable[[View], str | None]) -> EvaluatedViews:
    reasons = {view: lacks(view) for view in views}
    left_out = {str(view): reason for view, reason in reasons.items() if reason is not None}
    return EvaluatedViews(tuple(view for view, reason in reasons.items() if reason is None), left_out)


def evaluated_cameras(cell: EvaluationCell) -> list[int]:
    """The target cameras: those of `evaluation.cameras`, else those of the samples; never the source camera.

    Raises:
        InvalidExperiment: a named camera has no images, or it is the source camera.
    """
    source, named = cell.source_camera(), cell.experiment.evaluation.cameras
    if not named:
        return [cam for cam in plan.target_cameras(cell.scene, cell.experiment.generation, source) if cam != source]
    there = [cam for cam in cell.scene.camera_ids() if cam != source]
    unknown = sorted(set(named) - set(there))
    if unknown:
        raise InvalidExperiment(
            f"the scene `{cell.scene.name}` cannot be evaluated at a camera that the experiment names",
            file=cell.scene.tree.ground_truth.images_dir,
            key="evaluation.cameras",
            found=unknown,
            wanted=f"cameras of {there} (the source camera {source} is the reference)",
        )
    return sorted(set(named))


def why_nvs_is_absent(cell: EvaluationCell) -> str | None:
    """Why a scene has no view to compare; None where it has, or where only a tree that others write can tell."""
    if cell.experiment.evaluation.predictions.source != "refine":
        images = any(cell.scene.image_files(cam_id).paths for cam_id in cell.scene.camera_ids())
        return None if images else "the scene has no ground-truth image"
    chosen = evaluated_views(cell)
    if chosen.views:
        return None
    reasons = "; ".join(sorted(set(chosen.left_out.values()))[:5])
    return f"no view can be compared: {reasons or 'no target camera has a chosen frame'}"


def chosen_frames(cell: EvaluationCell, frames: Sequence[str]) -> list[str]:
    """Every `stride`-th of the frames, at most `max_per_camera` (0 = all)."""
    choice = cell.experiment.evaluation.frames
    return list(frames[:: choice.stride])[: choice.max_per_camera or None]


def pose_frames(cell: EvaluationCell, model: BodyModel) -> list[str]:
    """Chosen frames with a ground-truth body of the model, in numeric order."""
    return chosen_frames(cell, cell.scene.body_frames(model, apply_skip_frames=cell.applies_skip_frames))


def read_predictions(task: TaskTree) -> PredictionRecord:
    """What the predictions of a task say of themselves.

    Raises:
        InvalidFile: there are none, or their record cannot be read.
    """
    return storage.read_json(task.prediction_record, PredictionRecord)


def predicted_views(task: TaskTree) -> list[View]:
    """The views that lie under `nvs/inputs/`, by camera and frame number. Other names are passed over."""
    return list(_pictures(task.inputs_dir, "cam_*/render/*.png", _RENDER))


def source_renders(task: TaskTree) -> dict[View, Path]:
    """The renders of a tree that others write, by camera and frame number: those under `nvs/inputs/`; where there are none, the
    pictures that its own metric was of (`MEASURED`), which may be smaller than the photographs, and JPEG.
    """
    renders = _pictures(task.inputs_dir, "cam_*/render/*.png", _RENDER)
    return renders or measured_pictures(task, "pred")


def measured_pictures(task: TaskTree, side: str) -> dict[View, Path]:
    """What a pipeline of the user's measured and kept, by camera and frame number. `side`: `pred` or `gt_inputs`."""
    return _pictures(task.base / side, "cam_*/metrics_input/*", _MEASURED)


def pictured_views(folder: Path) -> list[View]:
    """The views of which a folder `pred/` or `gt_inputs/` has the picture that the document names, by camera and frame number."""
    return list(_pictures(folder, "cam_*/*", _PICTURE))


def _pictures(folder: Path, glob: str, form: re.Pattern[str]) -> dict[View, Path]:
    found: dict[View, Path] = {}
    for path in sorted(folder.glob(glob)):
        if match := form.fullmatch(path.relative_to(folder).as_posix()):
            found[View(int(match["cam"]), match["frame"])] = path
    return dict(sorted(found.items(), key=lambda item: (item[0].cam_id, int(item[0].fname))))


def no_views(cell: EvaluationCell, left_out: dict[str, str]) -> InvalidScene:
    """The error for a scene without anything to compare."""
    return InvalidScene(
        f"no view of `{cell.scene.name}` can be compared",
        file=cell.scene.tree.ground_truth.base,
        found="; ".join(sorted(set(left_out.values()))[:5]) or "no target camera has a chosen frame",
        wanted="a target camera's image, calibration and render, and the source camera's image, of one frame at least",
    )


def why_not_taken(cell: EvaluationCell, task_name: str) -> str | None:
    """Why an existing tree lacks a task altogether, or cannot give it; None where any of the epochs has it."""
    tree = source_tree(cell)
    if tree is not None and links_numbers(cell) and tree.adopted.is_file():
        damaged = storage.read_json(tree.adopted, AdoptedTree).damaged.get(task_name)
        if damaged is not None:
            return f"{DAMAGED}: {damaged}"
    if tree is None or any(tree.task(epoch, task_name).base.is_dir() for epoch in cell.epoch_steps()):
        return None
    if task_name != "nvs" and not links_numbers(cell):
        return None  # Measured here, on the estimates of the preprocessing root.
    return f"the tree {tree.base} has no evaluation/<epoch>/{task_name} of the named epochs"


def epochs_on_disk(tree: EvaluationTree) -> list[int]:
    """The epochs that a tree has folders of, whatever they hold. Other names are passed over."""
    found: list[int] = []
    for path in sorted(tree.evaluation_dir.iterdir()) if tree.evaluation_dir.is_dir() else []:
        with contextlib.suppress(InvalidKey):  # not an epoch's folder: `layout_version_is_v1` says so
            found.append(parse_epoch(path.name))
    return found


def source_views(cell: EvaluationCell, source: TaskTree) -> EvaluatedViews:
    """The renders of a source tree's task that are evaluated, the source camera's too; and those left out, with the reason.

    Cameras are those of `evaluation.cameras` where it names any; frames are chosen by `evaluation.frames`, after the skip frames.
    """
    found = source_renders(source)
    named = set(cell.experiment.evaluation.cameras)
    skipped = cell.scene.skip_frames() if cell.applies_skip_frames else set()
    frames = sorted({view.fname for view in found if int(view.fname) not in skipped}, key=int)
    chosen = set(chosen_frames(cell, frames))

    def lacks(view: View) -> str | None:
        if cell.scene.image_path(view.cam_id, view.fname) is None:
            return "there is no ground-truth image"
        if found[view].stat().st_size == 0:
            return "the render is an empty file"
        return None

    wanted = (view for view in found if view.fname in chosen and (not named or view.cam_id in named))
    return _sorted_out(wanted, lacks)


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
