"""Writing triplets to disk from a pool of threads behind a bounded ring of buffers; each appears by one rename, or not at all.

A render on a GPU is rounded there and copied on a stream of its own into page-locked memory, while the next one is rendered and
earlier ones are encoded. On a CPU it is rounded into the buffer by the thread that encodes it. A buffer is used again and again,
so memory is bounded by the ring, whatever the number of renders. Rounding, encoding and deflating release the interpreter lock, so
threads scale without copying pixels to other processes. A photograph is linked where its pixels stay as they are.
Does not belong here: which triplets there are, what `meta.json` says, rendering.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.images import codecs
from thesis_assets.images.quantise import quantise, quantise_into
from thesis_assets.provenance import Contents, Output
from thesis_assets.schemas.samples import SAMPLE_FILES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import Tensor


_IMAGE, _TARGET, _REFERENCE, _META = SAMPLE_FILES


@dataclass(frozen=True)
class TripletJob:
    """One sample to write.

    Attributes:
        final_dir: the sample's directory; one that is there is replaced.
        render: (H, W, 3) uint8 or a (3, H, W) float tensor meant as [0, 1], in host memory or on a device (`HostSlot.stage`).
        target: what becomes `target_image.jpg`, see `ImageSource`.
        reference: what becomes `ref_image.jpg`.
        meta: called last in the worker thread with what became of the three images, by file name; returns the content of
            `meta.json`.
        accept: called with what was written, by file name, before the sample appears; raises where it may not.
        thumbnail_height: where it is not 0, the result has the three images about this high, to look at.
    """

    final_dir: Path
    render: NDArray[np.uint8] | Tensor
    target: ImageSource
    reference: ImageSource
    meta: Callable[[Mapping[str, PlacedImage]], BaseModel]
    accept: Callable[[Mapping[str, Output]], None] | None = None
    thumbnail_height: int = 0


@dataclass(frozen=True)
class TripletResult:
    """What became of a job: written (then `meta` is set), or refused by `error`, which leaves nothing on disk.

    `bytes_written` counts what was encoded or copied; a link costs none. `outputs`: what was written, by file name.
    `thumbnails`: render, target, reference, where asked for.
    """

    final_dir: Path
    bytes_written: int = 0
    meta: BaseModel | None = None
    outputs: Mapping[str, Output] = field(default_factory=dict)
    thumbnails: tuple[NDArray[np.uint8], ...] = ()
    error: ThesisAssetsError | None = None


class TripletWriter:
    """A context manager that writes jobs as they are submitted; leaving it waits for the last one.

    An input that cannot be used (any `ThesisAssetsError`) costs its own sample and stands in its result. Everything else,
    such as a full disk, ends the writer: the next `submit`, or the exit, raises it.

    Args:
        png_encoder: see `codecs.encode_png`.
        link_mode: `auto` links files whose pixels stay as they are; `copy` always copies.
        threads: workers.
        max_pending: jobs that are in memory at once, each with a buffer of its own; `submit` waits for a place. Memory: one image
            and what its sources make, a job.
        contents: digests of photographs that are known already.
    """

    def __init__(
        self,
        png_encoder: codecs.PngEncoder = "isal",
        link_mode: Literal["auto", "copy"] = "auto",
        threads: int = 2,
        max_pending: int | None = None,
        contents: Contents | None = None,
    ) -> None:
        if threads < 1 or (max_pending is not None and max_pending < 1):
            raise ThesisAssetsError(
                "a writer without a thread or a place", found=f"{threads} threads, {max_pending} places"
            )
        self._png_encoder = png_encoder
        self._link_mode: Literal["auto", "copy"] = link_mode
        self._contents = contents or Contents()
        streams: dict[int, Any] = {}
        self._free: queue.SimpleQueue[HostSlot] = queue.SimpleQueue()
        for _ in range(max_pending or 2 * threads):
            self._free.put(HostSlot(streams))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="triplet-writer")
        # The disk takes a render while the next ones are encoded; whoever publishes a record of them then waits for little.
        self._to_disk = ThreadPoolExecutor(1, thread_name_prefix="triplet-to-disk")
        self._results: dict[int, TripletResult] = {}
        self._submitted = 0
        self._fatal: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        self._to_disk.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self._raise_fatal()

    def submit(self, job: TripletJob) -> None:
        """Queue a job; waits while `max_pending` jobs are in memory.

        Raises:
            Exception: the first failure of an earlier job that was no `ThesisAssetsError`.
        """
        slot = self._free.get()
        try:
            self._raise_fatal()
            slot.stage(job.render)
        except BaseException:
            self._give_back(slot)
            raise
        number, self._submitted = self._submitted, self._submitted + 1
        self._pool.submit(self._write, number, job, slot)

    def make_ahead(self, make: Callable[[], object]) -> None:
        """Queue what several jobs share, before them: none of them then waits for another that makes it.

        Args:
            make: keeps its result itself. A `ThesisAssetsError` of its is not kept: each job that needs the result gets its own.
        """
        self._pool.submit(self._make, make)

    @property
    def n_finished(self) -> int:
        """Jobs that are written or refused by now."""
        return len(self._results)

    @property
    def results(self) -> list[TripletResult]:
        """Results in the order of submission; complete once the writer is left."""
        return [self._results[number] for number in sorted(self._results)]

    def _make(self, make: Callable[[], object]) -> None:
        try:
            if self._fatal is None:
                make()
        except ThesisAssetsError:
            return
        except BaseException as error:  # noqa: BLE001  kept, and raised in the submitting thread
            self._fatal = self._fatal or error

    def _write(self, number: int, job: TripletJob, slot: HostSlot) -> None:
        """Write a sample by one rename, in a thread of the pool; what is wrong with it stands in its result."""
        try:
            if self._fatal is not None:
                return
            size, pixels = _size(job.render), cache(slot.pixels)
            # The target first: most samples that are refused are refused by it. The reference last: others may be making it.
            makers: dict[str, Callable[[], Path | bytes]] = {
                _TARGET: partial(_photograph, job.target, size, _TARGET),
                _IMAGE: lambda: codecs.encode_png(pixels(), self._png_encoder),
                _REFERENCE: partial(_photograph, job.reference, size, _REFERENCE),
            }
            placed: dict[str, PlacedImage] = {}
            with storage.atomic_directory(job.final_dir) as folder:
                for name, make in makers.items():
                    made = make()
                    if isinstance(made, bytes):
                        (folder / name).write_bytes(made)
                        digest = codecs.pixel_digest(pixels()) if name == _IMAGE else None
                        if digest is None:  # decoding a JPEG again would cost as much as encoding it
                            codecs.check_size(codecs.image_size(folder / name), size, name)
                        placed[name] = PlacedImage("encoded", Output(len(made), storage.sha256_bytes(made), digest))
                    else:
                        mode = storage.link_or_copy(made, folder / name, link_mode=self._link_mode)
                        output = Output((folder / name).stat().st_size, self._contents.sha256(made))
                        placed[name] = PlacedImage(mode, output)
                meta = job.meta(placed)
                content = storage.to_json_bytes(meta)
                (folder / _META).write_bytes(content)
                thumbnails = _thumbnails(pixels(), folder, job.thumbnail_height) if job.thumbnail_height else ()
                outputs = {name: each.output for name, each in placed.items()}
                outputs[_META] = Output(len(content), storage.sha256_bytes(content))
                if job.accept is not None:
                    job.accept(outputs)
            written = sum(each.bytes_written for each in placed.values()) + len(content)
            self._results[number] = TripletResult(job.final_dir, written, meta, outputs, thumbnails)
            # What the disk says of a failed write it says once: to whoever asks first.
            self._to_disk.submit(self._make, partial(storage.flush, job.final_dir / _IMAGE))
        except FileNotFoundError as error:
            vanished = InvalidFile("the image vanished while it was exported", file=error.filename)
            self._results[number] = TripletResult(job.final_dir, error=vanished)
        except ThesisAssetsError as error:
            self._results[number] = TripletResult(job.final_dir, error=error)
        except BaseException as error:  # noqa: BLE001  kept, and raised in the submitting thread
            self._fatal = self._fatal or error
        finally:
            self._give_back(slot)

    def _give_back(self, slot: HostSlot) -> None:
        slot.clear()
        self._free.put(slot)

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal


def _size(render: NDArray[np.uint8] | Tensor) -> tuple[int, int]:
    """(height, width)."""
    planes_first = not isinstance(render, np.ndarray) and render.is_floating_point()
    height, width = render.shape[1:] if planes_first else render.shape[:2]
    return int(height), int(width)


def _thumbnails(render: NDArray[np.uint8], folder: Path, height: int) -> tuple[NDArray[np.uint8], ...]:
    photographs = (codecs.read_reduced(folder / name, height) for name in (_TARGET, _REFERENCE))
    return codecs.reduced(render, height), *photographs


class HostSlot:
    """One buffer of the ring, of the size of the images it has seen.

    `stage` is called by the thread that renders, `pixels` by the one that encodes.

    Args:
        streams: of all slots, by device: the CUDA stream that copies from it, beside the one that renders.
    """

    def __init__(self, streams: dict[int, Any]) -> None:
        self._streams = streams
        self._source: NDArray[np.uint8] | Tensor | None = None
        self._buffer: Any = None
        self._array: NDArray[np.uint8] | None = None
        self._arrived: Any = None

    def stage(self, render: NDArray[np.uint8] | Tensor) -> None:
        """Take a render: from a GPU its copy is begun, on a CPU nothing is done yet.

        Args:
            render: (H, W, 3) uint8, an array or a tensor; or a tensor (3, H, W) float, meant as [0, 1]. Must not be changed until
                it is written.
        """
        if isinstance(render, np.ndarray) or render.device.type == "cpu":
            self._source = render
        else:
            self._start_copy(render)

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of the staged render, good until the slot is given back. Waits for the copy."""
        if self._arrived is not None:
            self._arrived.synchronize()
            assert self._array is not None
            return self._array
        source = self._source
        assert source is not None, "nothing was staged"
        if isinstance(source, np.ndarray):
            return source
        if not source.is_floating_point():
            return np.asarray(source.numpy())
        _, height, width = source.shape
        if self._array is None or self._array.shape != (height, width, 3):
            self._array = np.empty((height, width, 3), np.uint8)
        quantise_into(source, self._array)
        return self._array

    def clear(self) -> None:
        """Forget the render; the buffer stays."""
        self._source = self._arrived = None

    def _start_copy(self, render: Tensor) -> None:
        import torch

        image = quantise(render[None])[0] if render.is_floating_point() else render.contiguous()
        if self._buffer is None or self._buffer.shape != image.shape:
            self._buffer = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
            self._array = np.asarray(self._buffer.numpy())
        if image.device.index not in self._streams:
            make: Any = torch.cuda.Stream  # Its constructor has no types.
            self._streams[image.device.index] = make(image.device)
        stream = self._streams[image.device.index]
        stream.wait_stream(torch.cuda.current_stream(image.device))
        with torch.cuda.stream(stream):
            self._buffer.copy_(image, non_blocking=True)
            # Or the allocator could give the image's memory to the next render before it is copied.
            image.record_stream(stream)
            self._arrived = stream.record_event()


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


def _photograph(source: ImageSource, size: tuple[int, int], name: str) -> Path | bytes:
    """The JPEG file that is linked, or the bytes of the one that is written.

    Args:
        size: (height, width) that it must have.

    Raises:
        SizeMismatch: it has another size.
        InvalidFile: a source file is missing, empty, or cannot be decoded.
    """
    made = source() if callable(source) else source
    if isinstance(made, Path):
        codecs.check_size(codecs.check_complete(made), size, made)
        # The published trainer stacks colour images alone.
        return made if codecs.jpeg_components(made) == 3 else codecs.encode_jpeg(codecs.read_rgb(made))
    if isinstance(made, np.ndarray):
        codecs.check_size((made.shape[0], made.shape[1]), size, name)
        return codecs.encode_jpeg(made)
    return made
