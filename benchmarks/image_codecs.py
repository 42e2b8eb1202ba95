"""PNG encoding of a full-size image on one core against Pillow's default."""

from collections.abc import Iterator

from benchmarks.measure import Row, paired, seconds_of
from benchmarks.photograph import photograph

ROUNDS = 5


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
