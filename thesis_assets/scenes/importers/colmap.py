"""A COLMAP sparse model, text or binary, as a capture. Its poses are world-to-camera with OpenCV axes.

Sources: https://colmap.github.io/format.html, and `src/colmap/sensor/models.h` for the camera models; the upper left pixel's
centre is (0.5, 0.5) there as it is here. Models of COLMAP 3.12 and newer, with `rigs` and `frames` beside them, state every
image's own pose in `images` too, which is what is read. Of a binary file, lengths are held against the file before anything is
read or allocated; 2D points are skipped, not read.
Does not belong here: camera ids, frames, writing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.camera import Matrix
from thesis_assets.scenes.importers.capture import (
    MAX_NAME_BYTES,
    MAX_PHOTOGRAPHS,
    NEGLIGIBLE_DISTORTION,
    UNDISTORT_REMEDY,
    Capture,
    Photograph,
    find_below,
    fitted_intrinsics,
    photograph_size,
    pinhole_matrix,
    refuse_repeats,
    scaling_notes,
)

_MODEL_FOLDERS = (".", "sparse/0", "sparse")
_SUFFIXES = (".bin", ".txt")
"""Where a folder holds both, binary is read, as COLMAP does."""


def read_colmap(source: Path, *, images: Path | None = None) -> Capture:
    """Read a sparse model: of a folder of `cameras` and `images`, or of a project's that holds it as `sparse/0` or `sparse`.

    Args:
        images: the folder that the images' names start from; None looks for `images` in the model's folder and the two above it.

    Raises:
        InvalidFile: there is no model, or it is cut short or not readable; there is no images folder; a name leaves it or is
            no file; a pose is not finite; a lens is distorted.
    """
    folder, suffix = _find_model(source)
    cameras_file, images_file = folder / f"cameras{suffix}", folder / f"images{suffix}"
    cameras = _cameras_binary(cameras_file) if suffix == ".bin" else _cameras_text(cameras_file)
    rows = _images_binary(images_file) if suffix == ".bin" else _images_text(images_file)
    if not rows:
        raise InvalidFile("the sparse model has no registered image", file=images_file, remedy="run the mapper again")
    root = images or _find_images(folder)
    photographs = tuple(_photograph(row, cameras, root, cameras_file, images_file) for row in rows)
    refuse_repeats((photograph.name for photograph in photographs), images_file)
    return Capture(
        format="colmap",
        source=folder,
        source_files=(cameras_file, images_file),
        photographs=photographs,
        notes=(*scaling_notes(photographs), *_not_taken(folder, suffix, len(rows))),
    )


def _not_taken(folder: Path, suffix: str, n_images: int) -> list[str]:
    """What lies in the model's folder and is not read; other models of the same run, with their size."""
    used = {f"cameras{suffix}", f"images{suffix}"}
    others = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name not in used)
    notes = [f"not taken over: {', '.join(others)}"] if others else []
    for sibling in sorted(folder.parent.iterdir()) if folder.name.isdigit() else ():
        if sibling != folder and sibling.name.isdigit() and (found := _images_in(sibling)) is not None:
            larger = ", the larger one: name it to take it" if found > n_images else ""
            notes.append(f"not taken over: the model {sibling} of {found} images (this one has {n_images}){larger}")
    return notes


def _images_in(folder: Path) -> int | None:
    """How many images another model has; None where it is none, or cannot be read."""
    for suffix in _SUFFIXES:
        path = folder / f"images{suffix}"
        if path.is_file():
            try:
                return len(_images_binary(path) if suffix == ".bin" else _images_text(path))
            except InvalidFile:
                return None
    return None


def _find_model(source: Path) -> tuple[Path, str]:
    for name in _MODEL_FOLDERS:
        folder = source / name
        for suffix in _SUFFIXES:
            if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
                return folder, suffix
    raise InvalidFile(
        "there is no COLMAP sparse model",
        file=source,
        wanted="cameras.bin and images.bin, or cameras.txt and images.txt, here, in sparse/0 or in sparse",
        remedy="name the folder that `colmap mapper` or `colmap image_undistorter` wrote",
    )


def _find_images(folder: Path) -> Path:
    model = folder.resolve()
    for place in (model, *model.parents[:2]):
        if (place / "images").is_dir():
            return place / "images"
    raise InvalidFile(
        "the images of the sparse model are not known",
        file=model,
        wanted="a folder `images` in it or in one of the two folders above it",
        remedy="name it: --images <folder>",
    )


def _photograph(
    row: _Image, cameras: Mapping[int, _Camera], root: Path, cameras_file: Path, images_file: Path
) -> Photograph:
    key = f"image {row.image_id}"
    camera = cameras.get(row.camera_id)
    if camera is None:
        raise InvalidFile(
            "an image names a camera that is not there",
            file=images_file,
            key=key,
            found=row.camera_id,
            wanted=f"a camera of {cameras_file.name}",
        )
    intrinsics = _pinhole_of(camera, cameras_file)
    name, path = find_below(root, row.name, listing=images_file, key=key)
    actual = photograph_size(path, listing=images_file, key=key)
    try:
        extrinsics = extrinsics_from_quaternion(np.array(row.quaternion), np.array(row.translation))
    except ValueError as error:
        raise InvalidFile(
            "an image's pose cannot be used",
            file=images_file,
            key=key,
            found=f"{error} (image {row.name!r})"[:300],
            wanted="seven finite numbers, QW QX QY QZ TX TY TZ",
        ) from error
    stated = camera.height, camera.width
    intrinsics = fitted_intrinsics(intrinsics, stated, actual, path=path, listing=images_file, key=key)
    return Photograph(name, path, *actual, intrinsics, extrinsics, stated=stated)


@dataclass(frozen=True)
class _Model:
    """A camera model.

    Attributes:
        n_focal: 1 (one focal length for both axes) or 2; then come cx, cy, then the lens.
        n_lens: coefficients that are all 0 for a lens without distortion.
        is_pinhole: false: it is no pinhole camera even then (a fisheye maps angles, not tangents).
    """

    name: str
    n_focal: int
    n_lens: int
    is_pinhole: bool = True

    @property
    def n_parameters(self) -> int:
        return self.n_focal + 2 + self.n_lens


_MODELS_BY_ID: dict[int, _Model] = {
    0: _Model("SIMPLE_PINHOLE", 1, 0),
    1: _Model("PINHOLE", 2, 0),
    2: _Model("SIMPLE_RADIAL", 1, 1),
    3: _Model("RADIAL", 1, 2),
    4: _Model("OPENCV", 2, 4),
    5: _Model("OPENCV_FISHEYE", 2, 4, is_pinhole=False),
    6: _Model("FULL_OPENCV", 2, 8),
    7: _Model("FOV", 2, 1),
    8: _Model("SIMPLE_RADIAL_FISHEYE", 1, 1, is_pinhole=False),
    9: _Model("RADIAL_FISHEYE", 1, 2, is_pinhole=False),
    10: _Model("THIN_PRISM_FISHEYE", 2, 8, is_pinhole=False),
    11: _Model("RAD_TAN_THIN_PRISM_FISHEYE", 2, 12, is_pinhole=False),
    12: _Model("SIMPLE_DIVISION", 1, 1),
    13: _Model("DIVISION", 2, 1),
    14: _Model("SIMPLE_FISHEYE", 1, 0, is_pinhole=False),
    15: _Model("FISHEYE", 2, 0, is_pinhole=False),
    16: _Model("EUCM", 2, 2, is_pinhole=False),
    17: _Model("EQUIRECTANGULAR", 0, 0, is_pinhole=False),
}
_MODELS_BY_NAME = {model.name: model for model in _MODELS_BY_ID.values()}


@dataclass(frozen=True)
class _Camera:
    """A row of `cameras.txt` or `cameras.bin`. Sizes in pixels; the parameters in the model's order."""

    camera_id: int
    model: _Model
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    """A row of `images.txt` or `images.bin`, its 2D points left out. World to camera; the quaternion w first."""

    image_id: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera_id: int
    name: str


def _pinhole_of(camera: _Camera, file: Path) -> Matrix:
    """(3, 3) intrinsics of a camera without lens distortion."""
    model, key = camera.model, f"camera {camera.camera_id}"
    if model.name == "EQUIRECTANGULAR":
        raise InvalidFile(
            "the images are panoramas",
            file=file,
            key=key,
            found=f"{model.name}, {camera.width} x {camera.height}",
            wanted="pinhole cameras",
            remedy="cut each panorama into pinhole views first, as COLMAP's example `panorama_sfm.py` does",
        )
    focal, rest = camera.parameters[: model.n_focal], camera.parameters[model.n_focal :]
    centre, lens = rest[:2], rest[2:]
    # `not (a < b)` also catches NaN, which compares false with everything.
    distorted = any(not abs(coefficient) < NEGLIGIBLE_DISTORTION for coefficient in lens)
    if distorted or not model.is_pinhole:
        raise InvalidFile(
            "the lens is distorted",
            file=file,
            key=key,
            found=f"{model.name} with {list(lens)}",
            wanted=f"PINHOLE, SIMPLE_PINHOLE, or a lens whose coefficients are 0 (below {NEGLIGIBLE_DISTORTION:g})",
            remedy=UNDISTORT_REMEDY,
        )
    sizes = (*focal, camera.width, camera.height)
    if not all(0 < value < 1e9 for value in sizes) or not all(abs(value) < 1e9 for value in centre):
        raise InvalidFile(
            "a camera's parameters are out of range",
            file=file,
            key=key,
            found=f"{camera.width} x {camera.height}, {list(camera.parameters)}",
            wanted="positive sizes and focal lengths, finite numbers",
        )
    return pinhole_matrix((focal[0], focal[-1]), (centre[0], centre[1]))


_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_COUNT = struct.Struct("<Q")
_POINT_BYTES = 24


def _cameras_binary(path: Path) -> dict[int, _Camera]:
    """Cameras by id."""
    cameras: dict[int, _Camera] = {}
    with _opened(path) as handle:
        records = _Records(path, handle)
        for number in range(records.count("cameras", _CAMERA.size)):
            what = f"camera {number}"
            camera_id, model_id, width, height = records.take(_CAMERA, what)
            model = _MODELS_BY_ID.get(model_id)
            if model is None:
                raise InvalidFile(
                    "a camera model is not known",
                    file=path,
                    key=f"camera {camera_id}",
                    found=f"model id {model_id}",
                    wanted="PINHOLE or SIMPLE_PINHOLE",
                    remedy="undistort the images with `colmap image_undistorter`; or the file is not COLMAP's",
                )
            parameters = records.take(struct.Struct(f"<{model.n_parameters}d"), what)
            cameras[camera_id] = _Camera(camera_id, model, width, height, parameters)
    return cameras


def _images_binary(path: Path) -> list[_Image]:
    """Registered images, in the file's order."""
    images = []
    with _opened(path) as handle:
        records = _Records(path, handle)
        for number in range(records.count("images", _IMAGE.size + 1 + _COUNT.size)):
            what = f"image {number}"
            image_id, *pose, camera_id = records.take(_IMAGE, what)
            name = records.take_name(what)
            (n_points,) = records.take(_COUNT, what)
            records.skip(n_points * _POINT_BYTES, what)
            images.append(_Image(image_id, tuple(pose[:4]), tuple(pose[4:]), camera_id, name))
    return images


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidFile("the file cannot be opened", file=path, found=error.strerror) from error


@dataclass(frozen=True)
class _Records:
    """Reads records one after the other, each held against the end of the file."""

    path: Path
    handle: BinaryIO

    def count(self, what: str, record_bytes: int) -> int:
        """The number of records that the file announces, where it is long enough for them."""
        (count,) = self.take(_COUNT, f"number of {what}")
        if count > MAX_PHOTOGRAPHS or count * record_bytes > self._left():
            raise self._short(f"{count} {what}", f"{self._left()} bytes are left for them")
        return int(count)

    def take(self, form: struct.Struct, what: str) -> tuple[Any, ...]:
        content = self.handle.read(form.size)
        if len(content) < form.size:
            raise self._short(what, f"{len(content)} of {form.size} bytes")
        return form.unpack(content)

    def take_name(self, what: str) -> str:
        """A name that ends with a zero byte."""
        start = self.handle.tell()
        content, end, _ = self.handle.read(MAX_NAME_BYTES + 1).partition(b"\0")
        if not end:
            raise self._short(what, "no end of the image's name")
        self.handle.seek(start + len(content) + 1)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidFile(
                "an image's name is not UTF-8",
                file=self.path,
                key=what,
                found=ascii(content[:200]),
                remedy="rename the image and run COLMAP again; or the file is not COLMAP's",
            ) from error

    def skip(self, n_bytes: int, what: str) -> None:
        if n_bytes > self._left():
            raise self._short(what, f"{self._left()} of {n_bytes} bytes of its 2D points")
        self.handle.seek(n_bytes, os.SEEK_CUR)

    def _left(self) -> int:
        return os.fstat(self.handle.fileno()).st_size - self.handle.tell()

    def _short(self, what: str, found: str) -> InvalidFile:
        return InvalidFile(
            "the COLMAP file is cut short, or is not COLMAP's",
            file=self.path,
            key=what,
            found=found,
            remedy="export the sparse model again (`colmap model_converter`), or copy it again",
        )


_MAX_LINE_BYTES = 64 * 1024 * 1024
"""One line holds all 2D points of an image: 20,000 of them take 1 MB."""
_IMAGE_FIELDS = 10


def _cameras_text(path: Path) -> dict[int, _Camera]:
    """Cameras by id."""
    cameras: dict[int, _Camera] = {}
    for number, line in _rows(path):
        words = line.split()
        try:
            camera_id, name, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            parameters = tuple(float(word) for word in words[4:])
        except (IndexError, ValueError) as error:
            raise _bad_line(path, number, line, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]") from error
        model = _MODELS_BY_NAME.get(name)
        if model is None or len(parameters) != model.n_parameters:
            wanted = "PINHOLE or SIMPLE_PINHOLE" if model is None else f"{model.n_parameters} parameters of {name}"
            raise _bad_line(path, number, line, wanted)
        cameras[camera_id] = _Camera(camera_id, model, width, height, parameters)
    return cameras


def _images_text(path: Path) -> list[_Image]:
    """Registered images, in the file's order. A name is what stands after the camera's id, spaces included."""
    images: list[_Image] = []
    for number, line in _rows(path, with_points=True):
        words = line.split(maxsplit=_IMAGE_FIELDS - 1)
        try:
            image_id, camera_id, name = int(words[0]), int(words[8]), words[9]
            pose = [float(word) for word in words[1:8]]
        except (IndexError, ValueError) as error:
            wanted = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of 2D points, which may be empty"
            raise _bad_line(path, number, line, wanted) from error
        images.append(_Image(image_id, tuple(pose[:4]), tuple(pose[4:]), camera_id, name))
        if len(images) > MAX_PHOTOGRAPHS:
            raise InvalidFile("too many images", file=path, wanted=f"<= {MAX_PHOTOGRAPHS}")
    return images


def _refuse_no_points(line: bytes, path: Path, number: int) -> None:
    """Refuse a line behind an image's that holds no 2D points: of a file with one line an image every second would be lost."""
    words = line.split()
    try:
        is_points = len(words) % 3 == 0 and len([float(word) for word in words]) == len(words)
    except ValueError:
        is_points = False
    if not is_points:
        wanted = "the 2D points of the image above, X Y POINT3D_ID each; an empty line where there are none"
        raise _bad_line(path, number, ascii(line[:160].decode("utf-8", "replace")), wanted)


def _rows(path: Path, *, with_points: bool = False) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty and no comment. `with_points`: without the line of 2D points behind each."""
    try:
        with path.open("rb") as handle:
            number = 0
            while line := handle.readline(_MAX_LINE_BYTES):
                number += 1
                try:
                    text = line.decode("utf-8").strip()
                except UnicodeDecodeError as error:
                    found = ascii(line[:120])
                    raise InvalidFile(
                        "a line is not UTF-8 text", file=path, key=f"line {number}", found=found
                    ) from error
                if not text or text.startswith("#"):
                    continue
                yield number, text
                if with_points:
                    number += 1
                    points = handle.readline(_MAX_LINE_BYTES)
                    if len(points) == _MAX_LINE_BYTES:
                        raise InvalidFile("a line is longer than any of its kind", file=path, key=f"line {number}")
                    _refuse_no_points(points, path, number)
    except OSError as error:
        raise InvalidFile("the file cannot be opened", file=path, found=error.strerror) from error


def _bad_line(path: Path, number: int, line: str, wanted: str) -> InvalidFile:
    return InvalidFile(
        "a line of the COLMAP file cannot be read",
        file=path,
        key=f"line {number}",
        found=repr(line[:160]),
        wanted=wanted,
        remedy="export the sparse model again (`colmap model_converter --output_type TXT`)",
    )


def extrinsics_from_quaternion(quaternion: Matrix, translation: Matrix) -> Matrix:
    """(3, 4) world-to-camera of COLMAP's `QW QX QY QZ TX TY TZ`, which is world-to-camera with OpenCV axes already.

    `quaternion`: (4,) w first (Hamilton); a ValueError where it is zero or a number is not finite. `translation`: (3,).
    """
    if not (np.isfinite(quaternion).all() and np.isfinite(translation).all()):
        raise ValueError("the pose is not finite")
    length = float(np.linalg.norm(quaternion))
    if length < 1e-8:
        raise ValueError("the quaternion is zero")
    w, x, y, z = quaternion / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.column_stack([rotation, translation])
