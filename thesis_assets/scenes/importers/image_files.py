"""Photographs and masks of a capture as files of a scene: JPEG linked, the rest converted.

Does not belong here: which photograph goes where.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import JPEG_QUALITY, check_complete, encode_jpeg, encode_png, read_rgb
from thesis_assets.images.headers import image_kind
from thesis_assets.schemas.scene_import import ImageOrigin

_MASK_THRESHOLD = 128


def bring_photograph(source: Path, target: Path, *, link_mode: Literal["auto", "copy"]) -> ImageOrigin:
    """Make `target` the JPEG of a photograph: a JPEG is linked (or copied), anything else is encoded at quality 95.

    What the file is, its first bytes say, not its suffix.

    Raises:
        InvalidFile: it is cut short, deeper than 8 bit, transparent, or neither JPEG nor PNG.
    """
    with source.open("rb") as handle:
        kind = image_kind(handle.read(16))
    if kind == "jpeg":
        check_complete(source)
        return storage.link_or_copy(source, target, link_mode=link_mode)
    storage.write_bytes(target, encode_jpeg(read_rgb(source), JPEG_QUALITY))
    return "jpeg_q95"


def bring_mask(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a mask as a PNG of 0 and 255; any channel of 128 or more is 255.

    Args:
        size: (height, width) of the photograph it belongs to.

    Raises:
        InvalidFile: it cannot be decoded, has another size, or holds values that are neither 0 nor 128 and more.
    """
    values = read_rgb(source).max(axis=2)
    if values.shape != size:
        raise InvalidFile(
            "a mask has another size than its photograph",
            file=source,
            found=f"{values.shape[1]} x {values.shape[0]}",
            wanted=f"{size[1]} x {size[0]}",
        )
    brightest = int(values.max())
    if 0 < brightest < _MASK_THRESHOLD:
        raise InvalidFile(
            "a mask holds no value that marks anything",
            file=source,
            found=f"values up to {brightest}",
            wanted="0 and 255",
            remedy="write people as 255; a mask of 0 and 1 needs its values multiplied by 255",
        )
    storage.write_bytes(target, encode_png(((values >= _MASK_THRESHOLD) * 255).astype(np.uint8)))
