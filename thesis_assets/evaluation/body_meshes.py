"""Posed body meshes in the tree: OBJ files a person and of all people, in the common world and with each root at the origin."""

from __future__ import annotations

import functools

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
        rows = [_vertex_rows(of_person) for of_person in vertices]
        for (_, person), of_person in zip(compared.pairs, rows, strict=True):
            stage.write(task.person_mesh(side, alignment, person, fname), _with_faces([of_person], faces, 0))
        stage.write(task.mesh(side, alignment, fname), _with_faces(rows, faces, vertices.shape[1]))


def at_root(people: People) -> Array:
    """(P, V, 3): each person's vertices with the root joint at the origin."""
    return np.asarray(people.vertices - people.roots[:, None])


def obj_bytes(meshes: list[Array], faces: Array | None) -> bytes:
    """Wavefront OBJ with `v` and `f` rows (indices from 1), in micrometres' precision.

    Args:
        meshes: (V, 3) metres each, the same V.
        faces: (F, 3) indices from 0, the same for every mesh; None writes points only.
    """
    return _with_faces([_vertex_rows(vertices) for vertices in meshes], faces, len(meshes[0]) if meshes else 0)


def _with_faces(rows: list[bytes], faces: Array | None, n_vertices: int) -> bytes:
    """The rows of several meshes of `n_vertices` each, then all their faces."""
    return b"".join([*rows, *(_face_rows(faces, 1 + place * n_vertices) for place in range(len(rows)))])


def _vertex_rows(vertices: Array) -> bytes:
    """The `v` rows. One format for all rows: a third of the time of one a row.

    Args:
        vertices: (V, 3) metres.
    """
    return (("v %.6f %.6f %.6f\n" * len(vertices)) % tuple(vertices.ravel().tolist())).encode()


def _face_rows(faces: Array | None, first: int) -> bytes:
    """The `f` rows (indices from 1) of a mesh whose vertices begin at number `first`; none without faces.

    Args:
        faces: (F, 3) indices from 0.
    """
    return b"" if faces is None else _face_text(np.ascontiguousarray(faces, np.int64).tobytes(), first)


@functools.lru_cache(maxsize=8)
def _face_text(content: bytes, first: int) -> bytes:
    """Faces are the same in every frame."""
    numbers = np.frombuffer(content, np.int64) + first
    return (("f %d %d %d\n" * (len(numbers) // 3)) % tuple(numbers.tolist())).encode()
