"""What the first and last bytes of a PNG or JPEG say: its size, and whether the file ends where it should.

PNG: its specification, sections 5.2 and 11.2.1. JPEG: ITU-T T.81, annex B (segments up to the frame header).
Does not belong here: pixels.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from thesis_assets.errors import InvalidFile
from thesis_assets.images.png import SIGNATURE

End = Literal["last", "followed", "missing"]
"""Where the end marker of a format stands: last (zero bytes of padding aside), followed by other bytes, or not at all."""

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FIRST_READ = 1024
_SHORT_TAIL = 64
_LAST_READ = 64 * 1024
_MAX_SEGMENTS = 4096


def image_kind(first_bytes: bytes) -> Literal["png", "jpeg"] | None:
    """The format that the first bytes of a file announce."""
    if first_bytes.startswith(SIGNATURE):
        return "png"
    return "jpeg" if first_bytes.startswith(_JPEG_START) else None


def read_size(descriptor: int, path: Path | str) -> tuple[int, int]:
    """(height, width) of the image in an open file; `path` is for the message.

    Raises:
        InvalidFile: it is empty, neither PNG nor JPEG, or ends before its size is known.
    """
    return _size(descriptor, os.pread(descriptor, _FIRST_READ, 0), path)


def read_size_and_end(descriptor: int, path: Path | str) -> tuple[tuple[int, int], End]:
    """(height, width) of the image in an open file, and where its end marker stands: two reads, where nothing is unusual.

    Raises:
        InvalidFile: as `read_size`.
    """
    first = os.pread(descriptor, _FIRST_READ, 0)
    return _size(descriptor, first, path), _find_end(descriptor, first)


def _size(descriptor: int, first: bytes, path: Path | str) -> tuple[int, int]:
    if not first:
        raise InvalidFile("the image is empty", file=path, found="0 bytes", remedy="write it again")
    kind = image_kind(first)
    if kind is None:
        raise InvalidFile("the file is neither PNG nor JPEG", file=path, found=ascii(first[:12]))
    size = _png_size(first) if kind == "png" else _jpeg_size(descriptor, first)
    if size is None or 0 in size:
        raise InvalidFile("the image has no usable size in its header", file=path, found=size, remedy="write it again")
    return size


def _find_end(descriptor: int, first: bytes) -> End:
    """Looks in the last 64 KB; a marker with more behind it counts as missing."""
    length = os.lseek(descriptor, 0, os.SEEK_END)
    marker = _PNG_END if image_kind(first) == "png" else _JPEG_END
    if os.pread(descriptor, _SHORT_TAIL, max(0, length - _SHORT_TAIL)).rstrip(b"\x00").endswith(marker):
        return "last"
    return "followed" if marker in os.pread(descriptor, _LAST_READ, max(0, length - _LAST_READ)) else "missing"


def _png_size(first: bytes) -> tuple[int, int] | None:
    if len(first) < 24 or first[12:16] != b"IHDR":
        return None
    return int.from_bytes(first[20:24], "big"), int.from_bytes(first[16:20], "big")


def _jpeg_size(descriptor: int, first: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header; those of profiles and previews are jumped over, not read."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        segment = first[offset : offset + 9] if offset + 9 <= len(first) else os.pread(descriptor, 9, offset)
        if len(segment) < 4 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        elif marker in _FRAME_MARKERS:
            return _frame_size(segment)
        else:
            offset += 2 + int.from_bytes(segment[2:4], "big")
    return None


def _frame_size(segment: bytes) -> tuple[int, int] | None:
    if len(segment) < 9:
        return None
    return int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
