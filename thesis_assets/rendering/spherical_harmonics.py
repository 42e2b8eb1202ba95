"""View-dependent colour of 3D Gaussians: real spherical harmonics of degree 0 to 3.

Constants and signs are those of the 3DGS reference implementation (Kerbl et al. 2023), which follow Sloan, "Efficient
Spherical Harmonic Evaluation", JCGT 2013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thesis_assets.rendering.gaussians import SH_C0

if TYPE_CHECKING:
    from torch import Tensor

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
