"""The triplets of a manifest, read back: lazy handles, batches read ahead, and a small picture of some of them.

Does not belong here: the training loop's own order, sizes and cache (the tuning room), writing triplets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.samples.integrity import IMAGE_FILES
from thesis_assets.schemas.samples import SampleRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class TripletBatch:
    """Triplets of one image size: (B, 3, H, W) float32 in [0, 1] on one device, in the order of `sample_ids`."""

    sample_ids: list[str]
    renders: Tensor
    targets: Tensor
    references: Tensor


@dataclass(frozen=True)
class TripletHandle:
    """One triplet on disk: its manifest row, its folder, and the device that its images are loaded to."""

    row: SampleRow
    folder: Path
    device: str

    def render(self) -> Tensor:
        """(3, H, W) float32 in [0, 1].

        Raises:
            InvalidFile: the file cannot be read; so with the other two.
        """
        return self._image(0)

    def target(self) -> Tensor:
        """As `render`, of the photograph at the target's camera."""
        return self._image(1)

    def reference(self) -> Tensor:
        """As `render`, of the photograph at the reference's camera; it may have another size."""
        return self._image(2)

    def _image(self, index: int) -> Tensor:
        return _as_floats(_read(self.folder / IMAGE_FILES[index])[None], self.device)[0]


class TripletSet(Sequence[TripletHandle]):
    """The triplets of manifest rows, in their order.

    Args:
        rows: of one snapshot.
        device: `cpu` or a CUDA device: where images are loaded to.
    """

    def __init__(self, tree: DifixTree, rows: Sequence[SampleRow], *, device: str) -> None:
        self.rows = list(rows)
        self.device = device
        self._samples_dir = tree.samples_dir

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> TripletHandle: ...

    @overload
    def __getitem__(self, index: slice) -> list[TripletHandle]: ...

    def __getitem__(self, index: int | slice) -> TripletHandle | list[TripletHandle]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self.rows)))]
        row = self.rows[index]
        return TripletHandle(row, self._samples_dir / row.sample_id, self.device)

    def batches(self, size: int, *, threads: int = 2, ahead: int = 2) -> Iterator[TripletBatch]:
        """All triplets in order, `size` at a time; a batch ends early where the image size changes.

        Args:
            threads: that decode.
            ahead: batches that are decoded before they are asked for. Memory: `ahead + 1` batches of 8-bit images, and what the
                caller keeps.

        Raises:
            InvalidFile: an image cannot be read, or a triplet's three images differ in size; the message has the sample.
        """
        waiting: deque[list[tuple[SampleRow, Future[list[Tensor]]]]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="triplet-reader") as pool:
            try:
                for start in range(0, len(self.rows), size):
                    rows = self.rows[start : start + size]
                    waiting.append([(row, pool.submit(self._read_triplet, row)) for row in rows])
                    if len(waiting) > ahead:
                        yield from self._stacked(waiting.popleft())
                while waiting:
                    yield from self._stacked(waiting.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _read_triplet(self, row: SampleRow) -> list[Tensor]:
        """Render, target and reference, (3, H, W) uint8 each."""
        folder = self._samples_dir / row.sample_id
        images = [_read(folder / name) for name in IMAGE_FILES]
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) > 1:
            raise InvalidFile(
                f"the images of sample {row.sample_id} differ in size",
                file=folder,
                found=", ".join(f"{width} x {height}" for _, height, width in sorted(shapes)),
                remedy="remove the folder and export its scene again",
            )
        return images

    def _stacked(self, chunk: Sequence[tuple[SampleRow, Future[list[Tensor]]]]) -> Iterator[TripletBatch]:
        read = [(row, future.result()) for row, future in chunk]
        start = 0
        for end in range(1, len(read) + 1):
            if end == len(read) or read[end][1][0].shape != read[start][1][0].shape:
                yield self._batch(read[start:end])
                start = end

    def _batch(self, read: Sequence[tuple[SampleRow, list[Tensor]]]) -> TripletBatch:
        import torch

        columns = (torch.stack([images[index] for _, images in read]) for index in range(len(IMAGE_FILES)))
        renders, targets, references = (_as_floats(column, self.device) for column in columns)
        return TripletBatch([row.sample_id for row, _ in read], renders, targets, references)


def _read(path: Path) -> Tensor:
    """(3, H, W) uint8 in host memory."""
    import torch

    from thesis_assets.images.codecs import read_rgb

    # A copy: torch warns of arrays that may not be written to, and a decoder's buffer is one.
    return torch.from_numpy(read_rgb(path).copy()).permute(2, 0, 1)


def _as_floats(images: Tensor, device: str) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] on `device`. To a GPU go the bytes, from page-locked memory, and it makes the floats."""
    if device.startswith("cuda"):
        images = images.contiguous().pin_memory().to(device, non_blocking=True)
    return images.float().div_(255)


N_SHOWN = 4
CELL_HEIGHT = 96
"""Of each image on the sheet, pixels."""

Item = TypeVar("Item")


def shown_of(items: Sequence[Item]) -> list[Item]:
    """`N_SHOWN` of the items, spread over them."""
    n = min(N_SHOWN, len(items))
    return [items[index * len(items) // n] for index in range(n)]


def shard_sheet(tree: DifixTree, scene_name: str) -> bytes | None:
    """`triplet_sheet` of a finished shard, all read back from disk.

    Raises:
        InvalidFile: the shard is not whole.
    """
    from thesis_assets.samples.shards import read_shard

    return triplet_sheet(tree, read_shard(tree, scene_name).rows)


def triplet_sheet(
    tree: DifixTree, rows: Sequence[SampleRow], at_hand: Mapping[str, Sequence[NDArray[np.uint8]]] | None = None
) -> bytes | None:
    """A JPEG with some triplets of `rows`: render | target | reference. None without a row.

    Args:
        at_hand: small images of a sample by its id; those of others are read back from disk.
    """
    from thesis_assets.images.codecs import read_reduced
    from thesis_assets.images.contact_sheet import contact_sheet

    if not rows:
        return None
    shown = shown_of(rows)
    return contact_sheet(
        [
            (at_hand or {}).get(row.sample_id)
            or [read_reduced(tree.samples_dir / row.sample_id / name, CELL_HEIGHT) for name in IMAGE_FILES]
            for row in shown
        ],
        row_titles=[f"cam {row.target_cam_id}  {row.target_fname}" for row in shown],
        column_titles=["render", "target", "reference"],
        cell_height=CELL_HEIGHT,
    )
