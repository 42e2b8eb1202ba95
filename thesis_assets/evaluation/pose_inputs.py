"""Which frames of a scene have bodies on both sides, reading them, and why a pose task may be absent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.matched_people import MatchedPeople, match_people
from thesis_assets.evaluation.views import pose_frames
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.listing import file_with_content


@dataclass(frozen=True, eq=False)
class BodyFrames:
    """The frames of a pose task.

    Attributes:
        predicted: the estimated body file by frame.
        true: the ground-truth body file by frame; the same frames.
        predicted_cameras: the estimated source camera by frame, where it is there.
        true_cameras: the true source camera by frame, where it is there.
        left_out: frames of the ground truth without a partner, each with the reason.
    """

    model: BodyModel
    predicted: dict[str, Path]
    true: dict[str, Path]
    predicted_cameras: dict[str, Path]
    true_cameras: dict[str, Path]
    left_out: dict[str, str]

    @property
    def usable(self) -> list[str]:
        """In numeric order."""
        return list(self.predicted)

    @property
    def stamped(self) -> dict[str, list[Path]]:
        """Every file that a frame's numbers depend on."""
        cameras = (self.predicted_cameras, self.true_cameras)
        return {
            fname: [path, self.true[fname], *(camera[fname] for camera in cameras if fname in camera)]
            for fname, path in self.predicted.items()
        }


def body_model(task_name: str) -> BodyModel:
    """`pose_smplx` -> `smplx`."""
    return "smplx" if task_name == "pose_smplx" else "smpl"


def body_frames(cell: EvaluationCell, task_name: str) -> BodyFrames:
    """The chosen frames that have a body file with joints and vertices on both sides."""
    scene, model, source = cell.scene, body_model(task_name), cell.source_camera()
    predicted: dict[str, Path] = {}
    true: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for fname in pose_frames(cell, model):
        ours, theirs = scene.body_path(model, fname, estimated=True), scene.body_path(model, fname)
        reason = _why_unusable(model, ours, theirs)
        if reason is not None or ours is None or theirs is None:
            left_out[fname] = str(reason)
        else:
            predicted[fname], true[fname] = ours, theirs
    known = scene.camera_files(source).paths
    return BodyFrames(
        model,
        predicted,
        true,
        _estimated_cameras(cell, list(predicted)),
        {fname: known[fname] for fname in predicted if fname in known},
        left_out,
    )


def _estimated_cameras(cell: EvaluationCell, frames: list[str]) -> dict[str, Path]:
    """The estimated source camera's files, where they are there."""
    paths = {fname: cell.scene.tree.estimated.camera(cell.source_camera(), fname) for fname in frames}
    return {fname: path for fname, path in paths.items() if file_with_content(path, cell.scene.roots)}


def _why_unusable(model: BodyModel, ours: Path | None, theirs: Path | None) -> str | None:
    if ours is None or theirs is None:
        return f"there is no estimated {model} file"
    for side, path in (("estimated", ours), ("ground-truth", theirs)):
        try:
            bodies = read_bodies(path, model)
        except InvalidFile as error:  # one bad frame is left out and named; the others are measured
            return f"the {side} {model} file cannot be used: {error.problem}" + (f" ({error.key})" if error.key else "")
        lacking = [name for name in ("joints", "vertices") if getattr(bodies, name) is None]
        if lacking:
            return (
                f"the {side} {model} file has no {' and no '.join(lacking)}: write them into the .npz "
                "(`joints` (P, J, 3), `vertices` (P, V, 3), metres), since body models are not run in this version"
            )
    return None


def read_matched(cell: EvaluationCell, frames: BodyFrames, fname: str) -> MatchedPeople:
    """The people of one frame, matched by the scene's identity mapping.

    Raises:
        InvalidFile: the two sides differ in their number of joints or vertices.
        InvalidScene: the mapping does not fit.
    """
    files = (frames.predicted[fname], frames.true[fname])
    ours, theirs = (read_bodies(path, frames.model) for path in files)
    return match_people(fname, ours, theirs, cell.scene.identity_mapping(), files)


def why_pose_is_absent(cell: EvaluationCell, task_name: str) -> str | None:
    """Why a scene cannot have a pose task; None where it can. Reads no further than the first frame that can be compared."""
    scene, model = cell.scene, body_model(task_name)
    frames = pose_frames(cell, model)
    if not frames:
        return f"the scene has no ground-truth {model} bodies: {scene.tree.ground_truth.bodies_dir(model)}/<frame>.npz"
    if cell.experiment.evaluation.pose.world_alignment == "camera":
        known = scene.camera_files(cell.source_camera()).paths.keys()
        frames = [fname for fname in _estimated_cameras(cell, frames) if fname in known]
        if not frames:
            place = scene.tree.estimated.cameras_dir / str(cell.source_camera())
            return f"alignment by `camera` needs the source camera in both roots: {place}/<frame>.npz"
    reasons: set[str] = set()
    for fname in frames:
        paths = scene.body_path(model, fname, estimated=True), scene.body_path(model, fname)
        reason = _why_unusable(model, *paths)
        if reason is None:
            return None
        reasons.add(reason)
    return f"no frame can be compared: {'; '.join(sorted(reasons))}"
