"""The numbers of one image in a `transforms.json`: its own before those of the whole file, each checked.

Does not belong here: files and poses (nerfstudio.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.importers.capture import (
    NEGLIGIBLE_DISTORTION,
    UNDISTORT_REMEDY,
    Matrix,
    pinhole_matrix,
)

_PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_OTHER_CAMERAS = ("is_fisheye", "from_na", "from_mitsuba")
"""instant-ngp's words for other lenses and other axes."""
_LENS_NAMES = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """An image's values.

    Attributes:
        values: of the image.
        shared: of the whole file.
        key: `frames[3]`.
    """

    listing: Path
    key: str
    values: Values
    shared: Values

    def stated_size(self, actual: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that the intrinsics belong to: `h` and `w`, else those of the image file.

        Raises:
            InvalidFile: they are no whole numbers above 0.
        """
        found = [self._number(name) for name in ("h", "w")]
        for name, value in zip(("h", "w"), found, strict=True):
            if value is not None and (value < 1 or value != int(value)):
                raise self._refused("not a size in pixels", name, value, "a whole number above 0")
        height, width = (int(value) if value is not None else own for value, own in zip(found, actual, strict=True))
        return height, width

    def intrinsics(self, size: tuple[int, int]) -> Matrix:
        """(3, 3) pixels of an image of (height, width) `size`.

        Without `fl_y` the pixels are square; without `cx`, `cy` the principal point is the image's middle.

        Raises:
            InvalidFile: there is no focal length, or a number is out of range.
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
        """Refuse what no pinhole camera can stand for.

        Raises:
            InvalidFile: a fisheye or panorama, instant-ngp's other axes, or a lens distorted beyond `NEGLIGIBLE_DISTORTION`.
        """
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
        for name, coefficient in self._lens():
            if abs(coefficient) >= NEGLIGIBLE_DISTORTION:
                wanted = f"0 (below {NEGLIGIBLE_DISTORTION:g}): the platform's cameras are pinhole cameras"
                raise self._refused("the lens is distorted", name, coefficient, wanted, UNDISTORT_REMEDY)

    def _lens(self) -> Iterator[tuple[str, float]]:
        for name in _LENS_NAMES:
            yield name, self._number(name) or 0.0
        listed = self._value("distortion_params")
        for place, value in enumerate(listed if isinstance(listed, list) else [listed]):
            name = f"distortion_params[{place}]"
            yield name, self._checked(value, name) or 0.0

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
