"""Which frames of a scene have bodies on both sides, reading them, and why a pose task may be absent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.matched_people import MatchedPeople, match_people
from thesis_assets.evaluation.source_trees import source_bodies
from thesis_assets.evaluation.views import pose_frames
from thesis_assets.scenes.bodies import NEUTRAL, Bodies, BodyModel, is_complete, model_files, posed_bodies, read_bodies
from thesis_assets.scenes.listing import list_frames

ESTIMATES = "estimates of the preprocessing root"
OF_THE_TREE = "inputs of the tree that the predictions come from"


@dataclass(frozen=True, eq=False)
class BodyFrames:
    """The frames of a pose task.

    Attributes:
        predicted: the predicted body file by frame.
        true: the ground-truth body file by frame; the same frames.
        predicted_cameras: the estimated source camera by frame, where it is there.
        true_cameras: the true source camera by frame, where it is there.
        left_out: frames of the ground truth without a partner, each with the reason.
        origin: where the predicted bodies come from.
        model_files: of the body models that give joints and vertices to files without them.
    """

    model: BodyModel
    predicted: dict[str, Path]
    true: dict[str, Path]
    predicted_cameras: dict[str, Path]
    true_cameras: dict[str, Path]
    left_out: dict[str, str]
    origin: str
    model_files: tuple[Path, ...]

    @property
    def usable(self) -> list[str]:
        """In numeric order."""
        return list(self.predicted)


def body_model(task_name: str) -> BodyModel:
    """`pose_smplx` -> `smplx`."""
    return "smplx" if task_name == "pose_smplx" else "smpl"


def body_frames(cell: EvaluationCell, task_name: str, epoch: int) -> BodyFrames:
    """The chosen frames that have a body on both sides, with joints and vertices in the file or from a body model."""
    scene, model, source = cell.scene, body_model(task_name), cell.source_camera()
    predicted: dict[str, Path] = {}
    true: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    models: set[Path] = set()
    of_tree = source_bodies(cell, epoch, task_name)
    for fname in pose_frames(cell, model):
        ours, theirs = _predicted_path(cell, model, fname, of_tree), scene.body_path(model, fname)
        reason, needed = _why_unusable(cell, model, ours, theirs)
        if reason is not None or ours is None or theirs is None:
            left_out[fname] = str(reason)
        else:
            predicted[fname], true[fname] = ours, theirs
            models.update(needed)
    known = scene.camera_files(source).paths
    return BodyFrames(
        model,
        predicted,
        true,
        estimated_cameras(cell, list(predicted)),
        {fname: known[fname] for fname in predicted if fname in known},
        left_out,
        OF_THE_TREE if of_tree else ESTIMATES,
        tuple(sorted(models)),
    )


def _predicted_path(cell: EvaluationCell, model: BodyModel, fname: str, of_tree: dict[str, Path]) -> Path | None:
    return of_tree.get(fname) if of_tree else cell.scene.body_path(model, fname, estimated=True)


def estimated_cameras(cell: EvaluationCell, frames: list[str]) -> dict[str, Path]:
    """The estimated source camera's files, where they are there."""
    folder = cell.scene.tree.estimated.cameras_dir / str(cell.source_camera())
    there = list_frames(folder, (".npz",), cell.scene.roots).paths
    return {fname: there[fname] for fname in frames if fname in there}


def _why_unusable(
    cell: EvaluationCell, model: BodyModel, ours: Path | None, theirs: Path | None
) -> tuple[str | None, list[Path]]:
    """The reason, or None; and the files of body models that the two need."""
    if ours is None or theirs is None:
        return f"there is no predicted {model} file", []
    needed: list[Path] = []
    for side, path in (("predicted", ours), ("ground-truth", theirs)):
        try:
            bodies = read_bodies(path, model)
        except InvalidFile as error:  # one bad frame is left out and named; the others are measured
            reason = f"the {side} {model} file cannot be used: {error.problem}"
            return reason + (f" ({error.key})" if error.key else ""), []
        if is_complete(bodies):
            continue
        try:
            needed += model_files(cell.body_models, model, _genders(cell, bodies, predicted=side == "predicted"))
        except InvalidFile as error:
            return _without_points(side, bodies, error), []
    return None, needed


def _without_points(side: str, bodies: Bodies, error: InvalidFile) -> str:
    lacking = " and ".join(f"no {name}" for name in ("joints", "vertices") if getattr(bodies, name) is None)
    found = f"{error.key}: {error.found}" if error.key else None
    where = "; ".join(part for part in (error.problem, found, error.file, error.remedy) if part)
    return (
        f"the {side} {bodies.model} file has {lacking}, and the body model cannot give them: {where}. "
        "Or write them into the .npz: `joints` (P, J, 3), `vertices` (P, V, 3), metres"
    )


def _genders(cell: EvaluationCell, bodies: Bodies, *, predicted: bool) -> list[str]:
    """One gender a person: neutral for every prediction and for SMPL-X; the SMPL ground truth by `meta.npz`."""
    if predicted or bodies.model == "smplx":
        return [NEUTRAL] * bodies.n_people
    genders = [gender.lower() for gender in cell.scene.genders()]
    if len(genders) != bodies.n_people:
        raise InvalidFile(
            "the SMPL ground truth is posed by gender, and meta.npz does not name one a person",
            file=cell.scene.tree.ground_truth.meta,
            key="genders",
            found=genders,
            wanted=f"{bodies.n_people} of female, male, neutral",
            remedy='write it: `genders`, such as ["female", "male"]',
        )
    return genders


def read_points(cell: EvaluationCell, path: Path, model: BodyModel, *, predicted: bool) -> Bodies:
    """The bodies of a file, with joints and vertices: its own, else from the body model.

    Raises:
        InvalidFile: the file, or the body model's, is missing or cannot be read.
    """
    bodies = read_bodies(path, model)
    if is_complete(bodies) or bodies.n_people == 0:
        return bodies
    return posed_bodies(bodies, cell.body_models, _genders(cell, bodies, predicted=predicted))


def read_matched(cell: EvaluationCell, frames: BodyFrames, fname: str) -> MatchedPeople:
    """The people of one frame, matched by the scene's identity mapping.

    Raises:
        InvalidFile: the two sides differ in their number of joints or vertices.
        InvalidScene: the mapping does not fit.
    """
    files = (frames.predicted[fname], frames.true[fname])
    ours = read_points(cell, files[0], frames.model, predicted=True)
    theirs = read_points(cell, files[1], frames.model, predicted=False)
    return match_people(fname, ours, theirs, cell.scene.identity_mapping(), files)


def why_pose_is_absent(cell: EvaluationCell, task_name: str) -> str | None:
    """Why a scene cannot have a pose task; None where it can. Reads no further than the first frame that can be compared."""
    scene, model = cell.scene, body_model(task_name)
    frames = pose_frames(cell, model)
    if not frames:
        return f"the scene has no ground-truth {model} bodies: {scene.tree.ground_truth.bodies_dir(model)}/<frame>.npz"
    if cell.experiment.evaluation.pose.world_alignment == "camera":
        known = scene.camera_files(cell.source_camera()).paths.keys()
        frames = [fname for fname in estimated_cameras(cell, frames) if fname in known]
        if not frames:
            place = scene.tree.estimated.cameras_dir / str(cell.source_camera())
            return f"alignment by `camera` needs the source camera in both roots: {place}/<frame>.npz"
    reasons: set[str] = set()
    of_tree = next((bodies for epoch in cell.epoch_steps() if (bodies := source_bodies(cell, epoch, task_name))), {})
    for fname in frames:
        paths = _predicted_path(cell, model, fname, of_tree), scene.body_path(model, fname)
        reason, _ = _why_unusable(cell, model, *paths)
        if reason is None:
            return None
        reasons.add(reason)
    return f"no frame can be compared: {'; '.join(sorted(reasons))}"
