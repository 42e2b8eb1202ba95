"""The motion of each frame that brings a scene's ground truth into the predicted world, and the source camera there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.pose_inputs import BodyFrames, read_matched
from thesis_assets.evaluation.pose_metrics import Array
from thesis_assets.evaluation.world_alignment import RigidMotion, by_pelvis_trajectory, by_source_camera
from thesis_assets.scenes.camera import read_camera

ESTIMATED_CAMERA = "the estimated source camera"
MOVED_CAMERA = "the true source camera, moved with the ground truth"


@dataclass(frozen=True, eq=False)
class WorldMotions:
    """How a scene's ground truth is moved.

    Attributes:
        shared: one motion for all frames (`pelvis_trajectory`), or None.
        own: a motion a frame (`camera`).
        predicted_extrinsics: (3, 4) of the estimated source camera by frame; empty unless every usable frame has one.
        true_extrinsics: (3, 4) of the true source camera by frame.
        left_out: frames that cannot be moved, each with the reason.
    """

    shared: RigidMotion | None
    own: dict[str, RigidMotion]
    predicted_extrinsics: dict[str, Array]
    true_extrinsics: dict[str, Array]
    left_out: dict[str, str]

    @property
    def depth_camera(self) -> str:
        """Which camera orders people in depth: one for all frames, so that they compare."""
        return ESTIMATED_CAMERA if self.predicted_extrinsics else MOVED_CAMERA

    def of_frame(self, fname: str) -> RigidMotion:
        return self.shared if self.shared is not None else self.own[fname]

    def source_extrinsics(self, fname: str) -> Array | None:
        """(3, 4) of the source camera in the predicted world; None where it has no calibration at the frame."""
        if self.predicted_extrinsics:
            return self.predicted_extrinsics[fname]
        if fname not in self.true_extrinsics:
            return None
        back = self.of_frame(fname).inverse()
        seen = RigidMotion.of(self.true_extrinsics[fname])
        moved = RigidMotion(seen.rotation @ back.rotation, seen.move(back.translation))
        return np.asarray(moved.matrix[:3])


def world_motions(cell: EvaluationCell, frames: BodyFrames) -> WorldMotions:
    """The motions by `evaluation.pose.world_alignment`.

    Raises:
        InvalidFile: a camera or body file cannot be read.
    """
    source = cell.source_camera()
    height, width = cell.scene.image_size(source)
    predicted, true = (
        {fname: read_camera(path, source, height, width).extrinsics for fname, path in paths.items()}
        for paths in (frames.predicted_cameras, frames.true_cameras)
    )
    if cell.experiment.evaluation.pose.world_alignment == "camera":
        both = [fname for fname in frames.usable if fname in predicted and fname in true]
        own = {fname: by_source_camera(predicted[fname], true[fname]) for fname in both}
        reason = f"the source camera {source} has no calibration in both roots at this frame"
        left_out = {fname: reason for fname in frames.usable if fname not in own}
        return WorldMotions(None, own, {fname: predicted[fname] for fname in both}, true, left_out)
    roots = [_roots(cell, frames, fname) for fname in frames.usable]
    shared = by_pelvis_trajectory([predicted for predicted, _ in roots], [true for _, true in roots])
    complete = predicted.keys() >= set(frames.usable)
    return WorldMotions(shared, {}, predicted if complete else {}, true, {})


def _roots(cell: EvaluationCell, frames: BodyFrames, fname: str) -> tuple[Array, Array]:
    """(P, 3) pelvis positions of both sides: all that is kept of a frame while the others are read."""
    matched = read_matched(cell, frames, fname)
    return matched.predicted.roots.copy(), matched.true.roots.copy()
