"""3D Gaussians drawn with plain torch: EWA projection and front-to-back alpha compositing, tile by tile.

Follows "3D Gaussian Splatting" (Kerbl et al. 2023) and the projection of Zwicker et al., "EWA Splatting" (2002): a 0.3 pixel
low-pass on the projected covariance, alpha at most 0.99, contributions below 1/255 cut, a pixel closed at 1e-4 transmittance.
Pixel centres lie at +0.5. Same input, same pixels. Memory is bounded by one tile and one chunk of Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.rendering.spherical_harmonics import colours

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from thesis_assets.rendering.gaussians import Gaussians
    from thesis_assets.scenes.camera import Camera

REVISION = 1
"""Raised when a change here changes pixels."""
LOW_PASS = 0.3
"""Variance in square pixels added to every projected Gaussian."""
MAX_ALPHA = 0.99
MIN_ALPHA = 1 / 255
MIN_TRANSMITTANCE = 1e-4
NEAR = 0.01
"""Gaussians whose centre is nearer than this to the camera plane are not drawn, metres."""
TILE = 16
CHUNK = 1024
"""Gaussians composited at once in a tile: 1024 x 256 pixels are 1 MB an intermediate, which stays in the cache."""


@dataclass(frozen=True)
class GaussianTensors:
    """`Gaussians` activated, on a device, float32: scales in metres, opacities in [0, 1], unit quaternions."""

    means: Tensor
    sh_dc: Tensor
    sh_rest: Tensor
    opacities: Tensor
    scales: Tensor
    rotations: Tensor


@dataclass(frozen=True)
class _Splats:
    """The projected Gaussians that can touch the image, nearest first."""

    centres: Tensor  # (M, 2) pixels
    conics: Tensor  # (M, 3) a, b, c of the inverse covariance [[a, b], [b, c]]
    opacities: Tensor  # (M,)
    colours: Tensor  # (M, 3)
    reach: Tensor  # (M, 2) half extent in x and y beyond which alpha is below MIN_ALPHA, pixels


class TorchRasteriser:
    """The rasteriser for machines without CUDA."""

    name = "torch"
    device = "cpu"

    @property
    def version(self) -> str:
        import torch

        return f"torch rasteriser {REVISION}, torch {torch.__version__}"

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


def to_tensors(gaussians: Gaussians, device: str | torch.device = "cpu") -> GaussianTensors:
    """Activate the stored values and put them on `device`."""
    import torch

    def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
        return torch.from_numpy(np.array(array, np.float32)).to(device)

    return GaussianTensors(
        means=tensor(gaussians.means),
        sh_dc=tensor(gaussians.sh_dc),
        sh_rest=tensor(gaussians.sh_rest),
        opacities=torch.sigmoid(tensor(gaussians.opacity_logit)),
        scales=torch.exp(tensor(gaussians.log_scales)),
        rotations=torch.nn.functional.normalize(tensor(gaussians.rotations), dim=1),
    )


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
        splats = _project(gaussians, intrinsics.to(device).float(), extrinsics.to(device).float(), height, width)
        behind = torch.tensor(background, dtype=torch.float32, device=device)
        image = behind[:, None, None].expand(3, height, width).clone()
        x_range = torch.stack([splats.centres[:, 0] - splats.reach[:, 0], splats.centres[:, 0] + splats.reach[:, 0]])
        y_range = torch.stack([splats.centres[:, 1] - splats.reach[:, 1], splats.centres[:, 1] + splats.reach[:, 1]])
        for top in range(0, height, TILE):
            bottom = min(top + TILE, height)
            in_row = ((y_range[0] < bottom) & (y_range[1] > top)).nonzero()[:, 0]
            row_low, row_high = x_range[0][in_row], x_range[1][in_row]
            for left in range(0, width, TILE):
                right = min(left + TILE, width)
                touching = in_row[(row_low < right) & (row_high > left)]
                if len(touching):
                    tile = _composite(splats, touching, (top, bottom, left, right), behind)
                    image[:, top:bottom, left:right] = tile
        return image.clamp_(0, 1)


def _project(gaussians: GaussianTensors, intrinsics: Tensor, extrinsics: Tensor, height: int, width: int) -> _Splats:
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
    return _Splats(centres[visible], conics[visible], opacities[visible], rgb[visible], reach[visible])


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


def _composite(splats: _Splats, chosen: Tensor, tile: tuple[int, int, int, int], behind: Tensor) -> Tensor:
    """(3, h, w) of one tile from the Gaussians that touch it, nearest first."""
    import torch

    top, bottom, left, right = tile
    device = behind.device
    ys = torch.arange(top, bottom, device=device, dtype=torch.float32) + 0.5
    xs = torch.arange(left, right, device=device, dtype=torch.float32) + 0.5
    y, x = (grid.reshape(-1) for grid in torch.meshgrid(ys, xs, indexing="ij"))
    # `product` goes on falling behind a closed pixel, so that the pixel stays closed in the next chunk.
    product = torch.ones_like(x)
    covered = torch.zeros_like(x)
    colour = torch.zeros((3, len(x)), device=device)
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        centres, conics = splats.centres[part], splats.conics[part]
        dx, dy = x - centres[:, :1], y - centres[:, 1:]
        power = (conics[:, :1] * dx + 2 * conics[:, 1:2] * dy).mul_(dx).add_(conics[:, 2:] * dy * dy).mul_(-0.5)
        alpha = power.clamp_max_(0).exp_().mul_(splats.opacities[part, None]).clamp_max_(MAX_ALPHA)
        alpha *= alpha >= MIN_ALPHA
        after = torch.cumprod(1 - alpha, 0).mul_(product)
        before = torch.cat([product[None], after[:-1]])
        weights = alpha.mul_(before).mul_(after >= MIN_TRANSMITTANCE)
        colour += splats.colours[part].T @ weights
        covered += weights.sum(0)
        product = after[-1]
        if float(product.max()) < MIN_TRANSMITTANCE:
            break
    colour += behind[:, None] * (1 - covered)
    return colour.reshape(3, bottom - top, right - left)
