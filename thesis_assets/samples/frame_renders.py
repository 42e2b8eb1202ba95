"""The renders of one frame at its target cameras, where one that fails costs only its own sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, InvalidScene, ThesisAssetsError
from thesis_assets.rendering.renderer import MissingRender, Renderer, RenderSizeMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene import Scene


def render_frame(
    renderer: Renderer, scene: Scene, fname: str, cam_ids: Sequence[int]
) -> dict[int, Tensor | ThesisAssetsError]:
    """Render a frame at several cameras: one call a size where all goes well, else one a camera.

    Returns:
        By camera: (3, H, W) float in [0, 1] on the renderer's device, or the error that drops its sample.
    """
    outcomes: dict[int, Tensor | ThesisAssetsError] = {}
    by_size: dict[tuple[int, int], list[Camera]] = {}
    for cam_id in cam_ids:
        try:
            camera = scene.camera(cam_id, fname)
        except (InvalidFile, InvalidScene) as error:
            outcomes[cam_id] = error
        else:
            by_size.setdefault((camera.height, camera.width), []).append(camera)
    for cameras in by_size.values():
        outcomes |= _render_together(renderer, fname, cameras)
    return outcomes


def _render_together(
    renderer: Renderer, fname: str, cameras: Sequence[Camera]
) -> dict[int, Tensor | ThesisAssetsError]:
    try:
        images = renderer.render(fname, cameras)
    except (MissingRender, RenderSizeMismatch, InvalidFile, InvalidScene) as error:
        if len(cameras) == 1:
            return {cameras[0].cam_id: error}
        alone = [_render_together(renderer, fname, [camera]) for camera in cameras]
        return {cam_id: outcome for outcomes in alone for cam_id, outcome in outcomes.items()}
    return {camera.cam_id: image for camera, image in zip(cameras, images, strict=True)}
