"""A capture: photographs of a foreign format with their cameras, and which of them is which camera at which frame.

Without a pattern a capture is static: every photograph is a camera of its own at frame 000000, numbered from 0 in the natural
order of the names (`view_2` before `view_10`). With a pattern, its named groups say the camera and the frame.
Belongs here: what every format gives, and finding the files that its text names. Does not belong here: reading a format.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.images.codecs import image_size
from thesis_assets.layout import MAX_FRAME, SceneFolders, frame_name
from thesis_assets.scenes.camera import Matrix
from thesis_assets.schemas.scenes import CaptureFormat

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
        stated: (height, width) of its camera in the format, where the format has cameras of a size.
        mask, mask_name: a file of 0 and 255 that marks the people, where the format names one, and that name.
        people: a person, or `all` -> a file that marks them by any value but 0, where the format has one a person.
        lens: (5,) OpenCV's `k1 k2 p1 p2 k3`, where the photograph and its `people` are still distorted.
    """

    name: str
    path: Path
    height: int
    width: int
    intrinsics: Matrix
    extrinsics: Matrix
    stated: tuple[int, int] | None = None
    mask: Path | None = None
    mask_name: str | None = None
    people: Mapping[str, Path] = field(default_factory=dict)
    lens: Matrix | None = None


@dataclass(frozen=True, eq=False)
class OtherFile:
    """A file of the scene that is no photograph and no mask.

    Attributes:
        place: where it lies in the scene's folders.
        convert: its content from `source`; None: `source` is linked as it lies.
    """

    place: Callable[[SceneFolders], Path]
    source: Path
    convert: Callable[[Path], bytes] | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """All photographs of one source.

    Attributes:
        source: the transforms.json, or the folder of the sparse model.
        source_files: the files that were read, beside the images.
        notes: what a person should know: intrinsics that were scaled, parts of the format that are not taken over.
        world: how the capture's world came to be, as the format states it; for the record, nothing is undone.
        others: bodies, meshes and what else the format brings beside photographs and cameras.
        source_camera: the camera that the format itself names as the monocular one.
        left_out: parts of the format that were not wanted.
    """

    format: CaptureFormat
    source: Path
    source_files: tuple[Path, ...]
    photographs: tuple[Photograph, ...]
    notes: tuple[str, ...] = ()
    world: Mapping[str, object] = field(default_factory=dict)
    others: tuple[OtherFile, ...] = ()
    source_camera: int | None = None
    left_out: tuple[str, ...] = ()


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
    if "\\" in name:
        raise InvalidFile(
            "a path is written with backslashes, as on Windows",
            file=listing,
            key=key,
            found=_shown(name),
            wanted=_shown(name.replace("\\", "/")),
            remedy="write / in place of every backslash of the listing",
        )
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


def scaling_notes(photographs: Iterable[Photograph]) -> list[str]:
    """A note on images whose size is not what their cameras state."""
    scaled = [(each, each.stated) for each in photographs if each.stated not in (None, (each.height, each.width))]
    if not scaled:
        return []
    first, (height, width) = scaled[0]
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


CAMERA_GROUP, FRAME_GROUP = "cam", "frame"
MAX_NAMED_CAMERA = 999_999_999
"""The largest camera folder that a scene's listing takes for a number."""


@dataclass(frozen=True, eq=False)
class PlacedPhotograph:
    """A photograph at its place in the scene."""

    cam_id: int
    fname: str
    photograph: Photograph


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Every photograph at its place, by camera and frame.

    Attributes:
        camera_names: camera id to what the camera is called in the capture: the image's name, or the pattern's `cam` part.
    """

    camera_names: Mapping[int, str]
    placed: tuple[PlacedPhotograph, ...]

    @property
    def frames(self) -> list[str]:
        return sorted({each.fname for each in self.placed}, key=int)

    def camera_called(self, name: str) -> int:
        """The id of a camera by its id or by its name in the capture.

        Raises:
            InvalidScene: there is none of either.
        """
        if name.isascii() and name.isdigit() and int(name) in self.camera_names:
            return int(name)
        for cam_id, camera_name in self.camera_names.items():
            if camera_name == name:
                return cam_id
        some = [f"{cam_id} ({camera_name})" for cam_id, camera_name in list(self.camera_names.items())[:5]]
        raise InvalidScene(
            "there is no such camera",
            key="source camera",
            found=repr(name),
            wanted=f"the id or name of one of {len(self.camera_names)} cameras: {', '.join(some)}, ...",
            remedy="`--dry-run --json` lists the ids and names",
        )


def one_frame(capture: Capture) -> Arrangement:
    """Every photograph as a camera of its own at frame 000000."""
    ordered = sorted(capture.photographs, key=lambda photograph: natural_order(photograph.name))
    return Arrangement(
        {cam_id: photograph.name for cam_id, photograph in enumerate(ordered)},
        tuple(PlacedPhotograph(cam_id, frame_name(0), photograph) for cam_id, photograph in enumerate(ordered)),
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of `--frames-from`.

    Raises:
        ValueError: it is no regular expression, or has neither of the named groups.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if not {CAMERA_GROUP, FRAME_GROUP} & compiled.groupindex.keys():
        raise ValueError(
            r"no named group `cam` or `frame`; for images/cam04/000123.png write cam(?P<cam>\d+)/(?P<frame>\d+)"
        )
    return compiled


def frames_from(capture: Capture, pattern: re.Pattern[str], *, key: str = "--frames-from") -> Arrangement:
    """Cameras and frames by a pattern, searched in each photograph's name; `key` says in messages where the names come from.

    Without a group `cam` all are one camera, without a group `frame` all are frame 000000. Where every `cam` part is a number
    and they differ as numbers, it is the camera's id (`cam04` is 4); else ids count from 0 in the natural order of the parts.

    Raises:
        InvalidScene: the pattern does not fit a name, a frame is no number, two photographs have one place, or the
            photographs of one camera differ in size.
    """
    parts = {photograph.name: _parts(photograph.name, pattern) for photograph in capture.photographs}
    ids = _camera_ids({camera for camera, _ in parts.values()})
    placed = [
        PlacedPhotograph(ids[camera], fname, photograph)
        for photograph in capture.photographs
        for camera, fname in (parts[photograph.name],)
    ]
    placed.sort(key=lambda each: (each.cam_id, int(each.fname)))
    _refuse_collisions(placed, key)
    names = {cam_id: camera for camera, cam_id in ids.items()}
    return Arrangement({cam_id: names[cam_id] for cam_id in sorted(names)}, tuple(placed))


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which numbers inside a name count as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return (*((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts), (-1, 0, name))


def _parts(name: str, pattern: re.Pattern[str]) -> tuple[str, str]:
    """The camera's name and the frame of a photograph."""
    match = pattern.search(name)
    if match is None:
        raise InvalidScene(
            "the pattern does not fit an image's name",
            key="--frames-from",
            found=repr(name)[:300],
            wanted=pattern.pattern,
            remedy="correct the pattern, or take the image out of the listing",
        )
    found = match.groupdict()
    camera = found.get(CAMERA_GROUP, "") if CAMERA_GROUP in pattern.groupindex else "0"
    frame = found.get(FRAME_GROUP, "") if FRAME_GROUP in pattern.groupindex else "0"
    if not camera or not (frame and frame.isascii() and frame.isdigit() and int(frame) <= MAX_FRAME):
        raise InvalidScene(
            "the pattern takes no camera or frame number from an image's name",
            key="--frames-from",
            found=f"{name!r}: cam {camera!r}, frame {frame!r}"[:300],
            wanted=f"any text as `cam`, digits up to {MAX_FRAME} as `frame`",
        )
    return camera, frame_name(int(frame))


def _camera_ids(names: set[str]) -> dict[str, int]:
    numbers = {
        name: int(name)
        for name in names
        if name.isascii() and name.isdigit() and len(name) <= 18 and int(name) <= MAX_NAMED_CAMERA
    }
    if len(numbers) == len(names) == len(set(numbers.values())):
        return numbers
    return {name: cam_id for cam_id, name in enumerate(sorted(names, key=natural_order))}


def _refuse_collisions(placed: Iterable[PlacedPhotograph], key: str) -> None:
    seen: dict[tuple[int, str], Photograph] = {}
    first_of: dict[int, Photograph] = {}
    for each in placed:
        photograph, place = each.photograph, (each.cam_id, each.fname)
        if place in seen:
            raise InvalidScene(
                "two images have the same camera and frame",
                key=key,
                found=f"{seen[place].name!r} and {photograph.name!r}: camera {each.cam_id}, frame {each.fname}"[:400],
                wanted="a pattern that tells them apart",
            )
        seen[place] = photograph
        first = first_of.setdefault(each.cam_id, photograph)
        if (first.height, first.width) != (photograph.height, photograph.width):
            raise InvalidScene(
                f"the images of camera {each.cam_id} differ in size",
                key=key,
                found=f"{first.name!r} is {first.width} x {first.height}, "
                f"{photograph.name!r} is {photograph.width} x {photograph.height}"[:400],
                wanted="one size a camera",
            )
