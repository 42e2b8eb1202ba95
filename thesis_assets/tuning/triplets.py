"""The samples that a trainer sees: data.json, the order in which they are seen, and triplets at the size they are trained at.

The order is a seeded permutation an epoch, known for every step without a history; images are decoded once where memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import image_size, read_rgb
from thesis_assets.schemas.samples import DataJson, DataJsonEntry
from thesis_assets.splits.snapshot_guard import doubt_shard
from thesis_assets.storage import read_json, sha256_file
from thesis_assets.tuning.trained_model import SNAP, TripletImages, processing_size, resize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MAX_DATA_JSON_BYTES = 4 * 1024**3
CACHE_BYTES = 1024**3
"""Decoded samples up to this size together are kept in memory."""

NOTHING_RECORDED: Mapping[str, str] = {}


@dataclass(frozen=True)
class Triplet:
    """One sample at its training size: (3, H, W) uint8 each."""

    sample_id: str
    render: Tensor
    target: Tensor
    reference: Tensor

    def mirrored(self) -> Triplet:
        return Triplet(self.sample_id, self.render.flip(-1), self.target.flip(-1), self.reference.flip(-1))

    def window(self, side: int, top: float, left: float) -> Triplet:
        """The same window of the three images, where they have its size; else as much of it, in multiples of 16.

        Args:
            top, left: its place, from 0 at one edge to 1 at the other.
        """
        sizes = [min(side, length // SNAP * SNAP) for length in self.render.shape[1:]]
        y, x = (
            int(at * (length - size + 1))
            for at, length, size in zip((top, left), self.render.shape[1:], sizes, strict=True)
        )
        cut = (one[:, y : y + sizes[0], x : x + sizes[1]] for one in (self.render, self.target, self.reference))
        return Triplet(self.sample_id, *(one.contiguous() for one in cut))


@dataclass(frozen=True)
class TripletBatch:
    """Samples of one size: (B, 3, H, W) uint8 each."""

    sample_ids: list[str]
    renders: Tensor
    targets: Tensor
    references: Tensor

    def to(self, device: torch.device, layout: torch.memory_format = torch.contiguous_format) -> TripletImages:
        """As float32 in [0, 1] on `device`; moved as bytes, a quarter of the transfer."""
        moved = (
            images.to(device, non_blocking=True).contiguous(memory_format=layout)
            for images in (self.renders, self.targets, self.references)
        )
        renders, targets, references = (images.float() / 255 for images in moved)
        return TripletImages(renders, targets, references, self.sample_ids)

    def pin_memory(self) -> TripletBatch:
        """In page-locked memory, which a GPU reads without holding up the loop; torch's loader asks for it by this name."""
        pinned = (images.pin_memory() for images in (self.renders, self.targets, self.references))
        return TripletBatch(self.sample_ids, *pinned)


def read_data_json(path: Path) -> DataJson:
    """Read the trainer's `data.json`.

    Raises:
        InvalidFile: it is missing, not one, has no training sample, or a sample has no reference.
    """
    entries = read_json(path, DataJson, max_bytes=MAX_DATA_JSON_BYTES)
    if not entries.train:
        raise InvalidFile("there is nothing to train on", file=path, key="train", wanted="at least one sample")
    for split, samples in (("train", entries.train), ("test", entries.test)):
        for sample_id, entry in samples.items():
            if entry.ref_image is None:
                raise InvalidFile(
                    "a sample has no reference image",
                    file=path,
                    key=f"{split}.{sample_id}.ref_image",
                    wanted="a reference on every sample: the network looks at it",
                )
    return entries


def read_triplet(
    sample_id: str, entry: DataJsonEntry, resolution: int | None, recorded: Mapping[str, str] = NOTHING_RECORDED
) -> Triplet:
    """Decode one sample and resize it. The render's size decides; the reference, of another camera, is brought to it.

    Args:
        resolution: the long side; None: as the render is.
        recorded: sha256 of images by path, of those that have a record.

    Raises:
        InvalidFile: an image cannot be read, is not the recorded one, or render and target differ in size; the message has
            the sample.
    """
    paths = (entry.image, entry.target_image, str(entry.ref_image))
    images = read_images(sample_id, [(Path(path), recorded.get(path)) for path in paths])
    height, width = images[0].shape[:2]
    size = (height, width) if resolution is None else processing_size(height, width, resolution)
    return Triplet(sample_id, *(_at_size(image, size) for image in images))


def read_images(sample_id: str, files: Sequence[tuple[Path, str | None]]) -> list[NDArray[np.uint8]]:
    """Render, target and reference of a sample, (H, W, 3) uint8 each.

    Args:
        files: of the three, with the sha256 that each must have; None: it has no record.

    Raises:
        InvalidFile: as of `read_triplet`.
    """
    images = [_read_image(sample_id, path, sha256) for path, sha256 in files]
    render, target = images[:2]
    if render.shape != target.shape:
        raise InvalidFile(
            f"sample {sample_id}: render and target differ in size",
            file=files[0][0],
            found=f"{render.shape[:2]} and {target.shape[:2]}",
        )
    return images


def _read_image(sample_id: str, path: Path, sha256: str | None) -> NDArray[np.uint8]:
    try:
        if sha256 is not None and path.is_file() and sha256_file(path) != sha256:
            doubt_shard(path)
            raise InvalidFile(
                "the image is not the one that was exported", file=path, found="other bytes than recorded"
            )
        # A copy: torch warns of arrays that may not be written to, and a decoder's buffer is one.
        return read_rgb(path).copy()
    except InvalidFile as error:
        raise InvalidFile(
            f"sample {sample_id}: {error.problem}",
            file=error.file or path,
            found=error.found,
            remedy=f"`thesis-assets run --exp {path.parents[2].name}` exports the sample's scene again; the last checkpoint is intact, and the run goes on from it",
        ) from error


def _at_size(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    if tuple(pixels.shape[1:]) == size:
        return pixels.contiguous()
    resized = resize(pixels[None].float(), size)[0]
    return resized.round_().clamp_(0, 255).to(torch.uint8)


class Triplets(Dataset["Triplet | InvalidFile"]):
    """The training samples by draw. An unreadable sample is *returned* as its error: the reader of the batch knows the step.

    Args:
        recorded: sha256 of images by path, of those that have a record.
        crop: the side of the windows that are shown of images at their own size; 0: whole images at `resolution`.
    """

    def __init__(
        self,
        samples: dict[str, DataJsonEntry],
        resolution: int,
        recorded: Mapping[str, str] = NOTHING_RECORDED,
        crop: int = 0,
    ) -> None:
        self.samples = list(samples.items())
        self._resolution, self._crop = None if crop else resolution, crop
        self._recorded = recorded
        self._decoded: list[Triplet] | None = None

    def __getitem__(self, draw: Draw) -> Triplet | InvalidFile:
        try:
            triplet = self._decoded[draw.index] if self._decoded else self._read(draw.index)
        except InvalidFile as error:
            return error
        if self._crop:
            triplet = triplet.window(self._crop, draw.top, draw.left)
        return triplet.mirrored() if draw.mirrored else triplet

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def is_decoded(self) -> bool:
        return self._decoded is not None

    def decode_if_small(self, threads: int, max_bytes: int = CACHE_BYTES) -> bool:
        """Decode every sample now, where together they fit in `max_bytes` (judged by the first one's size).

        Raises:
            InvalidFile: a sample cannot be read.
        """
        sample_id, entry = self.samples[0]
        path = Path(entry.image)
        try:
            height, width = image_size(path)
        except InvalidFile as error:
            raise InvalidFile(
                f"sample {sample_id}: {error.problem}", file=error.file or path, found=error.found
            ) from error
        size = (height, width) if self._resolution is None else processing_size(height, width, self._resolution)
        if math.prod(size) * 9 * len(self.samples) > max_bytes:
            return False
        with ThreadPoolExecutor(max(1, threads)) as pool:
            self._decoded = list(pool.map(self._read, range(len(self.samples))))
        return True

    def _read(self, index: int) -> Triplet:
        sample_id, entry = self.samples[index]
        return read_triplet(sample_id, entry, self._resolution, self._recorded)


def load_batches(
    triplets: Triplets, draws: Iterator[list[Draw]], workers: int, *, pin_memory: bool = False
) -> Iterator[list[TripletBatch]]:
    """The batches of `draws` in order, each as one `TripletBatch` an image size.

    Args:
        workers: decoding processes; none are started for samples in memory.

    Raises:
        InvalidFile: a sample cannot be read.
    """
    loader = DataLoader(
        triplets,
        batch_sampler=draws,
        num_workers=0 if triplets.is_decoded else workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        # A generator of its own: the loader draws a seed for its workers, which would move the run's random state.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, InvalidFile):
            raise batch
        yield batch


def _collate(samples: Sequence[Triplet | InvalidFile]) -> list[TripletBatch] | InvalidFile:
    by_size: dict[torch.Size, list[Triplet]] = {}
    for sample in samples:
        if isinstance(sample, InvalidFile):
            return sample
        by_size.setdefault(sample.render.shape, []).append(sample)
    return [
        TripletBatch(
            [one.sample_id for one in group],
            torch.stack([one.render for one in group]),
            torch.stack([one.target for one in group]),
            torch.stack([one.reference for one in group]),
        )
        for group in by_size.values()
    ]


@dataclass(frozen=True)
class Draw:
    """One sample as it is shown: which, whether mirrored left to right (render, target and reference alike), and where a window
    of it lies, from 0 at one edge to 1 at the other."""

    index: int
    mirrored: bool
    top: float = 0.0
    left: float = 0.0


@dataclass(frozen=True)
class SampleOrder:
    """A pure function of `seed` and the count of samples seen, so that a resumed run goes on where the first one was."""

    n_samples: int
    seed: int
    mirror: bool = True

    def draw(self, count: int) -> Draw:
        """The sample that is seen after `count` others. Every sample stands once in each epoch; batches cross epochs."""
        epoch, place = divmod(count, self.n_samples)
        order, mirrored, windows = _epoch(self.n_samples, self.seed, epoch)
        top, left = windows[place]
        return Draw(int(order[place]), self.mirror and bool(mirrored[place]), float(top), float(left))

    def batches(self, first: int, last: int, size: int) -> Iterator[list[Draw]]:
        """Batches of `size` draws, from sample count `first` up to `last`."""
        for start in range(first, last, size):
            yield [self.draw(count) for count in range(start, start + size)]


@lru_cache(maxsize=4)
def _epoch(n_samples: int, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    random = np.random.default_rng([seed, epoch])
    # In this order: each draw leaves those before it as they were.
    return random.permutation(n_samples), random.random(n_samples) < 0.5, random.random((n_samples, 2))
