"""A capture: photographs of a foreign format with their cameras, before they have camera ids and frames.

Belongs here: what every format gives, and finding the files that its text names. Does not belong here: reading a format.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import image_size

Matrix = np.ndarray[Any, np.dtype[np.float64]]
CaptureFormat = Literal["nerfstudio", "colmap"]

MAX_PHOTOGRAPHS = 200_000
MAX_NAME_BYTES = 4096
NEGLIGIBLE_DISTORTION = 1e-6
"""A lens coefficient below this moves no pixel of a 10,000 pixel wide image by a hundredth of a pixel."""

UNDISTORT_REMEDY = (
    "undistort the images first and import the result: `colmap image_undistorter --image_path <images> --input_path "
    "<sparse model> --output_path <dense>`, then `scene init --colmap <dense>/sparse --images <dense>/images`"
)


@dataclass(frozen=True, eq=False)
class Photograph:
    """One photograph and its camera.

    Attributes:
        name: its path below the images' root as the format states it, with `/`; unique in its capture.
        path: the file.
        height, width: of the file, pixels.
        intrinsics: (3, 3) pixels of the file, pixel centres at half-integers.
        extrinsics: (3, 4) world to camera, OpenCV axes, the capture's own unit of length.
        mask, mask_name: a file of 0 and 255 that marks the people, where the format names one, and that name.
    """

    name: str
    path: Path
    height: int
    width: int
    intrinsics: Matrix
    extrinsics: Matrix
    mask: Path | None = None
    mask_name: str | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """All photographs of one source.

    Attributes:
        source: the transforms.json, or the folder of the sparse model.
        source_files: the files that were read, beside the images.
        notes: what a person should know: intrinsics that were scaled, parts of the format that are not taken over.
        world: how the capture's world came to be, as the format states it; for the record, nothing is undone.
    """

    format: CaptureFormat
    source: Path
    source_files: tuple[Path, ...]
    photographs: tuple[Photograph, ...]
    notes: tuple[str, ...] = ()
    world: Mapping[str, object] = field(default_factory=dict)


def find_below(root: Path, name: object, *, listing: Path, key: str, suffixes: Iterable[str] = ()) -> tuple[str, Path]:
    """The file that a listing names, and its name below `root`.

    Args:
        listing, key: the file that names it and the place in there, for messages.
        suffixes: also looked for where the name as it stands is no file (Blender's listings leave the suffix out).

    Raises:
        InvalidFile: the name is no relative path, leaves the root (by `..`, absolutely or by a link), or is no file.
    """
    if not isinstance(name, str) or not name.strip() or not _is_usable(name):
        wanted = f"a relative path of at most {MAX_NAME_BYTES} bytes without control characters"
        raise InvalidFile("not the name of a file", file=listing, key=key, found=_shown(name), wanted=wanted)
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise _leaves(root, name, listing, key)
    for candidate in (relative, *(relative.with_name(relative.name + suffix) for suffix in suffixes)):
        path = root / candidate
        try:
            there, inside = path.is_file(), path.resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError) as error:  # too long a part, a loop of links, a folder that may not be read
            raise InvalidFile(
                f"a file cannot be looked up: {getattr(error, 'strerror', None) or 'a loop of links'}",
                file=listing,
                key=key,
                found=_shown(name),
            ) from error
        if there and not inside:
            raise _leaves(root, name, listing, key)
        if there:
            return candidate.as_posix(), path
    raise InvalidFile(
        "a file is not there",
        file=listing,
        key=key,
        found=_shown(name),
        wanted=f"a file of this name below {root}",
        remedy="bring the file, take its entry out, or name the folder that the paths start from: --images <folder>",
    )


def photograph_size(path: Path, *, listing: Path, key: str) -> tuple[int, int]:
    """(height, width) of a photograph, from its header.

    Raises:
        InvalidFile: it is neither JPEG nor PNG, or has no header.
    """
    try:
        return image_size(path)
    except InvalidFile as error:
        raise InvalidFile(
            f"a photograph cannot be used: {error.problem}",
            file=path,
            key=f"{listing.name} {key}",
            found=error.found,
            wanted="JPEG or PNG",
            remedy="convert the images to PNG of the same size and name them so in the listing",
        ) from error


def fitted_intrinsics(
    intrinsics: Matrix, stated: tuple[int, int], actual: tuple[int, int], *, path: Path, listing: Path, key: str
) -> Matrix:
    """Intrinsics of the file at hand: scaled where the file is a resized version of the stated image.

    Args:
        intrinsics: (3, 3) pixels of an image of `stated` size.
        stated, actual: (height, width).

    Raises:
        InvalidFile: the sides differ by more than a rounded resize (cropped, or turned).
    """
    if stated == actual:
        return intrinsics
    (stated_height, stated_width), (height, width) = stated, actual
    if abs(width * stated_height - height * stated_width) > max(stated):
        raise InvalidFile(
            "a photograph has other proportions than its camera",
            file=path,
            key=f"{listing.name} {key}",
            found=f"{width} x {height}",
            wanted=f"{stated_width} x {stated_height}, or that resized",
            remedy="bring the images that the cameras were calibrated on; an orientation tag in a JPEG is not applied",
        )
    return np.diag([width / stated_width, height / stated_height, 1.0]) @ intrinsics


def pinhole_matrix(focal: tuple[float, float], centre: tuple[float, float]) -> Matrix:
    """(3, 3) intrinsics without skew."""
    return np.array([[focal[0], 0.0, centre[0]], [0.0, focal[1], centre[1]], [0.0, 0.0, 1.0]])


def refuse_repeats(names: Iterable[str], listing: Path) -> None:
    """Refuse a capture that states one image twice.

    Raises:
        InvalidFile: with the name.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidFile(
                "an image stands twice in the listing", file=listing, found=_shown(name), remedy="take one of them out"
            )
        seen.add(name)


def scaling_notes(photographs: Iterable[Photograph], stated: Mapping[str, tuple[int, int]]) -> list[str]:
    """A note on images whose size is not what their cameras state."""
    scaled = [each for each in photographs if stated[each.name] != (each.height, each.width)]
    if not scaled:
        return []
    first, (height, width) = scaled[0], stated[scaled[0].name]
    return [
        f"intrinsics scaled to the image files for {len(scaled)} images, such as {_shown(first.name)}: "
        f"stated {width} x {height}, found {first.width} x {first.height}"
    ]


def _leaves(root: Path, name: str, listing: Path, key: str) -> InvalidFile:
    return InvalidFile(
        "a path leaves the folder it belongs to",
        file=listing,
        key=key,
        found=_shown(name),
        wanted=f"a relative path that stays below {root}, links followed",
        remedy="correct the path, or name the folder that the paths start from: --images <folder>",
    )


def _is_usable(name: str) -> bool:
    """Whether a name can be stored as UTF-8 (JSON can carry halves of characters), and printed without effects."""
    try:
        fits = len(name.encode("utf-8")) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False
    return fits and not any(unicodedata.category(character) == "Cc" for character in name)


def _shown(name: object) -> str:
    """A name as it may stand on a terminal: quoted, control characters escaped, bounded."""
    return repr(name)[:300]
