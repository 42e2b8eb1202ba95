"""Renders that another pipeline wrote: `<renders_root>/<scene_name>/<cam_id>/<fname>.png`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.images.codecs import read_rgb
from thesis_assets.rendering.renderer import MissingRender, RenderSizeMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene_files import SceneFiles


class PrecomputedRenderer:
    """Reads a scene's render tree; draws nothing."""

    name = "precomputed"
    version = "precomputed"

    def __init__(self, scene: SceneFiles, device: str) -> None:
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
