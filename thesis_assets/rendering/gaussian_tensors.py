"""3D Gaussians on a device, their stored values activated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from thesis_assets.rendering.gaussians import Gaussians


@dataclass(frozen=True)
class GaussianTensors:
    """`Gaussians` activated, on a device, float32: scales in metres, opacities in [0, 1], unit quaternions."""

    means: Tensor
    sh_dc: Tensor
    sh_rest: Tensor
    opacities: Tensor
    scales: Tensor
    rotations: Tensor


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
