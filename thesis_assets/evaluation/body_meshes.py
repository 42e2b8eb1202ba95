"""Posed body meshes in the tree: OBJ files a person and of all people, in the common world and with each root at the origin."""

from __future__ import annotations

import numpy as np

from thesis_assets.evaluation.compared_bodies import ComparedBodies
from thesis_assets.evaluation.matched_people import People
from thesis_assets.evaluation.pose_metrics import Array
from thesis_assets.evaluation.staging import Staging
from thesis_assets.evaluation.task_faults import MESH_ALIGNMENTS
from thesis_assets.layout import TaskTree


def write_meshes(
    stage: Staging, task: TaskTree, side: str, fname: str, compared: ComparedBodies, faces: Array | None
) -> None:
    """Write one side's meshes of a frame; a person is numbered as in the ground truth.

    Args:
        side: `pred` or `gt_inputs`, the directory that `stage` publishes.
    """
    people = compared.predicted if side == "pred" else compared.true
    for alignment in MESH_ALIGNMENTS:
        vertices = people.vertices if alignment == "world_aligned" else at_root(people)
        for (_, person), of_person in zip(compared.pairs, vertices, strict=True):
            stage.write(task.person_mesh(side, alignment, person, fname), obj_bytes([of_person], faces))
        stage.write(task.mesh(side, alignment, fname), obj_bytes(list(vertices), faces))


def at_root(people: People) -> Array:
    """(P, V, 3): each person's vertices with the root joint at the origin."""
    return np.asarray(people.vertices - people.roots[:, None])


def obj_bytes(meshes: list[Array], faces: Array | None) -> bytes:
    """Wavefront OBJ with `v` and `f` rows (indices from 1), in micrometres' precision.

    Args:
        meshes: (V, 3) metres each.
        faces: (F, 3) indices from 0, the same for every mesh; None writes points only.
    """
    lines: list[str] = []
    offset = 1
    for vertices in meshes:
        lines += ["v {:.6f} {:.6f} {:.6f}".format(*vertex) for vertex in vertices.tolist()]
    for vertices in meshes:
        if faces is not None:
            lines += ["f {} {} {}".format(*face) for face in (faces + offset).tolist()]
        offset += len(vertices)
    return ("\n".join(lines) + "\n").encode()
