"""Which frames of a comparison get their pictures into the page, and the pictures themselves, bounded in number and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.compared_runs import ComparedFrame
from thesis_assets.pages.document import data_uri

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

JPEG_QUALITY = 88
MAX_SIDE = 720
"""Pixels of the longer side: a metric image of a 940 x 1280 photograph, halved, fits as it is."""
EXACT_SIDE = 160
"""Pictures up to this size are shown much enlarged, where one sees what JPEG adds: they are PNG."""


@dataclass(frozen=True)
class Pictures:
    """`by_frame`: place in the list of frames -> baseline, tuned and truth as data addresses.

    `unreadable`: place -> why it has none. `scale`: of the shown to the measured size, below 1 where pictures were made smaller.
    `exact`: all are the very pixels that were measured; else some are JPEG.
    """

    by_frame: dict[int, tuple[str, str, str]]
    n_bytes: int
    scale: float
    unreadable: dict[int, str]
    exact: bool


def picture_order(frames: Sequence[ComparedFrame]) -> list[int]:
    """Places in `frames` (worst first) by how much one wants to see them: each scene's worst, then worst, best and evenly between."""
    first: dict[str, int] = {}
    for place, frame in enumerate(frames):
        first.setdefault(frame.scene_name, place)
    worst = iter(range(len(frames)))
    best = iter(range(len(frames) - 1, -1, -1))
    between = iter(_halving(len(frames)))
    order: dict[int, None] = dict.fromkeys(first.values())
    for _ in range(len(frames)):
        chosen = [next(source, None) for source in (worst, worst, best, between)]
        order |= dict.fromkeys(place for place in chosen if place is not None)
        if len(order) == len(frames):
            break
    return list(order)


def _halving(n: int) -> list[int]:
    """0 .. n-1 so that every beginning of the list is spread evenly: by the bits of the place, reversed."""
    bits = max(1, (n - 1).bit_length())
    return [place for k in range(2**bits) if (place := int(f"{k:0{bits}b}"[::-1], 2)) < n]


def embed_pictures(
    frames: Sequence[ComparedFrame],
    *,
    max_frames: int,
    max_bytes: int,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Pictures:
    """Encode pictures in `picture_order` until either bound is met.

    Args:
        max_bytes: of all pictures as text in the page.
    """
    by_frame: dict[int, tuple[str, str, str]] = {}
    unreadable: dict[int, str] = {}
    total, scale, exact = 0, 1.0, True
    for place in picture_order(frames):
        if len(by_frame) >= max_frames:
            break
        try:
            images, factor = _encoded(frames[place].images)
        except InvalidFile as error:  # a picture to look at: the frame's numbers are shown without it
            unreadable[place] = f"{error.problem}: {error.file}"
            continue
        size = sum(map(len, images))
        if total + size > max_bytes:
            break
        by_frame[place], total, scale = images, total + size, min(scale, factor)
        exact = exact and not any(image.startswith("data:image/jpeg") for image in images)
        if len(by_frame) % 50 == 0:
            on_progress(f"{len(by_frame)} frames have their pictures, {total / 1e6:.0f} MB")
    return Pictures(by_frame, total, scale, unreadable, exact)


def _encoded(paths: tuple[Path, Path, Path]) -> tuple[tuple[str, str, str], float]:
    from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb

    texts, factor = [], 1.0
    for path in paths:
        pixels, factor = _fitted(read_rgb(path))
        if max(pixels.shape) <= EXACT_SIDE:
            texts.append(data_uri(encode_png(pixels, "pillow"), "image/png"))
        else:
            texts.append(data_uri(encode_jpeg(pixels, JPEG_QUALITY), "image/jpeg"))
    return (texts[0], texts[1], texts[2]), factor


def _fitted(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    import numpy as np
    from PIL import Image

    height, width = pixels.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor >= 1:
        return pixels, 1.0
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)), factor
