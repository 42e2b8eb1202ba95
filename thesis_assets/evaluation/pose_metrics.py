"""Poses: one frame as it lies in the tree, and its numbers; moving the ground truth into the predicted world.

`inputs/<model>/<frame>.npz` is the predicted file as it is, `gt_inputs/<model>/<frame>.npz` the moved ground truth with all else
that the numbers need. Tables are filled, and recomputed, from these two alone. Distances are in millimetres; worlds are moved rigidly,
without scale and without mirror. Every metric takes the matched people of both sides, the same person at the same index.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.bounded_files import read_npz

Array = np.ndarray[Any, np.dtype[Any]]
ROOT_JOINT = 0
"""The pelvis, in SMPL as in SMPL-X."""
SMPL_JOINTS, SMPL_JOINTS_AND_SKIN = 24, 45
"""SMPL's own joints; and with the 21 points of the skin (nose, eyes, ears, fingertips, feet) that its library puts behind them."""
MM_PER_M = 1000.0
EQUAL_DEPTH_M = 0.15
"""A predicted pair stands side by side below this difference in depth, and in a clear order beyond it."""
LAYER_GAP_M = 0.3
"""A gap in true depth wider than this starts a new layer of people."""
NO_CONTACT = 0
NOT_TWO_PEOPLE = "contact is between two people, and this frame has not two on both sides"
NO_CONTACT_ARRAY = "the ground truth has no contact annotation at this frame"
NO_TOUCH = "nobody touches anybody at this frame"
ONE_PERSON = "an order in depth needs two people"
NO_CAMERA = "the source camera has no calibration at this frame"
WELL_CONDITIONED = {"pelvis_trajectory": 0.05, "all_joints": 1e-6}
"""A fitted rotation is relied on where the second singular value of its points is at least this share of the first. Pelvises nearly
on a line leave the turn about it open: of twelve demo cases those below were off by 5 to 176 degrees, those above by at most 5.7.
Joints of a body are never on a line, however far it walks: only points that truly are have no rotation."""
ILL_CONDITIONED = (
    "the points that the two worlds are aligned by lie nearly on a line, so that the rotation is not known: "
    "set `evaluation.pose.world_alignment: all_joints`"
)
UNHELD = "empty_by_the_rotation"
"""Among what a protocol says of the alignment: the metrics that are empty, as the fit does not hold the rotation."""
OF_THE_ROTATION = ("rr_mpjpe_mm", "rr_mve_mm", "pcdr", "mpjpe_mm", "mve_mm", "accel_mm")
"""What turns with the ground truth. The others are measured on the prediction alone, or after a fit of their own."""


@dataclass(frozen=True, eq=False)
class RigidMotion:
    """x -> rotation @ x + translation.

    Attributes:
        rotation: (3, 3), determinant 1.
        translation: (3,) metres.
    """

    rotation: Array
    translation: Array

    def move(self, points: Array) -> Array:
        """Points of any shape (..., 3), moved."""
        return np.asarray(points @ self.rotation.T + self.translation)

    def inverse(self) -> RigidMotion:
        return RigidMotion(self.rotation.T, -self.rotation.T @ self.translation)

    @property
    def matrix(self) -> Array:
        """(4, 4) homogeneous."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.translation
        return matrix

    @classmethod
    def of(cls, matrix: Array) -> RigidMotion:
        """From (4, 4) or (3, 4)."""
        return cls(np.asarray(matrix[:3, :3], dtype=np.float64), np.asarray(matrix[:3, 3], dtype=np.float64))


@dataclass(frozen=True, eq=False)
class People:
    """Bodies of one side: `joints` (P, J, 3) and `vertices` (P, V, 3), metres in that side's world."""

    joints: Array
    vertices: Array

    @property
    def roots(self) -> Array:
        """(P, 3): the pelvis of each person."""
        return self.joints[:, ROOT_JOINT]

    def of(self, order: list[int]) -> People:
        """These people, in this order, in double precision."""
        return People(np.asarray(self.joints[order], np.float64), np.asarray(self.vertices[order], np.float64))


def with_common_joints(one: People, other: People, model: BodyModel) -> tuple[People, People]:
    """Both sides by SMPL's own 24 joints where one has these and the other 45; else as they are."""
    numbers = {one.joints.shape[1], other.joints.shape[1]}
    if model != "smpl" or numbers != {SMPL_JOINTS, SMPL_JOINTS_AND_SKIN}:
        return one, other
    return replace(one, joints=one.joints[:, :SMPL_JOINTS]), replace(other, joints=other.joints[:, :SMPL_JOINTS])


@dataclass(frozen=True, eq=False)
class MatchedPeople:
    """One frame.

    Attributes:
        predicted: in the predicted world.
        true: in the ground truth's own world.
        contact: (2, V) int of the ground truth, None without, or unless both sides are the same two people.
        faces: (F, 3) int, None where neither file has them.
        pairs: (predicted index, true index) of each person who is there, and finite, on both sides; by true index.
        n_true: people in the ground truth, matched or not.
        file_joints: how many joints the predicted file and the true one have; `predicted` and `true` may have the first of them alone.
    """

    fname: str
    predicted: People
    true: People
    contact: Array | None
    faces: Array | None
    pairs: tuple[tuple[int, int], ...]
    n_true: int
    file_joints: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ComparedBodies:
    """One frame, both sides in the predicted world.

    Attributes:
        motion: from the ground truth's own world to the predicted one.
        source_extrinsics: (3, 4) of the source camera in the predicted world, None where it has no calibration.
        pairs: (predicted index, true index) of each person.
        n_true: people in the ground truth's file.
    """

    predicted: People
    true: People
    contact: Array | None
    motion: RigidMotion
    source_extrinsics: Array | None
    pairs: tuple[tuple[int, int], ...]
    n_true: int


@dataclass(frozen=True)
class FrameMetrics:
    """`values`: metric to number, None where it is empty. `reasons`: metric to why it is."""

    values: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)

    def with_more(self, other: FrameMetrics) -> FrameMetrics:
        """These metrics and those of `other`."""
        return FrameMetrics({**self.values, **other.values}, {**self.reasons, **other.reasons})


def emptied(row: FrameMetrics, unheld: Collection[str]) -> FrameMetrics:
    """The row without the metrics `unheld` by the fit of the two worlds, each with the reason."""
    values = {metric: None if metric in unheld else value for metric, value in row.values.items()}
    return FrameMetrics(values, {**row.reasons, **dict.fromkeys(unheld, ILL_CONDITIONED)})


def true_body_bytes(matched: MatchedPeople, motion: RigidMotion, source_extrinsics: Array | None) -> bytes:
    """The moved ground truth of a frame as `.npz`: vertices in float32, all else in full."""
    arrays: dict[str, Any] = {
        "joints": motion.move(matched.true.joints),
        "vertices": motion.move(matched.true.vertices).astype(np.float32),
        "pairs": np.asarray(matched.pairs, dtype=np.int64),
        "n_true": np.int64(matched.n_true),
        "motion": motion.matrix,
    }
    for name, array in (
        ("contact", matched.contact),
        ("faces", matched.faces),
        ("source_extrinsics", source_extrinsics),
    ):
        if array is not None:
            arrays[name] = array
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def read_compared(predicted_path: Path, true_path: Path, model: BodyModel) -> ComparedBodies:
    """One frame from its two files.

    Raises:
        InvalidFile: one is missing or not readable.
    """
    arrays, bodies = read_npz(true_path), read_bodies(predicted_path, model, finite=False)
    pairs = tuple((int(ours), int(theirs)) for ours, theirs in arrays["pairs"])
    assert bodies.joints is not None
    assert bodies.vertices is not None
    saved = People(np.asarray(arrays["joints"], np.float64), np.asarray(arrays["vertices"], np.float64))
    predicted, true = with_common_joints(People(bodies.joints, bodies.vertices), saved, model)
    return ComparedBodies(
        predicted=predicted.of([ours for ours, _ in pairs]),
        true=true,
        contact=arrays.get("contact"),
        motion=RigidMotion.of(arrays["motion"]),
        source_extrinsics=arrays.get("source_extrinsics"),
        pairs=pairs,
        n_true=int(arrays["n_true"]),
    )


def frame_metrics(compared: ComparedBodies) -> FrameMetrics:
    """All pose metrics of one frame over its people, and how many they are."""
    ours, theirs = compared.predicted, compared.true
    pcdr, pcdr_legacy = _depth_orders(ours, theirs, compared)
    values: dict[str, float | None] = {
        "rr_mpjpe_mm": root_relative_mm(ours.joints, theirs.joints, ours.roots, theirs.roots),
        "rr_mve_mm": root_relative_mm(ours.vertices, theirs.vertices, ours.roots, theirs.roots),
        "cd_mm": contact_distance_mm(ours.vertices, compared.contact),
        "pcdr": pcdr,
        "mpjpe_mm": mean_distance_mm(ours.joints, theirs.joints),
        "mve_mm": mean_distance_mm(ours.vertices, theirs.vertices),
        "pa_mpjpe_mm": procrustes_mm(ours.joints, theirs.joints),
        "pcdr_legacy": pcdr_legacy,
        "n_people": len(ours.joints),
        "n_true": compared.n_true,
    }
    return FrameMetrics(values, _reasons(values, compared))


def _depth_orders(ours: People, theirs: People, compared: ComparedBodies) -> tuple[float | None, float | None]:
    """PCDR with the ground truth moved, and today's, which compares depths of two worlds."""
    if compared.source_extrinsics is None:
        return None, None
    predicted = depths_in_camera(ours.roots, compared.source_extrinsics)
    moved = depths_in_camera(theirs.roots, compared.source_extrinsics)
    unmoved = depths_in_camera(compared.motion.inverse().move(theirs.roots), compared.source_extrinsics)
    return depth_order_share(predicted, moved), depth_order_share(predicted, unmoved)


def _reasons(values: dict[str, float | None], compared: ComparedBodies) -> dict[str, str]:
    reasons: dict[str, str] = {}
    n_people = len(compared.predicted.joints)
    if values["cd_mm"] is None:
        two = n_people == 2 and compared.n_true == 2
        reasons["cd_mm"] = NOT_TWO_PEOPLE if not two else NO_CONTACT_ARRAY if compared.contact is None else NO_TOUCH
    if values["pcdr"] is None:
        reason = ONE_PERSON if n_people < 2 else NO_CAMERA
        reasons |= {"pcdr": reason, "pcdr_legacy": reason}
    return reasons


def depths_in_camera(points: Array, extrinsics: Array) -> Array:
    """Depth of each point along the camera's axis: (P,) metres. `points` (P, 3), `extrinsics` (3, 4) world to camera."""
    return np.asarray(points @ extrinsics[2, :3] + extrinsics[2, 3])


def finite_people(*arrays: Array) -> Array:
    """Which people have finite numbers only, in every array: (P,) bool. Arrays are (P, ..., 3)."""
    rows = [np.isfinite(array).all(axis=tuple(range(1, array.ndim))) for array in arrays]
    return np.asarray(np.logical_and.reduce(rows))


def mean_distance_mm(predicted: Array, true: Array) -> float | None:
    """Mean Euclidean distance over people and points. None where there is nobody.

    Args:
        predicted: (P, N, 3) metres; of joints this is MPJPE, of vertices MVE.
        true: the same shape.
    """
    if predicted.size == 0:
        return None
    return float(np.linalg.norm(predicted - true, axis=-1).mean() * MM_PER_M)


def root_relative_mm(predicted: Array, true: Array, predicted_roots: Array, true_roots: Array) -> float | None:
    """`mean_distance_mm` after each person's root joint was moved to the origin: RR-MPJPE of joints, RR-MVE of vertices.

    Args:
        predicted: (P, N, 3) metres.
        predicted_roots: (P, 3) metres.
    """
    return mean_distance_mm(predicted - predicted_roots[:, None], true - true_roots[:, None])


def procrustes_mm(predicted: Array, true: Array) -> float | None:
    """PA-MPJPE: each predicted person fitted to the true one by rotation, translation and scale, never by a mirror.

    Args:
        predicted: (P, J, 3) metres.
    """
    fitted = [fit_similarity(source, target)(source) for source, target in zip(predicted, true, strict=True)]
    return mean_distance_mm(np.stack(fitted), true) if fitted else None


def fit_similarity(source: Array, target: Array) -> Callable[[Array], Array]:
    """The least-squares similarity without reflection of `source` (N, 3) onto `target` (N, 3): a function that moves points (..., 3).

    The closed form of S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    PAMI 1991, equations 40 to 42. All points in one place are only translated.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    rotation, singular_values = rotation_onto(centred, target - target_mean)
    spread = float((centred**2).sum())
    scale = float(singular_values.sum()) / spread if spread > 0 else 1.0
    return lambda points: np.asarray(scale * (points - source_mean) @ rotation.T + target_mean)


def rotation_onto(source: Array, target: Array) -> tuple[Array, Array]:
    """The proper rotation R that brings centred points closest: argmin of sum |R source - target|^2, det R = 1.

    W. Kabsch, Acta Crystallographica A32, 1976; the last singular direction is turned where a mirror would fit better.

    Args:
        source: (N, 3), mean 0.
        target: (N, 3), mean 0.

    Returns:
        (3, 3) rotation, and the (3,) signed singular values of the covariance (their sum scales a similarity).
    """
    left, values, right = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    return np.asarray((left * signs) @ right), np.asarray(values * signs)


def contact_distance_mm(predicted_vertices: Array, contact: Array | None) -> float | None:
    """CD: how far apart the vertices are that touch in the ground truth; the mean of the two directions' means.

    Args:
        predicted_vertices: (2, V, 3) metres.
        contact: (2, V) int, of the ground truth: the other person's vertex that vertex i touches, 0 = none.

    Returns:
        None without contact, or for any other number of people than two.
    """
    if contact is None or len(predicted_vertices) != 2 or contact.shape != predicted_vertices.shape[:2]:
        return None
    directions = []
    for person, other in ((0, 1), (1, 0)):
        touches = contact[person]
        here = np.flatnonzero((touches > NO_CONTACT) & (touches < predicted_vertices.shape[1]))
        if here.size:
            gap = predicted_vertices[person, here] - predicted_vertices[other, touches[here]]
            directions.append(float(np.linalg.norm(gap, axis=-1).mean()))
    return float(np.mean(directions) * MM_PER_M) if directions else None


def depth_order_share(predicted_depths: Array, true_depths: Array) -> float | None:
    """PCDR: the share of pairs of people whose predicted order in depth is right. None below two people.

    The relation of a pair is the ground truth's: same layer, closer, or farther. It is right where the predicted difference
    is within `EQUAL_DEPTH_M`, or beyond it in the right direction. (Y. Sun et al., "Putting People in their Place", CVPR 2022,
    with layers from measured depths.)

    Args:
        predicted_depths: (P,) metres along the source camera's axis.
        true_depths: (P,).
    """
    if len(true_depths) < 2:
        return None
    layers = depth_layers(true_depths)
    first, second = np.triu_indices(len(true_depths), k=1)
    relation = np.sign(layers[first] - layers[second])
    difference = predicted_depths[first] - predicted_depths[second]
    equal, farther, closer = np.abs(difference) < EQUAL_DEPTH_M, difference > EQUAL_DEPTH_M, difference < -EQUAL_DEPTH_M
    return float(np.mean(np.select([relation == 0, relation > 0], [equal, farther], default=closer)))


def depth_layers(depths: Array) -> Array:
    """The layer of each person, 0 = nearest: sorted by depth, a gap beyond `LAYER_GAP_M` starts the next layer. (P,) int."""
    order = np.argsort(depths, kind="stable")
    steps = np.concatenate([[0], np.cumsum(np.diff(depths[order]) > LAYER_GAP_M)])
    layers = np.empty(len(depths), dtype=np.int64)
    layers[order] = steps
    return layers


@dataclass(frozen=True)
class RigidFit:
    """A rigid motion that was fitted to points, and how sure its rotation is.

    Attributes:
        singular_values: of the cross-covariance of the two sides' centred points, the largest first, square metres.
    """

    motion: RigidMotion
    singular_values: tuple[float, float, float]

    @property
    def second_to_first(self) -> float:
        """0: on a line, or in one place."""
        first, second, _ = self.singular_values
        return second / first if first > 0 else 0.0


def fit_rigid(source: Array, target: Array) -> RigidFit:
    """The least-squares rigid motion of `source` (N, 3) onto `target` (N, 3), without scale and without mirror.

    Points on one line leave the turn about that line open: some rotation of the best ones is returned.

    Raises:
        ThesisAssetsError: there is no point.
    """
    if len(source) == 0:
        raise ThesisAssetsError(
            "the two worlds have no point in common, so they cannot be aligned",
            found="no pair of points",
            wanted="at least one; three that are not on a line for a unique motion",
        )
    source, target = source.astype(np.float64), target.astype(np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    rotation, values = rotation_onto(source - source_mean, target - target_mean)
    first, second, third = (abs(float(value)) / len(source) for value in values)
    return RigidFit(RigidMotion(rotation, target_mean - rotation @ source_mean), (first, second, third))


def by_source_camera(predicted_extrinsics: Array, true_extrinsics: Array) -> RigidMotion:
    """The motion of one frame that puts the true source camera where the predicted one is: `c2w_pred @ inv(c2w_gt)`.

    Args:
        predicted_extrinsics: (3, 4) world to camera, metres.
        true_extrinsics: (3, 4).
    """
    to_camera, from_camera = RigidMotion.of(true_extrinsics), RigidMotion.of(predicted_extrinsics).inverse()
    return RigidMotion(
        from_camera.rotation @ to_camera.rotation,
        from_camera.rotation @ to_camera.translation + from_camera.translation,
    )
