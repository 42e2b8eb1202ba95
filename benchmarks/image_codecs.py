"""PNG of a full-size image: both ways on one core against Pillow's default, and on two threads against one."""

import io
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Row, paired, seconds_of
from benchmarks.photograph import photograph

ROUNDS = 5
IMAGES = 12


def rows() -> Iterator[Row]:
    """Speed and size of each encoder."""
    from thesis_assets.images.codecs import encode_png

    image = photograph()
    pillow_bytes = len(encode_png(image, "pillow"))
    for encoder, speed_target, size_target in (("isal", ">= 20", "<= 1.25"), ("opencv", None, None)):
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
    yield thread_scaling()


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


def thread_scaling() -> Row:
    """Images a second of two threads against one."""
    from thesis_assets.images.codecs import encode_png

    image = photograph()

    def rate(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            return IMAGES / seconds_of(lambda: list(pool.map(encode_png, [image] * IMAGES)))

    two, one, ratio = paired(lambda: rate(2), lambda: rate(1), ROUNDS)
    return Row("images", "PNG encode 940x1280 by isal, 2 threads against 1", two, "images/s", one, ratio)
