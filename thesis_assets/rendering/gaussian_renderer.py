"""A scene's Gaussians drawn at the target cameras: the PLY of a frame, the rasteriser that draws it, and which revision that is.

gsplat (Ye et al. 2025) draws on a CUDA device, with the limits of the plain torch rasteriser. It is imported only when a CUDA
renderer is made: the rest of the platform runs without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.errors import ThesisAssetsError, pip_install
from thesis_assets.rendering.gaussians import GaussianTensors, read_ply, to_tensors
from thesis_assets.rendering.renderer import MissingRender
from thesis_assets.rendering.torch_rasteriser import LOW_PASS, NEAR, TORCH_RASTERISER, TORCH_REVISION, TorchRasteriser

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene import Scene


class GaussianRenderer:
    """Renders `gaussians/<fname>.ply`, or `gaussians/static.ply` where a frame has none of its own."""

    def __init__(self, scene: Scene, rasteriser: TorchRasteriser | GsplatRasteriser) -> None:
        self._scene = scene
        self._rasteriser = rasteriser
        self.name, self.version, self.device = rasteriser.name, rasteriser.version, rasteriser.device
        self._loaded: tuple[Path, GaussianTensors] | None = None

    def render(self, fname: str, cameras: Sequence[Camera]) -> Tensor:
        """See `Renderer.render`."""
        sizes = {(camera.height, camera.width) for camera in cameras}
        if len(sizes) != 1:
            raise ThesisAssetsError(
                "the cameras of one render call have no one image size", found=sorted(sizes), wanted="one size"
            )
        return self._rasteriser.draw(self._gaussians(fname), cameras)

    def _gaussians(self, fname: str) -> GaussianTensors:
        path = self._ply(fname)
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = None  # the old ones are given back before the new ones are read
            self._loaded = (path, to_tensors(read_ply(path), self.device))
        return self._loaded[1]

    def _ply(self, fname: str) -> Path:
        path = self._scene.gaussians_path(fname)
        if path is None:
            folders = self._scene.tree.estimated
            raise MissingRender(
                f"no Gaussians for frame {fname}",
                file=folders.gaussians(fname),
                wanted=f"this file, or {folders.static_gaussians.name} beside it",
                remedy="let the 3DGS pipeline write it; without it the sample is dropped",
            )
        return path


_DEGREE_OF_COEFFICIENTS = {1: 0, 4: 1, 9: 2, 16: 3}


class GsplatRasteriser:
    """The rasteriser for CUDA devices.

    Args:
        device: `cuda` or `cuda:<number>`.

    Raises:
        ThesisAssetsError: torch has no CUDA here, or gsplat is not installed; both say what to do.
    """

    name = "gsplat"

    def __init__(self, device: str) -> None:
        self.device = device
        _check_cuda(device)
        self.version = f"gsplat {_gsplat_version()}"

    def draw(self, gaussians: GaussianTensors, cameras: Sequence[Camera]) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1], all cameras in one call."""
        import torch
        from gsplat import rasterization

        coefficients = torch.cat([gaussians.sh_dc[:, None], gaussians.sh_rest], 1)
        views = np.zeros((len(cameras), 4, 4), np.float32)
        views[:, 3, 3] = 1
        views[:, :3] = np.stack([camera.extrinsics for camera in cameras])
        intrinsics = np.stack([camera.intrinsics for camera in cameras]).astype(np.float32)
        with torch.no_grad():
            images, _, _ = rasterization(
                means=gaussians.means,
                quats=gaussians.rotations,
                scales=gaussians.scales,
                opacities=gaussians.opacities,
                colors=coefficients,
                viewmats=torch.from_numpy(views).to(self.device),
                Ks=torch.from_numpy(intrinsics).to(self.device),
                width=cameras[0].width,
                height=cameras[0].height,
                near_plane=NEAR,
                eps2d=LOW_PASS,
                sh_degree=_DEGREE_OF_COEFFICIENTS[coefficients.shape[1]],
            )
        drawn: Tensor = images.permute(0, 3, 1, 2).clamp(0, 1)
        return drawn


def _check_cuda(device: str) -> None:
    import torch

    if not device.startswith("cuda"):
        raise ThesisAssetsError("gsplat draws on CUDA only", key="device", found=device, wanted="cuda, or device cpu")
    if not torch.cuda.is_available():
        raise ThesisAssetsError(
            "there is no CUDA device to render on",
            key="device",
            found=f"{device}, torch {torch.__version__} without a usable CUDA device",
            wanted="cpu, or a machine with a GPU and a CUDA build of torch",
            remedy="set the device to `cpu` (the plain torch rasteriser), or render on a GPU machine",
        )


def _gsplat_version() -> str:
    try:
        import gsplat
    except ImportError as error:
        raise ThesisAssetsError(
            "rendering Gaussians on CUDA needs the gsplat library",
            key="generation.renders.source",
            found=f"gaussians on CUDA, and gsplat cannot be imported: {error}",
            wanted="gsplat >= 1.4",
            remedy=f"{pip_install(repr('thesis-assets[gpu]'))}, or set the device to `cpu` (the plain torch rasteriser)",
        ) from error
    return str(gsplat.__version__)


GSPLAT = "gsplat"


def rasteriser_on(device: str) -> str:
    """The rasteriser that draws Gaussians on a device."""
    return TORCH_RASTERISER if device == "cpu" else GSPLAT


def revision_of(rasteriser: str) -> str | None:
    """The revision that is here; None where there is none, or of an unknown name."""
    if rasteriser == TORCH_RASTERISER:
        return str(TORCH_REVISION)
    try:
        return metadata.version(GSPLAT) if rasteriser == GSPLAT else None
    except metadata.PackageNotFoundError:
        return None
