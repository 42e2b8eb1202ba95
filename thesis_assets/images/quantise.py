"""From float images on a device to 8-bit images in host memory: one rounding rule, one transfer a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.images.codecs import scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_BAND_VALUES = 3 << 16
"""Less, and threads wait more often for the interpreter lock; more, and a band with what it is made of leaves the cache."""


def quantise(batch: Tensor) -> Tensor:
    """Round images to 8 bit on their own device: a quarter of the bytes to transfer.

    Args:
        batch: (B, 3, H, W) float, meant as [0, 1]; values outside are clamped.

    Returns:
        (B, H, W, 3) uint8, contiguous, on the same device: `floor(255 x + 0.5)`.
    """
    import torch

    if batch.device.type == "cpu":
        n, channels, height, width = batch.shape
        images = np.empty((n, height, width, channels), np.uint8)
        for image, out in zip(batch, images, strict=True):
            quantise_into(image, out)
        return torch.from_numpy(images)
    scaled = batch.clamp(0, 1).mul_(255).add_(0.5)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def quantise_into(image: Tensor, out: NDArray[np.uint8]) -> None:
    """Round one image on a CPU, a band of rows at a time: whole images in between cost twice the time, for fresh memory alone.

    Args:
        image: (C, H, W) float on the CPU.
        out: (H, W, C) uint8, filled.
    """
    values = image.float()
    interleaved = values.permute(1, 2, 0)
    parts: Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]]
    if interleaved.is_contiguous():
        parts = [(interleaved.numpy(), out)]
    else:
        parts = zip(values.numpy(), np.moveaxis(out, 2, 0), strict=True)
    for source, target in parts:
        rows = max(1, _BAND_VALUES // source[0].size)
        band = scratch("scaled_band", (rows, *source.shape[1:]), np.float32)
        for top in range(0, len(source), rows):
            part = source[top : top + rows]
            scaled = np.multiply(part, np.float32(255), out=band[: len(part)])
            scaled += np.float32(0.5)
            np.clip(scaled, 0, 255, out=scaled)
            target[top : top + rows] = scaled


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
