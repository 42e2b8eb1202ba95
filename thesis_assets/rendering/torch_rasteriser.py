"""3D Gaussians drawn with plain torch: front-to-back alpha compositing, tile by tile.

Follows "3D Gaussian Splatting" (Kerbl et al. 2023): alpha at most 0.99, contributions below 1/255 cut, a pixel closed at 1e-4
transmittance. Same input, same pixels, whatever the number of threads. Memory is bounded by one tile and one chunk of Gaussians.
Does not belong here: the projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.rendering.gaussian_tensors import GaussianTensors, to_tensors
from thesis_assets.rendering.projection import MIN_ALPHA, Splats, project
from thesis_assets.rendering.revisions import TORCH_RASTERISER, TORCH_REVISION

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera

__all__ = ["GaussianTensors", "TorchRasteriser", "rasterise", "to_tensors"]

MAX_ALPHA = 0.99
MIN_TRANSMITTANCE = 1e-4
SMALL_TILE, LARGE_TILE = 16, 32
CHUNK_ELEMENTS = 65536
"""Gaussians times pixels composited at once: 256 KB an intermediate, which stays in the cache."""


class TorchRasteriser:
    """The rasteriser for machines without CUDA."""

    name = "torch"
    device = "cpu"

    @property
    def version(self) -> str:
        import torch

        return f"{TORCH_RASTERISER} {TORCH_REVISION}, torch {torch.__version__}"

    def draw(self, gaussians: GaussianTensors, cameras: Sequence[Camera]) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1], one camera after the other."""
        import torch

        views = [
            rasterise(
                gaussians,
                torch.from_numpy(np.array(camera.intrinsics, np.float32)),
                torch.from_numpy(np.array(camera.extrinsics, np.float32)),
                camera.height,
                camera.width,
            )
            for camera in cameras
        ]
        return torch.stack(views)


def rasterise(
    gaussians: GaussianTensors,
    intrinsics: Tensor,
    extrinsics: Tensor,
    height: int,
    width: int,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """Draw the Gaussians as one pinhole camera sees them.

    Args:
        intrinsics: (3, 3) pixels.
        extrinsics: (3, 4) world-to-camera, metres, OpenCV axes.
        background: RGB in [0, 1] behind everything.

    Returns:
        (3, height, width) float32 in [0, 1], on the Gaussians' device.
    """
    import torch

    with torch.no_grad():
        device = gaussians.means.device
        splats = project(gaussians, intrinsics.to(device).float(), extrinsics.to(device).float(), height, width)
        behind = torch.tensor(background, dtype=torch.float32, device=device)
        image = behind[:, None, None].expand(3, height, width).clone()
        table = _table(splats)
        low, high = splats.centres - splats.reach, splats.centres + splats.reach
        side = _tile_side(splats)
        for top in range(0, height, side):
            bottom = min(top + side, height)
            in_row = ((low[:, 1] < bottom) & (high[:, 1] > top)).nonzero()[:, 0]
            row_low, row_high = low[in_row, 0], high[in_row, 0]
            for left in range(0, width, side):
                right = min(left + side, width)
                touching = in_row[(row_low < right) & (row_high > left)]
                if len(touching):
                    tile = _composite(table[touching], (top, bottom, left, right), behind)
                    image[:, top:bottom, left:right] = tile
        return image.clamp_(0, 1)


def _tile_side(splats: Splats) -> int:
    """Small tiles waste few pixels a Gaussian, large ones few calls: what the Gaussians' size in pixels asks for."""
    return LARGE_TILE if len(splats.reach) and float(splats.reach.mean()) > SMALL_TILE / 2 else SMALL_TILE


def _table(splats: Splats) -> Tensor:
    """(M, 10): what compositing needs of a Gaussian in one row, since a tile then picks its Gaussians in one call.

    Columns: centre x, y; exponent's factors of dx^2, dx dy, dy^2; log opacity; R, G, B; 1, which sums the weights.
    """
    import torch

    factors = splats.conics * torch.tensor([-0.5, -1.0, -0.5], device=splats.conics.device)
    log_opacities = torch.log(splats.opacities)[:, None]
    return torch.cat([splats.centres, factors, log_opacities, splats.colours, torch.ones_like(log_opacities)], 1)


def _composite(rows: Tensor, tile: tuple[int, int, int, int], behind: Tensor) -> Tensor:
    """(3, h, w) of one tile from the rows of the Gaussians that touch it, nearest first."""
    import torch

    top, bottom, left, right = tile
    ys = torch.arange(top, bottom, device=rows.device, dtype=torch.float32) + 0.5
    xs = torch.arange(left, right, device=rows.device, dtype=torch.float32) + 0.5
    # `product` goes on falling behind a closed pixel, so that the pixel stays closed in the next chunk.
    product = torch.ones(len(ys) * len(xs), device=rows.device)
    seen = torch.zeros((4, len(product)), device=rows.device)  # R, G, B and the sum of weights
    for chunk in torch.split(rows, max(1, CHUNK_ELEMENTS // len(product))):
        alpha = _alphas(chunk, xs, ys).reshape(len(chunk), -1)
        after = torch.cumprod(1 - alpha, 0).mul_(product)
        # The weight of a Gaussian, alpha times the transmittance before it, is what the transmittance falls by.
        weights = torch.empty_like(after)
        torch.sub(product, after[0], out=weights[0])
        torch.sub(after[:-1], after[1:], out=weights[1:])
        product = after[-1]
        if float(product.min()) < MIN_TRANSMITTANCE:
            weights *= after >= MIN_TRANSMITTANCE
        seen += chunk[:, 6:].T @ weights
        if float(product.max()) < MIN_TRANSMITTANCE:
            break
    return (seen[:3] + behind[:, None] * (1 - seen[3])).reshape(3, len(ys), len(xs))


def _alphas(rows: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """(G, h, w): opacity times the Gaussian at each pixel's centre, at most 0.99, 0 where it is below 1/255.

    The exponent -(a dx^2 + 2 b dx dy + c dy^2) / 2 is put together from its parts a row and a column.
    """
    import torch

    dx, dy = xs - rows[:, 0:1], ys - rows[:, 1:2]
    along_x = torch.addcmul(rows[:, 5:6], rows[:, 2:3] * dx, dx)
    along_y = rows[:, 4:5] * dy * dy
    cross = rows[:, 3:4] * dy
    exponent = torch.addcmul(along_y[:, :, None], cross[:, :, None], dx[:, None, :]).add_(along_x[:, None, :])
    # exp is slow where it underflows; below -8 alpha is cut anyway.
    alpha = exponent.clamp_(-8, math.log(MAX_ALPHA)).exp_()
    return torch.nn.functional.threshold(alpha, math.nextafter(MIN_ALPHA, 0), 0, inplace=True)
