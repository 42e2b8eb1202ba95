"""The bodies of a pose task: frames that have them on both sides, who is who, and how the ground truth moves into the predicted world.

Does not belong here: any distance (`pose_metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.evaluation.pose_metrics import (
    OF_THE_ROTATION,
    ROOT_JOINT,
    WELL_CONDITIONED,
    Array,
    MatchedPeople,
    People,
    RigidFit,
    RigidMotion,
    by_source_camera,
    finite_people,
    fit_rigid,
    with_common_joints,
)
from thesis_assets.evaluation.views import pose_frames, source_bodies
from thesis_assets.scenes.bodies import NEUTRAL, Bodies, BodyModel, is_complete, model_files, posed_bodies, read_bodies
from thesis_assets.scenes.camera import read_camera
from thesis_assets.scenes.listing import list_frames

ESTIMATES = "estimates of the preprocessing root"
OF_THE_TREE = "inputs of the tree that the predictions come from"
ESTIMATED_CAMERA = "the estimated source camera"
MOVED_CAMERA = "the true source camera, moved with the ground truth"
MAPPING = "identity_alignment.manual_preproc_to_gt"
NOBODY = "nobody of the ground truth is there, and finite, in the prediction"


def identity_pairs(
    n_predicted: int, n_true: int, mapping: dict[int, int] | None, file: Path
) -> tuple[tuple[int, int], ...]:
    """(predicted, true) indices of the people that both sides have, by true index; nobody, where no one is predicted.

    Raises:
        InvalidScene: two predicted people are mapped to one.
    """
    wanted = {index: index for index in range(n_predicted)} if mapping is None else mapping
    pairs = [(ours, theirs) for ours, theirs in wanted.items() if 0 <= ours < n_predicted and 0 <= theirs < n_true]
    if len({theirs for _, theirs in pairs}) < len(pairs):
        raise InvalidScene(
            "the identity mapping does not give each person one partner",
            file=file,
            key=MAPPING,
            found=wanted,
            wanted=f"estimated index (0 to {n_predicted - 1}) to ground-truth index (0 to {n_true - 1}), each once",
            remedy="correct the mapping in the scene's registry entry",
        )
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


@dataclass(frozen=True, eq=False)
class BodyFrames:
    """The frames of a pose task.

    Attributes:
        predicted: the predicted body file by frame.
        true: the ground-truth body file by frame; the same frames.
        predicted_cameras: the estimated source camera by frame, where it is there.
        true_cameras: the true source camera by frame, where it is there.
        left_out: frames of the ground truth without a partner, each with the reason.
        missing: of those that the prediction lacks, the number of true people.
        origin: where the predicted bodies come from.
        model_files: of the body models that give joints and vertices to files without them.
    """

    model: BodyModel
    predicted: dict[str, Path]
    true: dict[str, Path]
    predicted_cameras: dict[str, Path]
    true_cameras: dict[str, Path]
    left_out: dict[str, str]
    missing: dict[str, int]
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
    missing: dict[str, int] = {}
    models: set[Path] = set()
    of_tree = source_bodies(cell, epoch, task_name)
    for fname in pose_frames(cell, model):
        ours, theirs = _predicted_path(cell, model, fname, of_tree), scene.body_path(model, fname)
        reason, needed, n_true = _why_unusable(cell, model, ours, theirs)
        if reason is not None or ours is None or theirs is None:
            left_out[fname] = str(reason)
            missing |= {fname: n_true} if n_true else {}
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
        missing,
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
) -> tuple[str | None, list[Path], int]:
    """The reason, or None; the files of body models that the two need; and how many true people the prediction lacks by it."""
    if theirs is None:
        return f"there is no ground-truth {model} file", [], 0
    needed: list[Path] = []
    for side, path in (("predicted", ours), ("ground-truth", theirs)):
        predicted = side == "predicted"
        if path is None:
            return f"there is no predicted {model} file", [], _n_people(theirs, model)
        try:
            bodies = read_bodies(path, model, finite=not predicted)
        except InvalidFile as error:  # one bad frame is left out and named; the others are measured
            reason = f"the {side} {model} file cannot be used: {error.problem}"
            lacking = _n_people(theirs, model) if predicted else 0
            return reason + (f" ({error.key})" if error.key else ""), [], lacking
        if is_complete(bodies) or bodies.n_people == 0:
            continue
        try:
            needed += model_files(cell.body_models, model, _genders(cell, bodies, predicted=predicted))
        except InvalidFile as error:
            return _without_points(side, bodies, error), [], 0
    return None, needed, 0


def _n_people(path: Path, model: BodyModel) -> int:
    """In a file of the ground truth; nobody where it cannot be used: then no prediction is compared with it."""
    try:
        return read_bodies(path, model).n_people
    except InvalidFile:
        return 0


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
    bodies = read_bodies(path, model, finite=not predicted)
    if is_complete(bodies) or bodies.n_people == 0:
        return bodies
    return posed_bodies(bodies, cell.body_models, _genders(cell, bodies, predicted=predicted))


def read_matched(cell: EvaluationCell, frames: BodyFrames, fname: str) -> MatchedPeople:
    """The people of one frame that both sides have, matched by the scene's identity mapping; those that are not finite count as missing.

    Of SMPL with 24 joints on one side and 45 on the other, the first 24 are taken of both.

    Raises:
        InvalidFile: joints or vertices are missing, or the two sides differ in their number otherwise.
        InvalidScene: the mapping does not fit.
    """
    files = (frames.predicted[fname], frames.true[fname])
    predicted = read_points(cell, files[0], frames.model, predicted=True)
    true = read_points(cell, files[1], frames.model, predicted=False)
    theirs = _points_of(true, files[1])
    ours = (
        People(theirs.joints[:0], theirs.vertices[:0]) if predicted.n_people == 0 else _points_of(predicted, files[0])
    )
    file_joints = (ours.joints.shape[1], theirs.joints.shape[1])
    ours, theirs = with_common_joints(ours, theirs, frames.model)
    for name, one, other in (("joints", ours.joints, theirs.joints), ("vertices", ours.vertices, theirs.vertices)):
        if one.shape[1] != other.shape[1]:
            raise InvalidFile(
                "prediction and ground truth differ in their number of points",
                file=files[0],
                key=name,
                found=one.shape[1],
                wanted=f"{other.shape[1]}, as in {files[1]}",
            )
    finite = finite_people(ours.joints, ours.vertices)
    named = identity_pairs(predicted.n_people, true.n_people, cell.scene.identity_mapping(), files[0])
    pairs = tuple(pair for pair in named if finite[pair[0]])
    both = len(pairs) == 2 and true.n_people == 2
    return MatchedPeople(
        fname=fname,
        predicted=ours.of([pair[0] for pair in pairs]),
        true=theirs.of([pair[1] for pair in pairs]),
        contact=true.contact if both else None,
        faces=true.faces if true.faces is not None else predicted.faces,
        pairs=pairs,
        n_true=true.n_people,
        file_joints=file_joints,
    )


def of_the_rotation(depth_camera: str) -> tuple[str, ...]:
    """The metrics that turn with the ground truth; the older order in depth does where its camera was moved along."""
    return (*OF_THE_ROTATION, "pcdr_legacy") if depth_camera == MOVED_CAMERA else OF_THE_ROTATION


def _points_of(bodies: Bodies, path: Path) -> People:
    if bodies.joints is None or bodies.vertices is None:
        raise InvalidFile(
            "the body file has no joints or no vertices",
            file=path,
            wanted="`joints` (P, J, 3) and `vertices` (P, V, 3) beside the parameters",
        )
    return People(bodies.joints, bodies.vertices)


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
        reason, *_ = _why_unusable(cell, model, *paths)
        if reason is None:
            return None
        reasons.add(reason)
    return f"no frame can be compared: {'; '.join(sorted(reasons))}"


@dataclass(frozen=True, eq=False)
class WorldMotions:
    """How a scene's ground truth is moved.

    Attributes:
        alignment: `evaluation.pose.world_alignment`.
        fit: one motion for all frames, fitted to joints (`all_joints`) or pelvises (`pelvis_trajectory`); None by `camera`.
        own: a motion a frame, by `camera`.
        predicted_extrinsics: (3, 4) of the estimated source camera by frame; empty unless every usable frame has one.
        true_extrinsics: (3, 4) of the true source camera by frame.
        left_out: frames that cannot be moved, each with the reason.
        missing: true people, by their index, whom the prediction lacks, by frame; also of frames that are left out for it.
        file_joints: the numbers of joints, (predicted, true), that the compared files have.
    """

    alignment: str
    fit: RigidFit | None
    own: dict[str, RigidMotion]
    predicted_extrinsics: dict[str, Array]
    true_extrinsics: dict[str, Array]
    left_out: dict[str, str]
    missing: dict[str, tuple[int, ...]]
    file_joints: frozenset[tuple[int, int]]

    @property
    def depth_camera(self) -> str:
        """Which camera orders people in depth: one for all frames, so that they compare."""
        return ESTIMATED_CAMERA if self.predicted_extrinsics else MOVED_CAMERA

    @property
    def is_conditioned(self) -> bool:
        """Whether the rotation is to be relied on; by `camera` it is the calibrations', and nothing was fitted."""
        return self.fit is None or self.fit.second_to_first >= WELL_CONDITIONED[self.alignment]

    def of_frame(self, fname: str) -> RigidMotion:
        return self.fit.motion if self.fit is not None else self.own[fname]

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
    """The motions by `evaluation.pose.world_alignment`, of the frames where the prediction has anybody.

    Raises:
        InvalidFile: a camera or body file cannot be read, or frames differ in the number of joints that both sides have.
        InvalidScene: the identity mapping does not fit, or the prediction has nobody of the ground truth.
    """
    source, alignment = cell.source_camera(), cell.experiment.evaluation.pose.world_alignment
    height, width = cell.scene.image_size(source)
    predicted, true = (
        {fname: read_camera(path, source, height, width).extrinsics for fname, path in paths.items()}
        for paths in (frames.predicted_cameras, frames.true_cameras)
    )
    both = [fname for fname in frames.usable if fname in predicted and fname in true]
    reason = f"the source camera {source} has no calibration in both roots at this frame"
    moved = both if alignment == "camera" else frames.usable
    left_out = {fname: reason for fname in frames.usable if fname not in moved}
    missing = {fname: tuple(range(n_true)) for fname, n_true in frames.missing.items()}
    points: list[tuple[Array, Array]] = []
    file_joints: set[tuple[int, int]] = set()
    first_with: dict[int, str] = {}
    joints = slice(None) if alignment == "all_joints" else slice(ROOT_JOINT, ROOT_JOINT + 1)
    for fname in moved:
        matched = read_matched(cell, frames, fname)  # of a frame only these points are kept while the others are read
        there = {theirs for _, theirs in matched.pairs}
        if lacking := tuple(person for person in range(matched.n_true) if person not in there):
            missing[fname] = lacking
        if not there:
            left_out[fname] = NOBODY
        else:
            file_joints.add(matched.file_joints)
            first_with.setdefault(matched.true.joints.shape[1], fname)
        points.append(
            (matched.true.joints[:, joints].reshape(-1, 3), matched.predicted.joints[:, joints].reshape(-1, 3))
        )
    missing = dict(sorted(missing.items()))
    if len(first_with) > 1:
        other = list(first_with.values())[1]
        raise InvalidFile(
            "frames differ in the number of joints that both sides have",
            file=frames.predicted[other],
            key="joints",
            found=", ".join(f"{number} at frame {fname}" for number, fname in first_with.items()),
            wanted="one number at all frames",
            remedy="save all files of a side with the same joints: `joints[:, :24]` are SMPL's own",
        )
    if moved and not any(len(of_frame) for of_frame, _ in points):
        raise InvalidScene(
            "the prediction has nobody of the ground truth at any frame",
            file=cell.scene.tree.registry_entry,
            key=MAPPING,
            found=cell.scene.identity_mapping() or "no mapping: each index is itself",
            wanted="estimated index to ground-truth index of people with finite joints and vertices",
            remedy="correct the mapping in the scene's registry entry, or the predicted body files",
        )
    if alignment == "camera":
        own = {fname: by_source_camera(predicted[fname], true[fname]) for fname in both}
        cameras = {fname: predicted[fname] for fname in both}
        return WorldMotions(alignment, None, own, cameras, true, left_out, missing, frozenset(file_joints))
    fit = fit_rigid(*(np.concatenate(side) for side in zip(*points, strict=True)))
    complete = predicted.keys() >= set(frames.usable)
    cameras = predicted if complete else {}
    return WorldMotions(alignment, fit, {}, cameras, true, left_out, missing, frozenset(file_joints))
