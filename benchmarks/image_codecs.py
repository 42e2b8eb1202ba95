"""PNG and JPEG of a full-size image: on one core against Pillow's default, and on two threads against one."""

import io
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import Row, paired, seconds_of
from benchmarks.photograph import photograph

if TYPE_CHECKING:
    from thesis_assets.images.codecs import PngEncoder

ROUNDS = 5
IMAGES = 12


def rows() -> Iterator[Row]:
    """Speed and size of each encoder."""
    from thesis_assets.images.codecs import encode_png

    image = photograph()
    pillow_bytes = len(encode_png(image, "pillow"))
    encoders: tuple[tuple[PngEncoder, str | None, str | None], ...] = (
        ("isal", ">= 20", "<= 1.25"),
        ("opencv", None, None),
    )
    for encoder, speed_target, size_target in encoders:
        seconds, pillow_seconds, ratio = paired(
            lambda encoder=encoder: seconds_of(lambda: encode_png(image, encoder)),
            lambda: seconds_of(lambda: encode_png(image, "pillow")),
            ROUNDS,
        )
        name = f"PNG encode 940x1280 by {encoder}, one core, times faster than Pillow"
        yield Row("images", name, seconds, "s", pillow_seconds, 1 / ratio, speed_target)
        size = len(encode_png(image, encoder))
        name = f"PNG size 940x1280 by {encoder}, against Pillow"
        yield Row("images", name, size, "bytes", pillow_bytes, size / pillow_bytes, size_target)
    yield decoding()
    yield from thread_scaling()


def decoding() -> Row:
    """Reading what our encoder wrote, against Pillow reading the same bytes."""
    from thesis_assets.images.codecs import encode_png, read_rgb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        path.write_bytes(encode_png(photograph()))
        seconds, pillow_seconds, ratio = paired(
            lambda: seconds_of(lambda: read_rgb(path)),
            lambda: seconds_of(lambda: np.asarray(Image.open(io.BytesIO(path.read_bytes())))),
            ROUNDS,
        )
    name = "PNG decode 940x1280 as written by isal, one core, times faster than Pillow"
    return Row("images", name, seconds, "s", pillow_seconds, 1 / ratio)


def thread_scaling() -> Iterator[Row]:
    """Images a second of two threads against one: what holds the interpreter lock does not scale."""
    from thesis_assets.images.codecs import encode_jpeg, encode_png

    image = photograph()

    def rate(encode: Callable[[NDArray[np.uint8]], bytes], threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            return IMAGES / seconds_of(lambda: list(pool.map(encode, [image] * IMAGES)))

    for kind, encode in (("PNG encode 940x1280 by isal", encode_png), ("JPEG encode 940x1280", encode_jpeg)):
        two, one, ratio = paired(partial(rate, encode, 2), partial(rate, encode, 1), ROUNDS)
        yield Row("images", f"{kind}, 2 threads against 1", two, "images/s", one, ratio)
