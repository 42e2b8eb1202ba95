"""What an export is compared with: its encoder alone, its steps alone, the way before the platform, a tar of the same bytes."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_scene import MEMORY, TARGETS, TRIPLETS, FrameFiles
from benchmarks.measure import on_cores, seconds_of
from benchmarks.photograph import photograph

ENCODED, TODAY = 24, 2
"""Images and triplets that are enough for a rate: the encoder alone, and the slow way."""


def render() -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the image of the encoder's own rows upside down, so that it is no copy of the target."""
    return np.ascontiguousarray(photograph()[::-1])


class MemoryRenders:
    """A renderer whose renders are in memory already."""

    name = version = "memory"
    device = "cpu"

    def __init__(self) -> None:
        import torch

        image = torch.from_numpy(render()).float().div(255)
        # Pixel by pixel in memory, as rasterisers draw: a view of (B, H, W, 3).
        self._batches = {n: torch.stack([image] * n).permute(0, 3, 1, 2) for n in range(1, len(TARGETS) + 1)}

    def render(self, fname: str, cameras: Sequence[object]) -> Any:
        """(B, 3, H, W) float32 in [0, 1]."""
        return self._batches[len(cameras)]


def encode_rate() -> float:
    """Images a second of the PNG encoder alone, on one core."""
    from thesis_assets.images.codecs import encode_png

    image = render()
    with on_cores(1):
        return ENCODED / seconds_of(lambda: [encode_png(image) for _ in range(ENCODED)])


def mask_steps_rate(frames: list[FrameFiles], threads: int, *, whole: bool = False) -> float:
    """Triplets a second of decoding, masking and encoding alone, with nothing around them.

    Args:
        whole: with what else every triplet needs: its float render is rounded, its files are digested and written.
    """
    from thesis_assets import storage
    from thesis_assets.images.codecs import encode_blackened, encode_png, pixel_digest, read_mask, read_rgb
    from thesis_assets.images.quantise import quantise, to_host

    rounded, batch = render(), MemoryRenders().render("", [None])

    def masked(view: tuple[Path, Path | None], files: list[Path]) -> None:
        path, mask = view
        assert mask is not None
        content = encode_blackened(read_rgb(path), read_mask(mask))
        for file in files if whole else ():
            storage.sha256_bytes(content)
            file.write_bytes(content)

    def encoded(file: Path) -> None:
        image = to_host(quantise(batch))[0] if whole else rounded
        content = encode_png(image)
        if whole:
            storage.sha256_bytes(content)
            pixel_digest(image)
            file.write_bytes(content)

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, ThreadPoolExecutor(threads) as pool:
        steps: list[Callable[[], None]] = []
        for number, frame in enumerate(frames):
            names = [Path(folder) / f"{number}_{target}" for target in range(len(frame.targets))]
            steps += [
                partial(masked, view, [name.with_suffix(".jpg")])
                for view, name in zip(frame.targets, names, strict=True)
            ]
            # Targets of one frame share its reference, as in the export.
            steps.append(partial(masked, frame.reference, [name.with_suffix(".ref") for name in names]))
            steps += [partial(encoded, name.with_suffix(".png")) for name in names]
        return TRIPLETS / seconds_of(lambda: list(pool.map(lambda step: step(), steps)))


def todays_rate(frames: list[FrameFiles]) -> float:
    """Triplets a second of a plain loop: float images, Pillow's default PNG, both JPEGs decoded and encoded anew."""
    image = render().astype(np.float32) / 255
    triplets = [(target, frame.reference) for frame in frames for target in frame.targets][:TODAY]

    def write(folder: Path) -> None:
        from PIL import Image

        for number, views in enumerate(triplets):
            sample = folder / str(number)
            sample.mkdir()
            Image.fromarray(_eight_bit(image)).save(sample / "image.png")
            for view, name in zip(views, ("target_image.jpg", "ref_image.jpg"), strict=True):
                Image.fromarray(_eight_bit(_float_view(view))).save(sample / name, quality=95)
            (sample / "meta.json").write_text("{}\n", encoding="utf-8")

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        return TODAY / seconds_of(lambda: write(Path(folder)))


def _float_view(view: tuple[Path, Path | None]) -> NDArray[np.floating[Any]]:
    from PIL import Image

    path, mask = view
    image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    if mask is None:
        return image
    return image * (np.asarray(Image.open(mask).convert("L"), np.float32)[..., None] / 255)


def _eight_bit(image: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return (image * 255).round().clip(0, 255).astype(np.uint8)


def shard_writer_rate(frames: list[FrameFiles], threads: int) -> float:
    """Triplets a second into one tar by webdataset."""
    import webdataset

    def write(folder: str, triplets: Iterator[dict[str, bytes]]) -> None:
        with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=TRIPLETS, verbose=0) as sink:
            for number, triplet in enumerate(triplets):
                sink.write({"__key__": f"{number:06d}", **triplet})

    return _container_rate(frames, threads, write)


def arrow_writer_rate(frames: list[FrameFiles], threads: int) -> float:
    """Triplets a second into one Arrow file by the writer of Hugging Face datasets."""
    from datasets import Features, Image, Value
    from datasets.arrow_writer import ArrowWriter

    pictures = ("image.png", "target_image.jpg", "ref_image.jpg")
    features = Features({**{name: Image() for name in pictures}, "meta.json": Value("binary")})

    def write(folder: str, triplets: Iterator[dict[str, bytes]]) -> None:
        with ArrowWriter(path=f"{folder}/triplets.arrow", features=features) as sink:
            for triplet in triplets:
                encoded = {name: {"bytes": triplet[name], "path": None} for name in pictures}
                sink.write({**encoded, "meta.json": triplet["meta.json"]})
            sink.finalize()

    return _container_rate(frames, threads, write)


def _container_rate(
    frames: list[FrameFiles], threads: int, write: Callable[[str, Iterator[dict[str, bytes]]], None]
) -> float:
    """Triplets a second into a container: the same PNG encoder on `threads` threads, the photographs' own bytes."""
    from thesis_assets.images.codecs import encode_png
    from thesis_assets.images.quantise import quantise, to_host

    renders = MemoryRenders()
    views = [(target[0], frame.reference[0]) for frame in frames for target in frame.targets]

    def encoded(view: tuple[Path, Path]) -> dict[str, bytes]:
        batch: Any = renders.render("", [None])
        return {
            "image.png": encode_png(to_host(quantise(batch))[0]),
            "target_image.jpg": view[0].read_bytes(),
            "ref_image.jpg": view[1].read_bytes(),
            "meta.json": b"{}\n",
        }

    assert len(views) == len(TARGETS) * len(frames) == TRIPLETS
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, ThreadPoolExecutor(threads) as pool:
        return TRIPLETS / seconds_of(lambda: write(folder, pool.map(encoded, views)))
