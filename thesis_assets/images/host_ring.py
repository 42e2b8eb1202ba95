"""A bounded ring of host buffers that renders pass through on their way from a device to the encoder.

A render on a GPU is rounded there and copied on a stream of its own into page-locked memory, while the next one is rendered and
earlier ones are encoded. On a CPU it is rounded into the buffer by the thread that encodes it. A buffer is used again and again,
so memory is bounded by the ring, whatever the number of renders. Does not belong here: encoding, files.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.quantise import quantise, quantise_into

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class HostRing:
    """`n_slots` buffers, each of the size of the images it has seen."""

    def __init__(self, n_slots: int) -> None:
        if n_slots < 1:
            raise ThesisAssetsError("a ring without a place", found=n_slots, wanted="at least 1")
        self._streams: dict[int, Any] = {}
        self._free: queue.SimpleQueue[HostSlot] = queue.SimpleQueue()
        for _ in range(n_slots):
            self._free.put(HostSlot(self))

    def take(self) -> HostSlot:
        """A free slot; waits until there is one."""
        return self._free.get()

    def give_back(self, slot: HostSlot) -> None:
        """Free a slot, and what it refers to."""
        slot.clear()
        self._free.put(slot)

    def copy_stream(self, device: Any) -> Any:
        """The CUDA stream that copies from `device`, beside the one that renders. Called by one thread only."""
        import torch

        if device.index not in self._streams:
            make: Any = torch.cuda.Stream  # Its constructor has no types.
            self._streams[device.index] = make(device)
        return self._streams[device.index]


class HostSlot:
    """One buffer. `stage` is called by the thread that renders, `pixels` by the one that encodes."""

    def __init__(self, ring: HostRing) -> None:
        self._ring = ring
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
        stream = self._ring.copy_stream(image.device)
        stream.wait_stream(torch.cuda.current_stream(image.device))
        with torch.cuda.stream(stream):
            self._buffer.copy_(image, non_blocking=True)
            # Or the allocator could give the image's memory to the next render before it is copied.
            image.record_stream(stream)
            self._arrived = stream.record_event()
