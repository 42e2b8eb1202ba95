"""Body-model files of one frame: SMPL-X and SMPL parameters, and the joints, vertices and contact that may go with them.

Of bodies whose files hold parameters alone, joints and vertices come by the skinning of the `smplx` library (extra `body`).
The joints are those of the model's own skeleton: 24 of SMPL, 55 of SMPL-X. Hand poses are taken as they stand, without the
model's mean hand pose (`flat_hand_mean`). Model files are those that their authors publish, by the names that the library takes:
`<folder>/smpl/SMPL_<GENDER>.{npz,pkl}` and `<folder>/smplx/SMPLX_<GENDER>.{npz,pkl}`.
Published pickles hold objects of `chumpy`, which no present numpy can import; here only their numbers are read, and no code is run.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import math
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, pip_install
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.schemas.scenes import BODY_ARRAYS, OPTIONAL_BODY_ARRAYS

if TYPE_CHECKING:
    from torch import Tensor

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


def read_bodies(path: Path, model: BodyModel, *, finite: bool = True) -> Bodies:
    """Read `smplx/<fname>.npz` or `smpl/<fname>.npz`. Arrays that the contract does not name are passed over.

    Args:
        finite: False lets numbers be NaN or infinite: of predictions, where one person's do not spoil the others.

    Raises:
        InvalidFile: missing, empty, or an array is missing, of another shape, or not finite; the message has its name.
    """
    return check_bodies(read_npz(path), model, path, finite=finite)


def write_bodies(path: Path, bodies: Bodies, *, finite: bool = True) -> None:
    """Write the people of one frame; the same values give the same bytes. `finite`: as of `read_bodies`.

    Raises:
        InvalidFile: an array breaks the contract (nothing is written).
    """
    check_bodies(bodies.arrays, bodies.model, path, finite=finite)
    storage.write_bytes(path, body_bytes(bodies))


def body_bytes(bodies: Bodies) -> bytes:
    """What `write_bodies` writes, unchecked."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(sorted(bodies.arrays.items()))
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def check_bodies(arrays: Mapping[str, Array], model: BodyModel, path: Path, *, finite: bool = True) -> Bodies:
    """Bodies from named arrays, held against the contract; an InvalidFile of `path` where one is missing, misshapen or not finite."""
    parameters: dict[str, Array] = {}
    betas = arrays.get("betas")
    n_people = len(betas) if betas is not None and betas.ndim == 2 else None
    for name, shape in BODY_ARRAYS[model].items():
        parameters[name] = _numbers(arrays, name, (n_people, *shape), path, finite=finite)
    joints, vertices = (
        _optional(arrays, _named(arrays, name), (n_people, None, 3), path, finite=finite) for name in _OTHER_NAMES
    )
    n_vertices = vertices.shape[1] if vertices is not None else None
    return Bodies(
        model=model,
        parameters=parameters,
        joints=joints,
        vertices=vertices,
        faces=_optional(arrays, "faces", (None, 3), path, integer=True),
        contact=_optional(arrays, "contact", (n_people, n_vertices), path, integer=True),
    )


_OTHER_NAMES = {"joints": "joints_3d", "vertices": "verts"}
"""Public datasets write SMPL's joints and vertices under these names."""


def _named(arrays: Mapping[str, Array], name: str) -> str:
    return name if name in arrays else _OTHER_NAMES[name]


def _optional(
    arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...], path: Path, **kind: bool
) -> Array | None:
    return _numbers(arrays, name, shape, path, **kind) if name in arrays else None


def _numbers(
    arrays: Mapping[str, Array],
    name: str,
    shape: tuple[int | None, ...],
    path: Path,
    *,
    integer: bool = False,
    finite: bool = True,
) -> Array:
    """One array as float32 (or int32), of `shape` (None = any length; in front: the people)."""
    lengths = ["any" if length is None else str(length) for length in shape]
    wanted = f"({', '.join(['people', *lengths[1:]] if shape[0] is None and name != 'faces' else lengths)})"
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
            "a body array has another shape",
            file=path,
            key=name,
            found=f"{array.shape} {array.dtype}",
            wanted=wanted,
            remedy=_remedy(name, array.shape, shape),
        )
    with np.errstate(over="ignore"):
        numbers = array.astype(np.int32 if integer else np.float32)
    if finite and not (np.isfinite(array).all() and np.isfinite(numbers).all()):
        raise InvalidFile("a body array is not finite", file=path, key=name, wanted="finite numbers")
    return numbers


def _remedy(name: str, found: tuple[int, ...], wanted: tuple[int | None, ...]) -> str | None:
    """The line that brings an array of a usual other form into the contract's; None where the form is not known."""
    one = wanted[1:]
    if found == one or (len(found) == len(one) and None in one):
        return f"one person needs the people axis too: save `{name}[None]`"
    if name == "betas" and len(found) == 2 and found[1] > 10:
        return f"the file has {found[1]} shape coefficients; save the first ten: `betas[:, :10]`"
    if name in ("lhand_pose", "rhand_pose") and found[-1] != 3 and found[-1] != 45 and len(found) == 2:
        return f"these seem to be {found[1]} PCA coefficients; save the 15 rotations (smplx: `use_pca=False`)"
    if len(found) == 2 and None not in one and found[1] == math.prod(each or 0 for each in one):
        return f"save `{name}.reshape(-1, {', '.join(map(str, one))})`"
    return None


NEUTRAL = "neutral"
GENDERS = ("female", "male", NEUTRAL)
N_SHAPE_OF_400 = 300
"""SMPL-X files of 400 coefficients: 300 of shape, then 100 of expression. Smaller ones: 10 and 10."""
_POSES = {
    "smpl": ("global_orient", "body_pose"),
    "smplx": ("root_pose", "body_pose", "jaw_pose", "leye_pose", "reye_pose", "lhand_pose", "rhand_pose"),
}
_PLACE = {"smpl": "transl", "smplx": "trans"}


def is_complete(bodies: Bodies) -> bool:
    """Whether the file itself has joints and vertices."""
    return bodies.joints is not None and bodies.vertices is not None


def model_files(folder: Path | None, model: BodyModel, genders: Sequence[str]) -> list[Path]:
    """The files that bodies of these genders need.

    Raises:
        InvalidFile: one is not there, a gender is unknown, or the `smplx` library is not installed.
    """
    unknown = sorted(set(genders) - set(GENDERS))
    if unknown:
        raise InvalidFile("a gender has no body model", key="genders", found=unknown, wanted=", ".join(GENDERS))
    files = [find_body_model(folder, model, gender) for gender in sorted(set(genders))]
    if importlib.util.find_spec("smplx") is None:
        raise InvalidFile(
            "the `smplx` library is not installed",
            file=files[0],
            remedy=f"install the extra: {pip_install(repr('thesis-assets[body]'))}",
        )
    return files


def posed_bodies(bodies: Bodies, folder: Path | None, genders: Sequence[str]) -> Bodies:
    """The same people with joints (P, J, 3), vertices (P, V, 3) and faces from the body model, float32 metres.

    Args:
        folder: of the model files.
        genders: one a person.

    Raises:
        InvalidFile: a model file is missing or unreadable, or the number of genders is not that of the people.
    """
    model = bodies.model
    if len(genders) != bodies.n_people:
        raise InvalidFile(
            "there is not one gender a person", key="genders", found=list(genders), wanted=f"{bodies.n_people} of them"
        )
    model_files(folder, model, genders)
    joints: list[Array] = []
    vertices: list[Array] = []
    for person, gender in enumerate(genders):
        arrays = read_body_model(find_body_model(folder, model, gender), model)
        person_vertices, person_joints = _posed_person(bodies, person, arrays)
        vertices.append(person_vertices)
        joints.append(person_joints)
    return replace(bodies, joints=np.stack(joints), vertices=np.stack(vertices), faces=arrays.faces)


def _posed_person(bodies: Bodies, person: int, arrays: BodyModelArrays) -> tuple[Array, Array]:
    """(V, 3) vertices and (J, 3) joints of one person."""
    import torch
    from smplx.lbs import lbs

    values = {name: array[person] for name, array in bodies.parameters.items()}
    pose = np.concatenate([values[name].reshape(-1) for name in _POSES[bodies.model]])
    coefficients, directions = _shape(values, arrays)

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    with torch.inference_mode():
        vertices, joints = lbs(
            tensor(coefficients[None]),
            tensor(pose[None]),
            tensor(arrays.v_template[None]),
            tensor(directions),
            tensor(arrays.posedirs.reshape(-1, arrays.posedirs.shape[2]).T),
            tensor(arrays.regressor),
            torch.from_numpy(arrays.parents),
            tensor(arrays.weights),
        )
    place = values[_PLACE[bodies.model]]
    return vertices[0].numpy() + place, joints[0].numpy() + place


def _shape(values: dict[str, Array], arrays: BodyModelArrays) -> tuple[Array, Array]:
    """Coefficients of shape, and of expression as far as the model has them, with their directions (V, 3, n)."""
    directions = arrays.shapedirs
    if "expression" not in values:
        return values["betas"], directions[:, :, :SHAPES]
    first = N_SHAPE_OF_400 if directions.shape[2] >= N_SHAPE_OF_400 + SHAPES else SHAPES
    expression = directions[:, :, first : first + len(values["expression"])]
    coefficients = np.concatenate([values["betas"], values["expression"][: expression.shape[2]]])
    return coefficients, np.concatenate([directions[:, :, :SHAPES], expression], axis=2)


MAX_MODEL_BYTES = 2 * 1024**3
N_JOINTS = {"smpl": 24, "smplx": 55}
SHAPES = 10
"""Coefficients of shape, in our body files and of every published model."""
SETTING = "THESIS_BODY_MODELS_DIR"
SUFFIXES = (".npz", ".pkl")
_ARRAYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_SPARSE = ("csc_matrix", "csr_matrix", "coo_matrix")


@dataclass(frozen=True, eq=False)
class BodyModelArrays:
    """One body model; V vertices, J joints. `v_template` (V, 3) metres, `shapedirs` (V, 3, coefficients of shape and expression).

    `posedirs` (V, 3, 9 (J - 1)), `regressor` (J, V), `weights` (V, J), `parents` (J,) with -1 for the root, `faces` (F, 3) from 0.
    """

    v_template: Array
    shapedirs: Array
    posedirs: Array
    regressor: Array
    weights: Array
    parents: Array
    faces: Array


def find_body_model(folder: Path | None, model: BodyModel, gender: str) -> Path:
    """The file of a body model.

    Raises:
        InvalidFile: it is not there, or no folder is set; the message says where it goes.
    """
    stem = f"{model}/{model.upper()}_{gender.upper()}"
    if folder is None:
        raise InvalidFile(
            f"no folder of body models is set ({SETTING})",
            wanted=f"<folder>/{stem}.npz",
            remedy=f"download the {model.upper()} model from its authors' site, and set {SETTING} to the folder",
        )
    for suffix in SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    raise InvalidFile(
        f"the {gender} {model.upper()} model is not there",
        file=folder / f"{stem}.npz",
        wanted="this file, or the same as .pkl",
        remedy=f"download it from the model's authors, and give it this name ({SETTING}={folder})",
    )


def read_body_model(path: Path, model: BodyModel) -> BodyModelArrays:
    """The arrays of a model file, without running code of it; kept while the file stays the same. An InvalidFile where it is none."""
    return _read(path, storage.file_stamp(path), model)


@functools.lru_cache(maxsize=4)
def _read(path: Path, stamp: str, model: BodyModel) -> BodyModelArrays:
    del stamp
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise InvalidFile(
            "the body model is larger than any of its kind", file=path, found=f"{path.stat().st_size} bytes"
        )
    found = _npz_arrays(path) if path.suffix == ".npz" else _pickled_arrays(path)
    arrays = {name: _as_array(found, name, path) for name in _ARRAYS}
    n_vertices, n_joints = len(arrays["v_template"]), N_JOINTS[model]
    wanted: dict[str, tuple[int | None, ...]] = {
        "v_template": (n_vertices, 3),
        "shapedirs": (n_vertices, 3, None),
        "posedirs": (n_vertices, 3, 9 * (n_joints - 1)),
        "J_regressor": (n_joints, n_vertices),
        "weights": (n_vertices, n_joints),
        "kintree_table": (2, n_joints),
        "f": (None, 3),
    }
    for name, shape in wanted.items():
        sizes = arrays[name].shape
        fits = len(sizes) == len(shape) and all(size in (None, real) for size, real in zip(shape, sizes, strict=True))
        if not fits or (name == "shapedirs" and sizes[2] < SHAPES):
            text = ", ".join("any" if size is None else str(size) for size in shape)
            raise InvalidFile(
                f"the file is not a {model.upper()} model", file=path, key=name, found=sizes, wanted=f"({text})"
            )
    parents = arrays["kintree_table"][0].astype(np.int64)
    parents[0] = -1
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return BodyModelArrays(
        v_template=floats["v_template"],
        shapedirs=floats["shapedirs"],
        posedirs=floats["posedirs"],
        regressor=floats["J_regressor"],
        weights=floats["weights"],
        parents=parents,
        faces=arrays["f"].astype(np.int32),
    )


def _npz_arrays(path: Path) -> dict[str, Any]:
    """Only the arrays that are wanted: others of a published file hold pickled dictionaries."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in _ARRAYS if name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidFile("the body model cannot be read", file=path, found=str(error)[:300]) from error


def _pickled_arrays(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as handle:
            content = _NumbersOnly(handle, encoding="latin1").load()
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InvalidFile(
            "the body model cannot be read", file=path, found=f"{type(error).__name__}: {error}"[:300]
        ) from error
    if not isinstance(content, dict):
        raise InvalidFile("the body model is no dictionary of arrays", file=path, found=type(content).__name__)
    return content


class _Chumpy:
    """Stands for any object of `chumpy`: what it was pickled with, and nothing that runs."""

    x: Any = None

    def __setstate__(self, state: object) -> None:
        self.x = state.get("x") if isinstance(state, dict) else None


class _NumbersOnly(pickle.Unpickler):
    """Unpickles arrays, sparse matrices and plain values; any other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return _Chumpy
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return getattr(importlib.import_module("numpy._core.multiarray"), name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module.startswith("scipy.sparse") and name in _SPARSE:
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return _plain_object
        if (module, name) in (("__builtin__", "object"), ("builtins", "object")):
            return object
        if (module, name) == ("_codecs", "encode"):
            return _bytes_of
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no number")


def _bytes_of(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _plain_object(kind: Any, base: Any, state: Any) -> Any:
    """`copyreg._reconstructor` for the stand-ins alone."""
    import scipy.sparse

    if base is object and (kind is _Chumpy or kind in [getattr(scipy.sparse, name) for name in _SPARSE]):
        return object.__new__(kind)
    raise pickle.UnpicklingError(f"it rebuilds {kind!r} from {base!r}")


def _as_array(found: dict[str, Any], name: str, path: Path) -> Array:
    value = found.get(name)
    if isinstance(value, _Chumpy):
        value = value.x
    if value is not None and hasattr(value, "toarray"):
        value = value.toarray()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
        raise InvalidFile(
            "the body model lacks an array of finite numbers",
            file=path,
            key=name,
            found=", ".join(sorted(map(str, found)))[:300],
            wanted=", ".join(_ARRAYS),
        )
    return value
