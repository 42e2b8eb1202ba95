"""COLMAP's camera models: their numbers and parameters, and which of them a pinhole camera can stand for.

Source: `src/colmap/sensor/models.h` of COLMAP; the upper left pixel's centre is (0.5, 0.5) there as it is here.
Does not belong here: files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.importers.capture import NEGLIGIBLE_DISTORTION, UNDISTORT_REMEDY, Matrix, pinhole_matrix

Projection = Literal["pinhole", "other"]


@dataclass(frozen=True)
class ColmapModel:
    """A camera model.

    Attributes:
        n_focal: 1 (one focal length for both axes) or 2; then come cx, cy, then the lens.
        n_lens: coefficients that are all 0 for a lens without distortion.
        projection: `other` is no pinhole camera even then (a fisheye maps angles, not tangents).
    """

    name: str
    n_focal: int
    n_lens: int
    projection: Projection = "pinhole"

    @property
    def n_parameters(self) -> int:
        return self.n_focal + 2 + self.n_lens


MODELS_BY_ID: dict[int, ColmapModel] = {
    0: ColmapModel("SIMPLE_PINHOLE", 1, 0),
    1: ColmapModel("PINHOLE", 2, 0),
    2: ColmapModel("SIMPLE_RADIAL", 1, 1),
    3: ColmapModel("RADIAL", 1, 2),
    4: ColmapModel("OPENCV", 2, 4),
    5: ColmapModel("OPENCV_FISHEYE", 2, 4, "other"),
    6: ColmapModel("FULL_OPENCV", 2, 8),
    7: ColmapModel("FOV", 2, 1),
    8: ColmapModel("SIMPLE_RADIAL_FISHEYE", 1, 1, "other"),
    9: ColmapModel("RADIAL_FISHEYE", 1, 2, "other"),
    10: ColmapModel("THIN_PRISM_FISHEYE", 2, 8, "other"),
    11: ColmapModel("RAD_TAN_THIN_PRISM_FISHEYE", 2, 12, "other"),
    12: ColmapModel("SIMPLE_DIVISION", 1, 1),
    13: ColmapModel("DIVISION", 2, 1),
    14: ColmapModel("SIMPLE_FISHEYE", 1, 0, "other"),
    15: ColmapModel("FISHEYE", 2, 0, "other"),
}
MODELS_BY_NAME = {model.name: model for model in MODELS_BY_ID.values()}


@dataclass(frozen=True)
class ColmapCamera:
    """A row of `cameras.txt` or `cameras.bin`. Sizes in pixels; the parameters in the model's order."""

    camera_id: int
    model: ColmapModel
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """A row of `images.txt` or `images.bin`, its 2D points left out. World to camera; the quaternion w first."""

    image_id: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera_id: int
    name: str


def pinhole_of(camera: ColmapCamera, file: Path) -> Matrix:
    """(3, 3) intrinsics of a camera without lens distortion.

    Raises:
        InvalidFile: the model is no pinhole's, its lens is distorted, or a parameter or size is out of range.
    """
    model, key = camera.model, f"camera {camera.camera_id}"
    focal, rest = camera.parameters[: model.n_focal], camera.parameters[model.n_focal :]
    centre, lens = rest[:2], rest[2:]
    # `not (a < b)` also catches NaN, which compares false with everything.
    distorted = any(not abs(coefficient) < NEGLIGIBLE_DISTORTION for coefficient in lens)
    if model.projection == "other" or distorted:
        raise InvalidFile(
            "the lens is distorted",
            file=file,
            key=key,
            found=f"{model.name} with {list(lens)}",
            wanted=f"PINHOLE, SIMPLE_PINHOLE, or a lens whose coefficients are 0 (below {NEGLIGIBLE_DISTORTION:g})",
            remedy=UNDISTORT_REMEDY,
        )
    if not all(0 < value < 1e9 for value in (*focal, camera.width, camera.height)) or not all(
        abs(value) < 1e9 for value in centre
    ):
        raise InvalidFile(
            "a camera's parameters are out of range",
            file=file,
            key=key,
            found=f"{camera.width} x {camera.height}, {list(camera.parameters)}",
            wanted="positive sizes and focal lengths, finite numbers",
        )
    return pinhole_matrix((focal[0], focal[-1]), (centre[0], centre[1]))
