"""nerfstudio's `transforms.json` (also that of instant-ngp and of Blender's NeRF scenes) as a capture.

Source: https://docs.nerf.studio/quickstart/data_conventions.html. `transform_matrix` is camera-to-world with OpenGL axes.
Intrinsics are in pixels with pixel centres at half-integers, as nerfstudio casts its rays. `applied_transform` and
`applied_scale` say how the file's world came from COLMAP's; they are part of the matrices already and are *not* undone: the
scene's world is the file's.
Does not belong here: camera ids, frames, writing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_bounded
from thesis_assets.scenes.camera import Matrix
from thesis_assets.scenes.importers.capture import (
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

MAX_TRANSFORMS_BYTES = 256 * 1024 * 1024
FILE_NAME = "transforms.json"

_WORLD_KEYS = ("applied_transform", "applied_scale")
_UNSTATED_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_nerfstudio(source: Path, *, images: Path | None = None) -> Capture:
    """Read a `transforms.json`, or the one in a folder. Values of a frame override those of the whole file.

    Args:
        images: the folder that the file's paths start from; None takes the file's own.

    Raises:
        InvalidFile: the file is missing, too large, or no such listing; a path leaves the folder or is no file; a matrix is
            not finite or no rotation; a lens is distorted by more than `NEGLIGIBLE_DISTORTION`, or is no pinhole's.
    """
    listing = source / FILE_NAME if source.is_dir() else source
    shared = _read_listing(listing)
    root = images or listing.parent
    entries = [_Entry(listing, f"frames[{number}]", frame, shared) for number, frame in enumerate(shared["frames"])]
    photographs = tuple(_photograph(entry, root) for entry in entries)
    refuse_repeats((photograph.name for photograph in photographs), listing)
    return Capture(
        format="nerfstudio",
        source=listing,
        source_files=(listing,),
        photographs=photographs,
        notes=(*scaling_notes(photographs), *_not_taken(shared)),
        world=_world(shared),
    )


def _read_listing(path: Path) -> dict[str, Any]:
    content = read_bounded(path, MAX_TRANSFORMS_BYTES)
    try:
        # The standard parser takes the literal NaN that Python writes, so that its place can be named.
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidFile("the file is not JSON", file=path, found=str(error)[:200]) from error
    frames = value.get("frames") if isinstance(value, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise InvalidFile(
            "the file lists no images",
            file=path,
            key="frames",
            wanted="a list of {file_path, transform_matrix}, as nerfstudio writes it",
        )
    if len(frames) > MAX_PHOTOGRAPHS:
        raise InvalidFile("too many images", file=path, key="frames", found=len(frames), wanted=f"<= {MAX_PHOTOGRAPHS}")
    return dict(value)


def _photograph(entry: _Entry, root: Path) -> Photograph:
    entry.refuse_other_lenses()
    listing, key, values = entry.listing, entry.key, entry.values
    name, path = find_below(
        root, values.get("file_path"), listing=listing, key=f"{key}.file_path", suffixes=_UNSTATED_SUFFIXES
    )
    actual = photograph_size(path, listing=listing, key=key)
    stated = entry.stated_size(actual)
    intrinsics = fitted_intrinsics(entry.intrinsics(stated), stated, actual, path=path, listing=listing, key=key)
    mask_name, mask = None, None
    if values.get("mask_path"):
        mask_name, mask = find_below(root, values["mask_path"], listing=listing, key=f"{key}.mask_path")
    extrinsics = _extrinsics(entry, name)
    return Photograph(name, path, *actual, intrinsics, extrinsics, mask=mask, mask_name=mask_name, stated=stated)


def _extrinsics(entry: _Entry, name: str) -> Matrix:
    value = entry.values.get("transform_matrix")
    try:
        if not isinstance(value, list):
            raise ValueError("there is no matrix")
        matrix = np.array(value)
        if matrix.shape not in ((4, 4), (3, 4)) or matrix.dtype.kind not in "if":
            raise ValueError(f"shape {matrix.shape} of {matrix.dtype}")
        return extrinsics_from_opengl(matrix.astype(np.float64))
    except ValueError as error:
        raise InvalidFile(
            "an image's pose cannot be used",
            file=entry.listing,
            key=f"{entry.key}.transform_matrix",
            found=f"{error} (image {name!r})"[:300],
            wanted="4 x 4 finite numbers, camera to world, OpenGL axes, without scale",
            remedy="correct the pose, or take the image out of the listing",
        ) from error


def _not_taken(shared: _Values) -> list[str]:
    """Every key that nobody reads: of images with how many have it, of the file with how long its list is."""

    def note(key: str, of: str) -> str:
        return f"not taken over: {key if key.isidentifier() else repr(key)[:80]}{of}{_MEANING.get(key, '')}"

    counts = Counter(key for frame in shared["frames"] for key in frame if key not in _OF_IMAGE)
    others = [(key, value) for key, value in shared.items() if key not in _OF_FILE]
    return [
        *(note(key, f" of {count} images") for key, count in counts.items()),
        *(note(key, f" ({len(value)} entries)" if isinstance(value, list) else "") for key, value in others),
    ]


def _world(shared: _Values) -> dict[str, object]:
    """What the file says of its world, where it is numbers."""
    found: dict[str, object] = {}
    for key in _WORLD_KEYS:
        try:
            numbers = np.array(shared.get(key, []), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            continue
        if numbers.size and np.isfinite(numbers).all():
            found[key] = numbers.tolist()
    return found


_PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_OTHER_CAMERAS = ("is_fisheye", "from_na", "from_mitsuba")
"""instant-ngp's words for other lenses and other axes."""
_LENS_NAMES = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_SIZES = ("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y")
_OF_CAMERA = frozenset((*_SIZES, *_OTHER_CAMERAS, *_LENS_NAMES, "camera_model", "distortion_params"))
_OF_IMAGE = _OF_CAMERA | {"file_path", "mask_path", "transform_matrix"}
_OF_FILE = _OF_CAMERA | {"frames", *_WORLD_KEYS}
_MEANING = {
    "time": ": all become one moment, unless --frames-from tells frames by the images' names",
    "is_bad": ": they are taken all the same; take them out of the listing if that is not meant",
    "test_frames": ": images of this list are not in the scene",
}
"""What follows from a key that is not taken over, where a reader may not expect it."""

_Values = Mapping[str, Any]


@dataclass(frozen=True)
class _Entry:
    """An image's values, those of the whole file, and its place there (`frames[3]`)."""

    listing: Path
    key: str
    values: _Values
    shared: _Values

    def stated_size(self, actual: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that the intrinsics belong to: `h` and `w`, else those of the image file."""
        found = [self._number(name) for name in ("h", "w")]
        for name, value in zip(("h", "w"), found, strict=True):
            if value is not None and (value < 1 or value != int(value)):
                raise self._refused("not a size in pixels", name, value, "a whole number above 0")
        height, width = (int(value) if value is not None else own for value, own in zip(found, actual, strict=True))
        return height, width

    def intrinsics(self, size: tuple[int, int]) -> Matrix:
        """(3, 3) pixels of an image of (height, width) `size`.

        Without `fl_y` the pixels are square; without `cx`, `cy` the principal point is the image's middle.
        """
        height, width = size
        focal_x = self._focal("fl_x", "camera_angle_x", width)
        focal_y = self._focal("fl_y", "camera_angle_y", height)
        if focal_x is None:
            wanted = "fl_x in pixels or camera_angle_x in radians, of the image or of the whole file"
            raise self._refused("an image has no focal length", "fl_x", None, wanted)
        centre_x, centre_y = self._number("cx"), self._number("cy")
        return pinhole_matrix(
            (focal_x, focal_y if focal_y is not None else focal_x),
            (width / 2 if centre_x is None else centre_x, height / 2 if centre_y is None else centre_y),
        )

    def refuse_other_lenses(self) -> None:
        """Refuse what no pinhole camera can stand for."""
        model = self._value("camera_model")
        if model is not None and model not in _PINHOLE_MODELS:
            wanted = " or ".join(_PINHOLE_MODELS)
            raise self._refused("the camera is not a pinhole camera", "camera_model", model, wanted, UNDISTORT_REMEDY)
        for name in _OTHER_CAMERAS:
            if self._value(name):
                raise self._refused(
                    "the camera is not a pinhole camera in nerfstudio's axes",
                    name,
                    self._value(name),
                    "false",
                    UNDISTORT_REMEDY,
                )
        listed = self._value("distortion_params")
        lens = {name: self._value(name) for name in _LENS_NAMES}
        lens |= {
            f"distortion_params[{n}]": value for n, value in enumerate(listed if isinstance(listed, list) else [listed])
        }
        for name, value in lens.items():
            coefficient = self._checked(value, name) or 0.0
            if abs(coefficient) >= NEGLIGIBLE_DISTORTION:
                wanted = f"0 (below {NEGLIGIBLE_DISTORTION:g}): the platform's cameras are pinhole cameras"
                raise self._refused("the lens is distorted", name, coefficient, wanted, UNDISTORT_REMEDY)

    def _focal(self, name: str, angle_name: str, extent: int) -> float | None:
        """Pixels: of the image before that of the file, and a length before a field of view."""
        for values in (self.values, self.shared):
            focal = self._checked(values.get(name), name)
            angle = self._checked(values.get(angle_name), angle_name)
            if focal is None and angle is None:
                continue
            if focal is None and angle is not None:
                if not 0 < angle < math.pi:
                    raise self._refused("not a field of view", angle_name, angle, "radians between 0 and pi")
                focal = 0.5 * extent / math.tan(0.5 * angle)
            if focal is None or focal <= 0:
                raise self._refused("not a focal length", name, focal, "pixels above 0")
            return focal
        return None

    def _number(self, name: str) -> float | None:
        return self._checked(self._value(name), name)

    def _value(self, name: str) -> Any:
        own = self.values.get(name)
        return own if own is not None else self.shared.get(name)

    def _checked(self, value: object, name: str) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            raise self._refused("not a number that can be used", name, value, "a finite number")
        return float(value)

    def _refused(self, problem: str, name: str, found: object, wanted: str, remedy: str | None = None) -> InvalidFile:
        return InvalidFile(
            problem,
            file=self.listing,
            key=f"{self.key}.{name}" if name in self.values else f"{name} ({self.key})",
            found=None if found is None else repr(found)[:100],
            wanted=wanted,
            remedy=remedy,
        )


_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0])
_ROTATION_TOLERANCE = 1e-3  # matrices printed with four decimals pass; a scaled or sheared one does not


def extrinsics_from_opengl(camera_to_world: Matrix) -> Matrix:
    """(3, 4) world-to-camera of a camera-to-world (4, 4) or (3, 4) with OpenGL axes (x right, y up, z backward), as nerfstudio writes it.

    The rotation is made exactly orthogonal; the camera's centre stays. A ValueError where it is not finite, or no rotation.
    """
    if not np.isfinite(camera_to_world).all():
        raise ValueError("the matrix is not finite")
    if camera_to_world.shape == (4, 4) and not np.allclose(camera_to_world[3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"its last row is {camera_to_world[3].tolist()}, not [0, 0, 0, 1]")
    rotation = _nearest_rotation(camera_to_world[:3, :3]) @ _OPENGL_TO_OPENCV
    return np.column_stack([rotation.T, -rotation.T @ camera_to_world[:3, 3]])


def _nearest_rotation(matrix: Matrix) -> Matrix:
    """The rotation closest to a rounded one (orthogonal Procrustes by singular values)."""
    left, values, right = np.linalg.svd(matrix)
    if np.abs(values - 1.0).max() > _ROTATION_TOLERANCE:
        raise ValueError(f"its upper left 3 x 3 part scales by {values.round(6).tolist()}; a rotation is wanted")
    rotation: Matrix = left @ right
    if np.linalg.det(rotation) < 0:
        raise ValueError("its upper left 3 x 3 part mirrors the world (determinant -1); a rotation is wanted")
    return rotation
