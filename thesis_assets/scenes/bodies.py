"""Body-model files of one frame: SMPL-X and SMPL parameters, and the joints, vertices and contact that may go with them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.schemas.scenes import BODY_ARRAYS, OPTIONAL_BODY_ARRAYS

Array = np.ndarray[Any, np.dtype[Any]]
BodyModel = Literal["smplx", "smpl"]


@dataclass(frozen=True, eq=False)
class Bodies:
    """The people of one frame.

    Attributes:
        model: which body model the parameters belong to.
        parameters: arrays of `schemas.scenes.BODY_ARRAYS[model]`, each (P, ...) float32; axis-angle radians, metres.
        joints: (P, J, 3) metres in the world.
        vertices: (P, V, 3) metres in the world.
        faces: (F, 3) indices into the vertices, shared by all people.
        contact: (P, V): the other person's vertex that vertex i touches, 0 = none.
    """

    model: BodyModel
    parameters: Mapping[str, Array]
    joints: Array | None = None
    vertices: Array | None = None
    faces: Array | None = None
    contact: Array | None = None

    @property
    def n_people(self) -> int:
        return len(self.parameters["betas"])

    @property
    def arrays(self) -> dict[str, Array]:
        """Everything the file holds, by its name there."""
        optional = {name: getattr(self, name) for name in OPTIONAL_BODY_ARRAYS}
        return {**self.parameters, **{name: array for name, array in optional.items() if array is not None}}


def read_bodies(path: Path, model: BodyModel) -> Bodies:
    """Read `smplx/<fname>.npz` or `smpl/<fname>.npz`. Arrays that the contract does not name are passed over.

    Raises:
        InvalidFile: missing, empty, or an array is missing, of another shape, or not finite; the message has its name.
    """
    return check_bodies(read_npz(path), model, path)


def write_bodies(path: Path, bodies: Bodies) -> None:
    """Write the people of one frame; the same values give the same bytes.

    Raises:
        InvalidFile: an array breaks the contract (nothing is written).
    """
    check_bodies(bodies.arrays, bodies.model, path)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(sorted(bodies.arrays.items()))
    np.savez(buffer, **arrays)
    storage.write_bytes(path, buffer.getvalue())


def check_bodies(arrays: Mapping[str, Array], model: BodyModel, path: Path) -> Bodies:
    """Bodies from named arrays, held against the contract; an InvalidFile of `path` where one is missing, misshapen or not finite."""
    parameters: dict[str, Array] = {}
    n_people = len(arrays["betas"]) if "betas" in arrays and arrays["betas"].ndim else 0
    for name, shape in BODY_ARRAYS[model].items():
        parameters[name] = _numbers(arrays, name, (n_people, *shape), path)
    joints = _optional(arrays, "joints", (n_people, None, 3), path)
    vertices = _optional(arrays, "vertices", (n_people, None, 3), path)
    n_vertices = vertices.shape[1] if vertices is not None else None
    return Bodies(
        model=model,
        parameters=parameters,
        joints=joints,
        vertices=vertices,
        faces=_optional(arrays, "faces", (None, 3), path, integer=True),
        contact=_optional(arrays, "contact", (n_people, n_vertices), path, integer=True),
    )


def _optional(
    arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...], path: Path, *, integer: bool = False
) -> Array | None:
    return _numbers(arrays, name, shape, path, integer=integer) if name in arrays else None


def _numbers(
    arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...], path: Path, *, integer: bool = False
) -> Array:
    """One array as float32 (or int32), of `shape` (None = any length)."""
    wanted = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
    if name not in arrays:
        raise InvalidFile(
            "the body file lacks an array",
            file=path,
            key=name,
            found=", ".join(sorted(arrays)),
            wanted=f"shape {wanted}",
        )
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        length is None or length == size for length, size in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "fiub":
        raise InvalidFile(
            "a body array has another shape", file=path, key=name, found=f"{array.shape} {array.dtype}", wanted=wanted
        )
    if not np.isfinite(array).all():
        raise InvalidFile("a body array is not finite", file=path, key=name, wanted="finite numbers")
    return array.astype(np.int32 if integer else np.float32)
