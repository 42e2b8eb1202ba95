"""Writing triplets to disk from a bounded pool of threads; each appears by one rename, or not at all.

Encoding and deflating release the interpreter lock, so threads scale without copying pixels to other processes.
Does not belong here: which triplets there are, what `meta.json` says, rendering.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images import codecs
from thesis_assets.images.sample_image import ImageSource, place_image
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
        render: (H, W, 3) uint8, in host memory or on a device.
        target: what becomes `target_image.jpg`, see `ImageSource`.
        reference: what becomes `ref_image.jpg`.
        meta: called last in the worker thread with the modes of target and reference; returns the content of `meta.json`.
    """

    final_dir: Path
    render: NDArray[np.uint8] | Tensor
    target: ImageSource
    reference: ImageSource
    meta: Callable[[str, str], BaseModel]


@dataclass(frozen=True)
class TripletResult:
    """What became of a job: written (then `meta` is set), or refused by `error`, which leaves nothing on disk.

    `bytes_written` counts what was encoded or copied; a link costs none.
    """

    final_dir: Path
    bytes_written: int = 0
    target_mode: str = ""
    reference_mode: str = ""
    meta: BaseModel | None = None
    error: ThesisAssetsError | None = None


class TripletWriter:
    """A context manager that writes jobs as they are submitted; leaving it waits for the last one.

    An input that cannot be used (any `ThesisAssetsError`) costs its own sample and stands in its result. Everything else,
    such as a full disk, ends the writer: the next `submit`, or the exit, raises it.

    Args:
        png_encoder: see `codecs.encode_png`.
        link_mode: `auto` links files whose pixels stay as they are; `copy` always copies.
        threads: workers.
        max_pending: jobs that are in memory at once; `submit` waits for a place. Memory: one image a job, and what its sources make.
    """

    def __init__(
        self,
        png_encoder: codecs.PngEncoder = "isal",
        link_mode: Literal["auto", "copy"] = "auto",
        threads: int = 2,
        max_pending: int | None = None,
    ) -> None:
        if threads < 1 or (max_pending is not None and max_pending < 1):
            raise ThesisAssetsError(
                "a writer without a thread or a place", found=f"{threads} threads, {max_pending} places"
            )
        self._png_encoder = png_encoder
        self._link_mode: Literal["auto", "copy"] = link_mode
        self._places = threading.BoundedSemaphore(max_pending or 2 * threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="triplet-writer")
        self._results: dict[int, TripletResult] = {}
        self._submitted = 0
        self._fatal: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self._raise_fatal()

    def submit(self, job: TripletJob) -> None:
        """Queue a job; waits while `max_pending` jobs are in memory.

        Raises:
            Exception: the first failure of an earlier job that was no `ThesisAssetsError`.
        """
        self._places.acquire()
        if self._fatal is not None:
            self._places.release()
            self._raise_fatal()
        number, self._submitted = self._submitted, self._submitted + 1
        self._pool.submit(self._work, number, job)

    @property
    def n_finished(self) -> int:
        """Jobs that are written or refused by now."""
        return len(self._results)

    @property
    def results(self) -> list[TripletResult]:
        """Results in the order of submission; complete once the writer is left."""
        return [self._results[number] for number in sorted(self._results)]

    def _work(self, number: int, job: TripletJob) -> None:
        try:
            if self._fatal is None:
                self._results[number] = self._write(job)
        except ThesisAssetsError as error:
            self._results[number] = TripletResult(job.final_dir, error=error)
        except BaseException as error:  # noqa: BLE001  kept, and raised in the submitting thread
            self._fatal = self._fatal or error
        finally:
            self._places.release()

    def _write(self, job: TripletJob) -> TripletResult:
        render = job.render if isinstance(job.render, np.ndarray) else np.asarray(job.render.cpu().numpy())
        size = (render.shape[0], render.shape[1])
        with storage.atomic_directory(job.final_dir) as folder:
            target = place_image(job.target, folder / _TARGET, size, self._link_mode)
            reference = place_image(job.reference, folder / _REFERENCE, size, self._link_mode)
            meta = job.meta(target.mode, reference.mode)
            contents = {
                _IMAGE: codecs.encode_png(render, self._png_encoder),
                _META: storage.to_json_bytes(meta),
            }
            for name, content in contents.items():
                (folder / name).write_bytes(content)
        written = target.bytes_written + reference.bytes_written + sum(map(len, contents.values()))
        return TripletResult(job.final_dir, written, target.mode, reference.mode, meta)

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal
