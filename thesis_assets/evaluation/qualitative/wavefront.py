"""Reads the vertices and triangles of a Wavefront `.obj` file, fast enough for thousands of body meshes.

Does not belong here: materials, textures, normals; writing.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_bounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_MESH_BYTES = 256 * 1024 * 1024
_NUMBER = rb"-?[0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?"
_PLAIN = re.compile(rb"((?:v " + _NUMBER + rb" " + _NUMBER + rb" " + _NUMBER + rb"\n)+)((?:f [0-9]+ [0-9]+ [0-9]+\n)*)")
"""What this platform writes: vertices, then triangles, nothing else. Read at once, several times as fast as by lines."""


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
    if (plain := _PLAIN.fullmatch(content)) is not None:
        vertices = np.fromstring(plain[1].replace(b"v", b" "), dtype=np.float32, sep=" ").reshape(-1, 3)
        faces = _plain_faces(plain[2])
        _check(vertices, faces, path)
        return WavefrontMesh(vertices, faces - 1)
    lines = content.splitlines()
    vertices = _table([line[2:] for line in lines if line.startswith(b"v ")], np.float32, path)[:, :3]
    corners = [line[2:] for line in lines if line.startswith(b"f ")]
    faces = _table(corners if b"/" not in content else [_positions(line) for line in corners], np.int32, path)
    _check(vertices, faces, path)
    return WavefrontMesh(np.ascontiguousarray(vertices), faces - 1)


@lru_cache(maxsize=4)
def _plain_faces(rows: bytes) -> NDArray[np.int32]:
    """(F, 3), counted from 1. Kept: all frames of a person have the same rows."""
    faces = np.fromstring(rows.replace(b"f", b" "), dtype=np.int32, sep=" ").reshape(-1, 3)
    faces.flags.writeable = False
    return faces


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
