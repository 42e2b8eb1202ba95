"""The size an image is refined at, and the resizing to it and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SNAP = 16
"""Both sides are multiples of it: the networks halve the image up to four times."""


def processing_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """(height, width) with the long side at `resolution` and the aspect ratio kept, both snapped to the nearest 16."""
    scale = resolution / max(height, width)
    return _snap(height * scale), _snap(width * scale)


def _snap(length: float) -> int:
    return max(SNAP, int(length / SNAP + 0.5) * SNAP)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased when shrinking. `images`: (B, C, H, W) float. The very same tensor where the size is the same."""
    if tuple(images.shape[-2:]) == size:
        return images
    from torch.nn.functional import interpolate

    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
