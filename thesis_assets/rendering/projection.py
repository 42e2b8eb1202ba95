"""Where 3D Gaussians fall in an image: their EWA projection and the colours they show.

Zwicker et al., "EWA Splatting" (2002), with the choices of "3D Gaussian Splatting" (Kerbl et al. 2023): a 0.3 pixel low-pass on
the projected covariance, pixel centres at +0.5, nothing below an alpha of 1/255.
Does not belong here: compositing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thesis_assets.rendering.spherical_harmonics import colours

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.rendering.gaussian_tensors import GaussianTensors

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
