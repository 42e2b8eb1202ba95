"""One frame of a pose task as it lies in the tree, and its numbers: the predicted file, and the ground truth in its world.

`inputs/<model>/<frame>.npz` is the predicted file as it is, `gt_inputs/<model>/<frame>.npz` the moved ground truth with all else
that the numbers need. Tables are filled, and recomputed, from these two alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.evaluation import pose_metrics
from thesis_assets.evaluation.matched_people import MatchedPeople, People
from thesis_assets.evaluation.world_alignment import RigidMotion, depths_in_camera
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.schemas.evaluation import POSE_METRICS

Array = pose_metrics.Array

NO_FINITE_PERSON = "no person has finite joints and vertices on both sides"
NOT_TWO_PEOPLE = "contact is between two people, and this frame has not two on both sides"
NO_CONTACT_ARRAY = "the ground truth has no contact annotation at this frame"
NO_TOUCH = "nobody touches anybody at this frame"
ONE_PERSON = "an order in depth needs two people"
NO_CAMERA = "the source camera has no calibration at this frame"


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
    arrays, bodies = read_npz(true_path), read_bodies(predicted_path, model)
    pairs = tuple((int(ours), int(theirs)) for ours, theirs in arrays["pairs"])
    order = [ours for ours, _ in pairs]
    assert bodies.joints is not None
    assert bodies.vertices is not None
    return ComparedBodies(
        predicted=People(np.asarray(bodies.joints[order], np.float64), np.asarray(bodies.vertices[order], np.float64)),
        true=People(np.asarray(arrays["joints"], np.float64), np.asarray(arrays["vertices"], np.float64)),
        contact=arrays.get("contact"),
        motion=RigidMotion.of(arrays["motion"]),
        source_extrinsics=arrays.get("source_extrinsics"),
        pairs=pairs,
        n_true=int(arrays["n_true"]),
    )


def frame_metrics(compared: ComparedBodies) -> FrameMetrics:
    """All pose metrics of one frame. People whose numbers are not finite are left out."""
    ours, theirs = compared.predicted, compared.true
    finite = pose_metrics.finite_people(ours.joints, ours.vertices, theirs.joints, theirs.vertices)
    if not finite.any():
        return FrameMetrics(dict.fromkeys(POSE_METRICS), dict.fromkeys(POSE_METRICS, NO_FINITE_PERSON))
    ours = People(ours.joints[finite], ours.vertices[finite])
    theirs = People(theirs.joints[finite], theirs.vertices[finite])
    contact = compared.contact if finite.all() else None
    pcdr, pcdr_legacy = _depth_orders(ours, theirs, compared)
    values: dict[str, float | None] = {
        "rr_mpjpe_mm": pose_metrics.root_relative_mm(ours.joints, theirs.joints, ours.roots, theirs.roots),
        "rr_mve_mm": pose_metrics.root_relative_mm(ours.vertices, theirs.vertices, ours.roots, theirs.roots),
        "cd_mm": pose_metrics.contact_distance_mm(ours.vertices, contact),
        "pcdr": pcdr,
        "mpjpe_mm": pose_metrics.mean_distance_mm(ours.joints, theirs.joints),
        "mve_mm": pose_metrics.mean_distance_mm(ours.vertices, theirs.vertices),
        "pa_mpjpe_mm": pose_metrics.procrustes_mm(ours.joints, theirs.joints),
        "pcdr_legacy": pcdr_legacy,
    }
    return FrameMetrics(values, _reasons(values, compared, len(ours.joints)))


def _depth_orders(ours: People, theirs: People, compared: ComparedBodies) -> tuple[float | None, float | None]:
    """PCDR with the ground truth moved, and today's, which compares depths of two worlds."""
    if compared.source_extrinsics is None:
        return None, None
    predicted = depths_in_camera(ours.roots, compared.source_extrinsics)
    moved = depths_in_camera(theirs.roots, compared.source_extrinsics)
    unmoved = depths_in_camera(compared.motion.inverse().move(theirs.roots), compared.source_extrinsics)
    return pose_metrics.depth_order_share(predicted, moved), pose_metrics.depth_order_share(predicted, unmoved)


def _reasons(values: dict[str, float | None], compared: ComparedBodies, n_people: int) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if values["cd_mm"] is None:
        two = n_people == 2 and compared.n_true == 2
        reasons["cd_mm"] = NOT_TWO_PEOPLE if not two else NO_CONTACT_ARRAY if compared.contact is None else NO_TOUCH
    if values["pcdr"] is None:
        reason = ONE_PERSON if n_people < 2 else NO_CAMERA
        reasons |= {"pcdr": reason, "pcdr_legacy": reason}
    return reasons
