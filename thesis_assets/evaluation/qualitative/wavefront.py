"""Reads the vertices and triangles of a Wavefront `.obj` file, fast enough for thousands of body meshes.

Does not belong here: materials, textures, normals; writing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_bounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

Number = TypeVar("Number", np.float32, np.int32)

MAX_MESH_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class WavefrontMesh:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) float32 metres.
        faces: (F, 3) int32, counted from 0; none where the file is a cloud of points.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


def read_wavefront(path: Path) -> WavefrontMesh:
    """Read `v` and `f` rows. Colours behind the coordinates of `v` and all other rows are passed over.

    Raises:
        InvalidFile: missing, too large, no vertices, a row that is no number, a face that is no triangle of these vertices.
    """
    content = read_bounded(path, MAX_MESH_BYTES)
    if (plain := _plain(content)) is not None:
        _check(*plain, path)
        return WavefrontMesh(plain[0], plain[1] - 1)
    lines = content.splitlines()
    vertices = _table([line[2:] for line in lines if line.startswith(b"v ")], np.float32, path)[:, :3]
    corners = [line[2:] for line in lines if line.startswith(b"f ")]
    faces = _table(corners if b"/" not in content else [_positions(line) for line in corners], np.int32, path)
    _check(vertices, faces, path)
    return WavefrontMesh(np.ascontiguousarray(vertices), faces - 1)


def _plain(content: bytes) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
    """What this platform writes: (V, 3) vertices, then (F, 3) triangles counted from 1, nothing else. None of any other file.

    Read as two tables with one blank between the columns: several times as fast as by lines.
    """
    vertices_end = content.find(b"\nf ") + 1 or len(content)
    vertices = _columns(content[:vertices_end], "v", np.float32)
    faces = _plain_faces(content[vertices_end:])
    return None if vertices is None or faces is None else (vertices, faces)


@lru_cache(maxsize=4)
def _plain_faces(rows: bytes) -> NDArray[np.int32] | None:
    """Kept: all frames of a person have the same rows."""
    faces = _columns(rows, "f", np.int32)
    if faces is not None:
        faces.flags.writeable = False
    return faces


def _columns(rows: bytes, key: str, kind: type[Number]) -> NDArray[Number] | None:
    """(N, 3) of rows that are `key` and three numbers each; None where any is not."""
    import pyarrow
    from pyarrow import compute, csv

    if not rows:
        return np.empty((0, 3), kind)
    names = ["key", "x", "y", "z"]
    kinds = {"key": pyarrow.string(), **dict.fromkeys(names[1:], pyarrow.from_numpy_dtype(kind))}
    try:
        table = csv.read_csv(
            pyarrow.py_buffer(rows),
            csv.ReadOptions(column_names=names, use_threads=False, block_size=len(rows) + 1),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(column_types=kinds, null_values=[]),
        )
    except pyarrow.ArrowInvalid:
        return None
    if not compute.all(compute.equal(table["key"], key)).as_py():
        return None
    return np.stack([table[name].to_numpy() for name in names[1:]], axis=1)


def _table(rows: list[bytes], kind: type[np.float32] | type[np.int32], path: Path) -> NDArray[Any]:
    """(N, columns) from rows of numbers. numpy's text parser takes 5 ms for a SMPL-X body, Python's words 30 ms."""
    if not rows:
        return np.empty((0, 3), kind)
    width = len(rows[0].split())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # how older numpy says that text is no number
            numbers = np.fromstring(b" ".join(rows), dtype=kind, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise InvalidFile("the mesh has a row that cannot be read", file=path, found=str(error)) from error
    if width == 0 or len(numbers) != width * len(rows):
        raise InvalidFile(
            "the mesh has rows of different lengths", file=path, found=f"{len(numbers)} numbers in {len(rows)} rows"
        )
    return numbers.reshape(len(rows), width)


def _positions(line: bytes) -> bytes:
    """`1/4/2 2/5/2 3/6/2` -> `1 2 3`."""
    return b" ".join(word.split(b"/")[0] for word in line.split())


def _check(vertices: NDArray[np.float32], faces: NDArray[np.int32], path: Path) -> None:
    if len(vertices) == 0 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
        raise InvalidFile("the mesh has no usable vertices", file=path, found=vertices.shape, wanted="(V, 3) finite")
    if faces.shape[1] != 3 or (len(faces) and (faces.min() < 1 or faces.max() > len(vertices))):
        raise InvalidFile(
            "the mesh has faces that are no triangles of its vertices", file=path, found=faces.shape, wanted="(F, 3)"
        )
