"""From float images on a device to 8-bit images in host memory: one rounding rule, one transfer a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def quantise(batch: Tensor) -> Tensor:
    """Round images to 8 bit on their own device: a quarter of the bytes to transfer.

    Args:
        batch: (B, 3, H, W) float, meant as [0, 1]; values outside are clamped.

    Returns:
        (B, H, W, 3) uint8, contiguous, on the same device: `floor(255 x + 0.5)`.
    """
    import torch

    if batch.device.type == "cpu":
        return _quantise_in_cache(batch)
    scaled = batch.clamp(0, 1).mul_(255).add_(0.5)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _quantise_in_cache(batch: Tensor, rows: int = 64) -> Tensor:
    """The same on a CPU, a band of rows at a time: whole images in between cost twice the time, for fresh memory alone."""
    import torch

    n, channels, height, width = batch.shape
    images = np.empty((n, height, width, channels), np.uint8)
    band = torch.empty((channels, rows, width), dtype=torch.uint8)
    for index in range(n):
        for top in range(0, height, rows):
            source = batch[index, :, top : top + rows]
            filled = band[:, : source.shape[1]]
            filled.copy_(source.clamp(0, 1).mul_(255).add_(0.5))
            planes = filled.numpy()
            for channel in range(channels):
                images[index, top : top + rows, :, channel] = planes[channel]
    return torch.from_numpy(images)


def to_host(images: Tensor) -> NDArray[np.uint8]:
    """Quantised images (B, H, W, 3) uint8 as one array in host memory.

    From a CUDA device the batch goes through page-locked memory, which is about twice as fast as pageable memory.
    """
    import torch

    if images.device.type != "cuda":
        return np.asarray(images.cpu().numpy())
    pinned = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
    pinned.copy_(images)
    return np.asarray(pinned.numpy())
