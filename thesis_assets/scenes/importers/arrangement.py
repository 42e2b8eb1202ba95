"""Which photograph of a capture is which camera at which frame. Pure.

Without a pattern a capture is static: every photograph is a camera of its own at frame 000000, numbered from 0 in the natural
order of the names (`view_2` before `view_10`). With a pattern, its named groups say the camera and the frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from thesis_assets.errors import InvalidScene
from thesis_assets.layout import MAX_FRAME, frame_name
from thesis_assets.scenes.importers.capture import Capture, Photograph

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


def frames_from(capture: Capture, pattern: re.Pattern[str]) -> Arrangement:
    """Cameras and frames by a pattern, searched in each photograph's name.

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
    _refuse_collisions(placed)
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


def _refuse_collisions(placed: Iterable[PlacedPhotograph]) -> None:
    seen: dict[tuple[int, str], Photograph] = {}
    first_of: dict[int, Photograph] = {}
    for each in placed:
        photograph, place = each.photograph, (each.cam_id, each.fname)
        if place in seen:
            raise InvalidScene(
                "two images have the same camera and frame",
                key="--frames-from",
                found=f"{seen[place].name!r} and {photograph.name!r}: camera {each.cam_id}, frame {each.fname}"[:400],
                wanted="a pattern that tells them apart",
            )
        seen[place] = photograph
        first = first_of.setdefault(each.cam_id, photograph)
        if (first.height, first.width) != (photograph.height, photograph.width):
            raise InvalidScene(
                f"the images of camera {each.cam_id} differ in size",
                key="--frames-from",
                found=f"{first.name!r} is {first.width} x {first.height}, "
                f"{photograph.name!r} is {photograph.width} x {photograph.height}"[:400],
                wanted="one size a camera",
            )
