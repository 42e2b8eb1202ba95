"""3D Gaussians drawn with plain torch: EWA projection, view-dependent colour, front-to-back alpha compositing tile by tile.

Projection: Zwicker et al., "EWA Splatting" (2002), with the choices of "3D Gaussian Splatting" (Kerbl et al. 2023): a 0.3 pixel
low-pass on the projected covariance, pixel centres at +0.5. Colour: real spherical harmonics of degree 0 to 3 with the constants
and signs of the 3DGS reference implementation, which follow Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013.
Compositing: alpha at most 0.99, contributions below 1/255 cut, a pixel closed at 1e-4 transmittance.
Same input, same pixels, whatever the number of threads. Memory is bounded by one tile and one chunk of Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.rendering.gaussians import SH_C0, GaussianTensors

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera


TORCH_RASTERISER = "torch rasteriser"
TORCH_REVISION = 1
"""Raised when a change of the torch rasteriser or of the projection changes pixels."""

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


LOW_PASS = 0.3
"""Variance in square pixels added to every projected Gaussian."""
MIN_ALPHA = 1 / 255
NEAR = 0.01
"""Gaussians whose centre is nearer than this to the camera plane are not drawn, metres."""


@dataclass(frozen=True)
class Splats:
    """The M projected Gaussians that can touch the image, nearest first.

    Attributes:
        centres: (M, 2) x and y, pixels.
        conics: (M, 3) a, b, c of the inverse covariance [[a, b], [b, c]], one over square pixels.
        opacities: (M,) in [1/255, 1].
        colours: (M, 3) RGB, 0 or more.
        reach: (M, 2) half extent in x and y beyond which alpha is below 1/255, pixels.
    """

    centres: Tensor
    conics: Tensor
    opacities: Tensor
    colours: Tensor
    reach: Tensor


def project(gaussians: GaussianTensors, intrinsics: Tensor, extrinsics: Tensor, height: int, width: int) -> Splats:
    """Project the Gaussians into one pinhole camera; those that cannot reach 1/255 anywhere in the image are left out.

    Args:
        intrinsics: (3, 3) pixels.
        extrinsics: (3, 4) world-to-camera, metres.
    """
    import torch

    rotation, translation = extrinsics[:, :3], extrinsics[:, 3]
    in_camera = gaussians.means @ rotation.T + translation
    in_front = (in_camera[:, 2] > NEAR).nonzero()[:, 0]
    # A stable sort: Gaussians of equal depth keep the file's order on every machine.
    order = in_front[torch.sort(in_camera[in_front, 2], stable=True).indices]
    points = in_camera[order]
    covariance = _image_covariance(gaussians, order, points, rotation, intrinsics, height, width)
    pixels = points @ intrinsics.T
    centres = pixels[:, :2] / pixels[:, 2:]
    a, b, c = covariance.unbind(1)
    determinant = a * c - b * b
    opacities = gaussians.opacities[order]
    # alpha = opacity * exp(-q / 2) reaches MIN_ALPHA at q = 2 ln(opacity / MIN_ALPHA): the ellipse's exact bounding box.
    radius = torch.sqrt((2 * torch.log(opacities / MIN_ALPHA)).clamp_min(0))
    reach = radius[:, None] * torch.sqrt(torch.stack([a, c], 1))
    visible = (opacities >= MIN_ALPHA) & (determinant > 0)
    visible &= ((centres + reach) > 0).all(1)
    visible &= (centres[:, 0] - reach[:, 0] < width) & (centres[:, 1] - reach[:, 1] < height)
    conics = torch.stack([c, -b, a], 1) / determinant[:, None]
    directions = gaussians.means[order] + rotation.T @ translation  # mean minus camera centre -R^T t
    rgb = colours(gaussians.sh_dc[order], gaussians.sh_rest[order], torch.nn.functional.normalize(directions, dim=1))
    return Splats(centres[visible], conics[visible], opacities[visible], rgb[visible], reach[visible])


def _image_covariance(
    gaussians: GaussianTensors,
    order: Tensor,
    points: Tensor,
    rotation: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """(M, 3): xx, xy, yy in square pixels of J W S W^T J^T (Zwicker et al. 2002, eq. 31) plus the low-pass."""
    import torch

    axes = rotation_matrices(gaussians.rotations[order]) * gaussians.scales[order][:, None, :]
    axes = rotation @ axes
    fx, fy, skew = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 1]
    cx, cy = intrinsics[0, 2], intrinsics[1, 2]
    z = points[:, 2]
    # Far outside the view the linearisation explodes: it is taken at most 15 % of the view beyond the border, as gsplat does.
    x = (points[:, 0] / z).clamp(-(cx + 0.15 * width) / fx, (width - cx + 0.15 * width) / fx) * z
    y = (points[:, 1] / z).clamp(-(cy + 0.15 * height) / fy, (height - cy + 0.15 * height) / fy) * z
    zero = torch.zeros_like(z)
    along_x = torch.stack([fx / z, skew / z, -(fx * x + skew * y) / (z * z)], 1)
    along_y = torch.stack([zero, fy / z, -fy * y / (z * z)], 1)
    u = (along_x[:, None, :] @ axes)[:, 0]
    v = (along_y[:, None, :] @ axes)[:, 0]
    return torch.stack([(u * u).sum(1) + LOW_PASS, (u * v).sum(1), (v * v).sum(1) + LOW_PASS], 1)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """(N, 3, 3) of unit quaternions (N, 4), w first."""
    import torch

    w, x, y, z = quaternions.unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
    ]
    return torch.stack(rows, 1)


_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
_C3 = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)


def colours(sh_dc: Tensor, sh_rest: Tensor, directions: Tensor) -> Tensor:
    """RGB seen along unit `directions`.

    Args:
        sh_dc: (N, 3).
        sh_rest: (N, K, 3), K in {0, 3, 8, 15}.
        directions: (N, 3), from the camera's centre to the Gaussian.

    Returns:
        (N, 3), 0 or more; above 1 is possible and is clamped in the image only.
    """
    result = SH_C0 * sh_dc + 0.5
    if sh_rest.shape[1]:
        result = result + (basis(directions, sh_rest.shape[1])[:, :, None] * sh_rest).sum(1)
    return result.clamp_min(0)


def basis(directions: Tensor, count: int) -> Tensor:
    """The first `count` basis functions after the constant one: (N, count)."""
    import torch

    x, y, z = directions.unbind(1)
    terms = [-_C1 * y, _C1 * z, -_C1 * x]
    if count > 3:
        xx, yy, zz = x * x, y * y, z * z
        xy, yz, xz = x * y, y * z, x * z
        terms += [_C2[0] * xy, _C2[1] * yz, _C2[2] * (2 * zz - xx - yy), _C2[3] * xz, _C2[4] * (xx - yy)]
    if count > 8:
        terms += [
            _C3[0] * y * (3 * xx - yy),
            _C3[1] * xy * z,
            _C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            _C3[4] * x * (4 * zz - xx - yy),
            _C3[5] * z * (xx - yy),
            _C3[6] * x * (xx - 3 * yy),
        ]
    return torch.stack(terms, 1)
