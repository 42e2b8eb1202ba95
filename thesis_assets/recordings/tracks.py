"""What a recording holds, as values: tracks of images, masks, depth, cameras, bodies, meshes, scalars and text; and a folder's frames.

A track is an entity path and the files of its frames. `tree_tracks` finds them on disk, `exports` has them written, and the
blueprints lay them out. Does not belong here: reading what the files hold, rerun.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from thesis_assets.layout import TEMPORARY_PREFIX

FrameFiles = dict[int, Path]
"""Frame number to file, ascending."""

Colour = tuple[int, int, int]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_FRAME = re.compile(r"[0-9]{6}|[1-9][0-9]{6,11}")
_OURS = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}|(.+\.)?made_from(\.stats)?\.json$")
_CAMERA = re.compile(r"(?:cam_)?(0|[1-9][0-9]{0,9})")

PREDICTION_COLOUR: Colour = (255, 140, 0)
TRUTH_COLOUR: Colour = (40, 180, 70)
PERSON_COLOURS: tuple[Colour, ...] = (
    (230, 75, 60),
    (65, 130, 235),
    (150, 90, 215),
    (20, 170, 160),
    (235, 180, 30),
    (220, 95, 170),
    (150, 200, 60),
    (160, 160, 165),
)
"""Of people and curves, by their number."""


def person_colour(number: int) -> Colour:
    """The colour of person (or curve) `number`; the ninth has the first one's again."""
    return PERSON_COLOURS[number % len(PERSON_COLOURS)]


@dataclass(frozen=True)
class ExportOptions:
    """What the user may choose about every recording.

    Attributes:
        max_frames_per_camera: the first so many frames of every track; 0 = all.
        lossless: PNG files go in as they are instead of as JPEG of quality 90.
    """

    max_frames_per_camera: int = 0
    lossless: bool = False

    def first(self, files: FrameFiles) -> FrameFiles:
        """The frames of a track that are exported."""
        limit = self.max_frames_per_camera
        return dict(list(files.items())[:limit]) if limit else files


@dataclass(frozen=True)
class ImageTrack:
    """RGB images, JPEG or PNG."""

    entity: str
    files: FrameFiles


@dataclass(frozen=True)
class ComparedTrack:
    """A camera's predictions and truths, each with its own entity, and where they differ, at the frames that both have."""

    entity: str
    """Of the differences."""
    prediction: ImageTrack
    truth: ImageTrack

    @property
    def files(self) -> FrameFiles:
        """Predictions at the frames that both sides have."""
        return {frame: path for frame, path in self.prediction.files.items() if frame in self.truth.files}


@dataclass(frozen=True)
class MaskTrack:
    """Masks of one camera: a layer a person (`0`, `1`, ...) and perhaps the union `all`."""

    entity: str
    layers: dict[str, FrameFiles]

    @property
    def frames(self) -> list[int]:
        return sorted({frame for files in self.layers.values() for frame in files})


@dataclass(frozen=True)
class DepthTrack:
    """Depth in metres, `.npy` (H, W); `picture` is an image of the camera, where it has any: of this size is its depth."""

    entity: str
    files: FrameFiles
    picture: Path | None = None


@dataclass(frozen=True)
class CameraTrack:
    """Calibration files of one camera; `picture` is an image of it, for the size that the intrinsics belong to."""

    entity: str
    cam_id: int
    files: FrameFiles
    picture: Path | None
    image_plane: float = 0.4
    """Metres in front of the camera at which its picture hangs in the 3D view."""


@dataclass(frozen=True)
class BodyTrack:
    """Body-model files: each person becomes `<entity>/person_<k><suffix>`, as a mesh where the files allow it, else as joints."""

    entity: str
    model: Literal["smplx", "smpl"]
    files: FrameFiles
    suffix: str = ""
    meshes: bool = True


@dataclass(frozen=True)
class MeshTrack:
    """Wavefront meshes of one person."""

    entity: str
    files: FrameFiles
    colour: Colour


@dataclass(frozen=True)
class GaussianTrack:
    """3D Gaussians as points with their colour and size: a file a frame, or one for all frames (`still`)."""

    entity: str
    files: FrameFiles
    still: Path | None = None


@dataclass(frozen=True)
class ScalarTrack:
    """One metric over frames, at one epoch: (frame, value), ascending."""

    entity: str
    name: str
    rows: tuple[tuple[int, float], ...]
    epoch: int
    colour: Colour


@dataclass(frozen=True)
class EpochScalar:
    """One overall number of an epoch."""

    entity: str
    value: float
    epoch: int


@dataclass(frozen=True)
class TextTrack:
    """A Markdown page."""

    entity: str
    markdown: str


@dataclass(frozen=True)
class MaskLegend:
    """The entity that names and colours the people of the masks below it."""

    entity: str


@dataclass(frozen=True)
class WorldUp:
    """The entity that says which world axis points up (`X`, `Y` or `Z`, and `UP` or `DOWN`)."""

    entity: str
    axis: str


Track = (
    ImageTrack
    | ComparedTrack
    | MaskTrack
    | DepthTrack
    | CameraTrack
    | BodyTrack
    | MeshTrack
    | GaussianTrack
    | ScalarTrack
    | EpochScalar
    | TextTrack
    | MaskLegend
    | WorldUp
)


LEFT_OUT, NOT_THERE = "left out", "not there"


@dataclass
class Absences:
    """What a recording could not hold, a line each, in the order found.

    `left out: <path>: <reason>`: on disk, and not recorded. `not there: <path>: <reason>`: looked for in vain.
    """

    root: Path
    lines: list[str] = field(default_factory=list)

    def left_out(self, path: Path, reason: str) -> None:
        """Note a file or folder that is on disk and cannot be recorded, once."""
        self._add(LEFT_OUT, path, reason)

    def not_there(self, path: Path, reason: str) -> None:
        """Note a part that the tree does not have, once."""
        self._add(NOT_THERE, path, reason)

    def _add(self, kind: str, path: Path, reason: str) -> None:
        place = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        line = f"{kind}: {place}: {' '.join(reason.split())}"
        if line not in self.lines:
            self.lines.append(line)


def left_out_paths(lines: list[str]) -> set[str]:
    """The paths in the tree that `left out` lines name."""
    return {line.split(": ", 2)[1] for line in lines if line.startswith(f"{LEFT_OUT}: ")}


# --- files of a tree by frame, camera and person, in numeric order; empty ones count as missing ----------------------


def frame_files(folder: Path, suffixes: tuple[str, ...], absences: Absences) -> FrameFiles:
    """Frames of a folder that is perhaps not there: number to file.

    Where a frame has several files the first suffix in `suffixes` wins. Empty files, and links that leave the tree, are noted.
    """
    found: dict[int, tuple[int, Path]] = {}
    for path in _entries(folder):
        rank = suffixes.index(path.suffix.lower()) if path.suffix.lower() in suffixes else None
        if rank is None or not _FRAME.fullmatch(path.stem) or not path.is_file():
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(absences.root.resolve()):
            absences.left_out(path, "a link that leaves the tree")
        elif path.stat().st_size == 0:
            absences.left_out(path, "the file is empty")
        else:
            number = int(path.stem)
            if number not in found or rank < found[number][0]:
                found[number] = (rank, path)
    return {number: found[number][1] for number in sorted(found)}


def camera_folders(folder: Path) -> dict[int, Path]:
    """Camera id to subfolder (`16` or `cam_16`), ascending."""
    matches = ((_CAMERA.fullmatch(path.name), path) for path in _entries(folder) if path.is_dir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def person_folders(folder: Path) -> dict[int, Path]:
    """Person number to subfolder (`0` or `00`), ascending."""
    return dict(sorted((int(path.name), path) for path in _entries(folder) if path.is_dir() and path.name.isdecimal()))


def files_below(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders, by name, without half-written ones and records. None where it is not there."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY_PREFIX))
        found += [Path(directory) / name for name in sorted(names) if not _OURS.match(name)]
    return [path for path in found if path.is_file()]


def subfolders(folder: Path) -> list[Path]:
    """Folders in `folder`, by name."""
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names]
