"""The people of one frame on both sides, the same person at the same index, from the body files of both roots.

Does not belong here: any distance (`pose_metrics`), moving worlds (`world_alignment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.evaluation.pose_metrics import ROOT_JOINT, Array
from thesis_assets.scenes.bodies import Bodies


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


@dataclass(frozen=True, eq=False)
class MatchedPeople:
    """One frame.

    Attributes:
        predicted: in the predicted world.
        true: in the ground truth's own world.
        contact: (2, V) int of the ground truth, None without, or unless both sides are the same two people.
        faces: (F, 3) int, None where neither file has them.
        pairs: (predicted index, true index) of each person, by true index.
        n_true: people in the ground truth, matched or not.
    """

    fname: str
    predicted: People
    true: People
    contact: Array | None
    faces: Array | None
    pairs: tuple[tuple[int, int], ...]
    n_true: int


def match_people(
    fname: str, predicted: Bodies, true: Bodies, mapping: dict[int, int] | None, files: tuple[Path, Path]
) -> MatchedPeople:
    """Bring the people of both sides into one order.

    Args:
        mapping: predicted person index to true one; None: the same index. A person without a partner is left out.
        files: of the prediction and of the ground truth, for messages.

    Raises:
        InvalidFile: joints or vertices are missing or differ in number, or the mapping names nobody.
    """
    ours, theirs = _points_of(predicted, files[0]), _points_of(true, files[1])
    for name, one, other in (("joints", ours.joints, theirs.joints), ("vertices", ours.vertices, theirs.vertices)):
        if one.shape[1] != other.shape[1]:
            raise InvalidFile(
                "prediction and ground truth differ in their number of points",
                file=files[0],
                key=name,
                found=one.shape[1],
                wanted=f"{other.shape[1]}, as in {files[1]}",
            )
    pairs = identity_pairs(predicted.n_people, true.n_people, mapping, files[0])
    both = len(pairs) == 2 and true.n_people == 2
    return MatchedPeople(
        fname=fname,
        predicted=ours.of([pair[0] for pair in pairs]),
        true=theirs.of([pair[1] for pair in pairs]),
        contact=true.contact if both else None,
        faces=true.faces if true.faces is not None else predicted.faces,
        pairs=pairs,
        n_true=true.n_people,
    )


def identity_pairs(
    n_predicted: int, n_true: int, mapping: dict[int, int] | None, file: Path
) -> tuple[tuple[int, int], ...]:
    """(predicted, true) indices of the people that both sides have, by true index.

    Raises:
        InvalidScene: two predicted people are mapped to one, or nobody is matched.
    """
    wanted = {index: index for index in range(n_predicted)} if mapping is None else mapping
    pairs = [(ours, theirs) for ours, theirs in wanted.items() if 0 <= ours < n_predicted and 0 <= theirs < n_true]
    if not pairs or len({theirs for _, theirs in pairs}) < len(pairs):
        raise InvalidScene(
            "the identity mapping does not give each person one partner",
            file=file,
            key="identity_alignment.manual_preproc_to_gt",
            found=wanted,
            wanted=f"estimated index (0 to {n_predicted - 1}) to ground-truth index (0 to {n_true - 1}), each once",
            remedy="correct the mapping in the scene's registry entry",
        )
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


def _points_of(bodies: Bodies, path: Path) -> People:
    if bodies.joints is None or bodies.vertices is None:
        raise InvalidFile(
            "the body file has no joints or no vertices",
            file=path,
            wanted="`joints` (P, J, 3) and `vertices` (P, V, 3) beside the parameters",
        )
    return People(bodies.joints, bodies.vertices)
