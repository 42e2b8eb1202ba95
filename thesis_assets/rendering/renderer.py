"""The one protocol of everything that makes imperfect views, its errors, and the renderer that reads what another pipeline wrote.

Does not belong here: the choice of a renderer (`choice`), drawing (`gaussian_renderer`), or which views are wanted (`samples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.codecs import SizeMismatch, read_rgb

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene import Scene


class MissingRender(ThesisAssetsError):
    """A view for which there is neither a render nor the Gaussians to make it."""


class RenderSizeMismatch(SizeMismatch):
    """A render of another size than its camera's image."""


class Renderer(Protocol):
    """Renders one frame of one scene from several cameras.

    Attributes:
        name: `precomputed`, `command`, `torch` or `gsplat`.
        version: what a change of pixels would change too: the program's name and version.
        device: where the rendered tensors lie.
    """

    name: str
    version: str
    device: str

    def render(self, fname: str, cameras: Sequence[Camera]) -> Tensor:
        """Render frame `fname` from each camera; all cameras of one call have one image size.

        Returns:
            (B, 3, H, W) float32 in [0, 1], on `device`, in the order of `cameras`.

        Raises:
            MissingRender: there is nothing to render from; samples of this frame are dropped, the scene goes on.
            RenderSizeMismatch: a stored render has another size than its camera.
            InvalidFile: what is there cannot be read.
        """
        ...


class PrecomputedRenderer:
    """Reads a scene's render tree; draws nothing."""

    name = "precomputed"
    version = "precomputed"

    def __init__(self, scene: Scene, device: str) -> None:
        self.device = device
        self._scene = scene

    def render(self, fname: str, cameras: Sequence[Camera]) -> Tensor:
        """See `Renderer.render`."""
        import torch

        images = np.stack([self._read(fname, camera) for camera in cameras])
        batch = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        return batch.float().div_(255)

    def _read(self, fname: str, camera: Camera) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        path = self._scene.render_path(camera.cam_id, fname)
        if path is None:
            raise MissingRender(
                f"no render of camera {camera.cam_id}, frame {fname}",
                file=self._scene.tree.render(camera.cam_id, fname),
                remedy="let the render pipeline write it; without it the sample is dropped",
            )
        image = read_rgb(path)
        if image.shape[:2] != (camera.height, camera.width):
            raise RenderSizeMismatch(
                f"the render of camera {camera.cam_id}, frame {fname} has another size than the camera's image",
                file=path,
                found=f"{image.shape[1]} x {image.shape[0]}",
                wanted=f"{camera.width} x {camera.height}",
                remedy="render at the size of the ground-truth image",
            )
        return image
