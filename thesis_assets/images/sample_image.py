"""One JPEG of a sample: linked where its pixels stay as they are, encoded where they do not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.images import codecs, headers
from thesis_assets.provenance import Contents, Output

Made = NDArray[np.uint8] | bytes
ImageSource = Path | Made | Callable[[], Path | Made]
"""A file, which is linked if it is a JPEG and encoded if it is a PNG; an (H, W, 3) uint8 array, which is encoded; the bytes of a
JPEG; or a function that gives one of these, called in the worker thread."""


@dataclass(frozen=True)
class PlacedImage:
    """`mode`: `hard_link`, `reflink`, `copy` or `encoded`; `output`: what its record says of the file."""

    mode: str
    output: Output

    @property
    def bytes_written(self) -> int:
        """0 for a link."""
        return self.output.bytes if self.mode in ("copy", "encoded") else 0


def encoded_image(content: bytes, pixels: NDArray[np.uint8] | None = None) -> PlacedImage:
    """An image of our own encoding. `pixels`: those that it decodes to; decoding a JPEG again would cost as much as encoding it."""
    digest = None if pixels is None else codecs.pixel_digest(pixels)
    return PlacedImage("encoded", Output(len(content), storage.sha256_bytes(content), digest))


def place_image(
    source: ImageSource, final: Path, size: tuple[int, int], link_mode: Literal["auto", "copy"], contents: Contents
) -> PlacedImage:
    """Write `final`, a JPEG.

    Args:
        size: (height, width) that it must have.
        contents: knows the digest of a photograph that was linked before.

    Raises:
        SizeMismatch: it has another size.
        InvalidFile: a source file is missing, empty, or cannot be decoded.
    """
    made = source() if callable(source) else source
    if isinstance(made, Path):
        return _place_file(made, final, size, link_mode, contents)
    if isinstance(made, np.ndarray):
        codecs.check_size((made.shape[0], made.shape[1]), size, final.name)
        made = codecs.encode_jpeg(made)
    final.write_bytes(made)
    codecs.check_size(codecs.image_size(final), size, final.name)
    return encoded_image(made)


def _place_file(
    source: Path, final: Path, size: tuple[int, int], link_mode: Literal["auto", "copy"], contents: Contents
) -> PlacedImage:
    found, kind = _header(source)
    codecs.check_size(found, size, source)
    if kind != "jpeg":
        content = codecs.encode_jpeg(codecs.read_rgb(source))
        final.write_bytes(content)
        return encoded_image(content)
    try:
        if link_mode == "copy":
            shutil.copyfile(source, final)
            mode = "copy"
        else:
            mode = storage.link_or_copy(source, final)
        sha256 = contents.sha256(source)
    except FileNotFoundError as error:
        raise InvalidFile("the image vanished while it was exported", file=source) from error
    return PlacedImage(mode, Output(final.stat().st_size, sha256))


def _header(path: Path) -> tuple[tuple[int, int], str | None]:
    size = codecs.check_complete(path)
    with path.open("rb") as handle:
        return size, headers.image_kind(handle.read(8))
