"""`cameras.bin` and `images.bin` of a COLMAP sparse model. Little endian; source: https://colmap.github.io/format.html.

Lengths are held against the file before anything is read or allocated; 2D points are skipped, not read.
Does not belong here: the text form, or what a camera model means.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.importers.capture import MAX_NAME_BYTES, MAX_PHOTOGRAPHS
from thesis_assets.scenes.importers.colmap_models import MODELS_BY_ID, ColmapCamera, ColmapImage

_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_COUNT = struct.Struct("<Q")
_POINT_BYTES = 24


def read_cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    """Cameras by id.

    Raises:
        InvalidFile: missing, cut short, or of a camera model that is not known.
    """
    cameras: dict[int, ColmapCamera] = {}
    with _opened(path) as handle:
        records = _Records(path, handle)
        for number in range(records.count("cameras", _CAMERA.size)):
            what = f"camera {number}"
            camera_id, model_id, width, height = records.take(_CAMERA, what)
            model = MODELS_BY_ID.get(model_id)
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
            cameras[camera_id] = ColmapCamera(camera_id, model, width, height, parameters)
    return cameras


def read_images_binary(path: Path) -> list[ColmapImage]:
    """Registered images, in the file's order.

    Raises:
        InvalidFile: missing, cut short, or a name is not UTF-8.
    """
    images = []
    with _opened(path) as handle:
        records = _Records(path, handle)
        for number in range(records.count("images", _IMAGE.size + 1 + _COUNT.size)):
            what = f"image {number}"
            image_id, *pose, camera_id = records.take(_IMAGE, what)
            name = records.take_name(what)
            (n_points,) = records.take(_COUNT, what)
            records.skip(n_points * _POINT_BYTES, what)
            images.append(ColmapImage(image_id, tuple(pose[:4]), tuple(pose[4:]), camera_id, name))
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
