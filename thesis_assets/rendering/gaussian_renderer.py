"""A scene's Gaussians drawn at the target cameras: finds the PLY of a frame, keeps the last one, hands it to a rasteriser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.rendering.gaussian_tensors import GaussianTensors, to_tensors
from thesis_assets.rendering.gaussians import read_ply
from thesis_assets.rendering.renderer import MissingRender

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene_files import SceneFiles


class Rasteriser(Protocol):
    """Draws Gaussians that are already on its device."""

    @property
    def name(self) -> str:
        """See `Renderer.name`."""
        ...

    @property
    def version(self) -> str:
        """See `Renderer.version`."""
        ...

    @property
    def device(self) -> str:
        """See `Renderer.device`."""
        ...

    def draw(self, gaussians: GaussianTensors, cameras: Sequence[Camera]) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1]; all cameras have one image size."""
        ...


class GaussianRenderer:
    """Renders `gaussians/<fname>.ply`, or `gaussians/static.ply` where a frame has none of its own."""

    def __init__(self, scene: SceneFiles, rasteriser: Rasteriser) -> None:
        self._scene = scene
        self._rasteriser = rasteriser
        self._loaded: tuple[Path, GaussianTensors] | None = None

    @property
    def name(self) -> str:
        return self._rasteriser.name

    @property
    def version(self) -> str:
        return self._rasteriser.version

    @property
    def device(self) -> str:
        return self._rasteriser.device

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
