"""Which views of a scene are compared: target cameras and frames, and which of them lack something, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thesis_assets.errors import InvalidExperiment
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.samples import plan
from thesis_assets.scenes.bodies import BodyModel
from thesis_assets.scenes.scene import Scene


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

    @property
    def cameras(self) -> list[int]:
        return sorted({view.cam_id for view in self.views})


def evaluated_views(cell: EvaluationCell) -> EvaluatedViews:
    """The views that the experiment asks for and the scene has everything for.

    Skip frames are taken out first, then every `stride`-th frame of those that any camera has is kept, then `max_per_camera`
    counts: so that all cameras are compared at the same moments.

    Raises:
        InvalidExperiment: the experiment names a camera that the scene lacks, or the source camera.
    """
    scene, source, cameras = cell.scene, cell.source_camera(), evaluated_cameras(cell)
    listed = {fname for cam in cameras for fname in scene.frames(cam, apply_skip_frames=cell.applies_skip_frames)}
    masked = has_masks(scene, cameras)
    kept: list[View] = []
    left_out: dict[str, str] = {}
    for view in (View(cam, fname) for cam in cameras for fname in chosen_frames(cell, sorted(listed, key=int))):
        reason = _lacks(scene, view, source, masked)
        if reason is None:
            kept.append(view)
        else:
            left_out[str(view)] = reason
    return EvaluatedViews(tuple(kept), left_out)


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


def has_masks(scene: Scene, cameras: Sequence[int]) -> bool:
    """Whether any of the cameras has a union mask; a scene without counts as one whole mask."""
    return any(scene.mask_path(cam, fname) for cam in cameras for fname in scene.frames(cam))


def _lacks(scene: Scene, view: View, source: int, masked: bool) -> str | None:
    if scene.image_path(view.cam_id, view.fname) is None:
        return "there is no ground-truth image"
    if scene.image_path(source, view.fname) is None:
        return f"the source camera {source} has no image of this frame, so there is no reference"
    if view.fname not in scene.camera_files(view.cam_id).paths:
        return "the camera has no calibration at this frame"
    if masked and scene.mask_path(view.cam_id, view.fname) is None:
        return "there is no union mask"
    return None
