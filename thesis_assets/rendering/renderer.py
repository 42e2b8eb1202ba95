"""The one protocol of everything that makes imperfect views, its errors, and the choice of a renderer for a scene.

Does not belong here: how a view is drawn or read (`precomputed`, `gaussian_renderer`), or which views are wanted (`samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thesis_assets.errors import InvalidScene, ThesisAssetsError
from thesis_assets.images.codecs import SizeMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.experiments.spec import Renders
    from thesis_assets.rendering.render_command import RenderCommand
    from thesis_assets.scenes.camera import Camera
    from thesis_assets.scenes.scene import Scene


class MissingRender(ThesisAssetsError):
    """A view for which there is neither a render nor the Gaussians to make it."""


class RenderSizeMismatch(SizeMismatch):
    """A render of another size than its camera's image."""


class Renderer(Protocol):
    """Renders one frame of one scene from several cameras."""

    @property
    def name(self) -> str:
        """`precomputed`, `command`, `torch` or `gsplat`."""
        ...

    @property
    def version(self) -> str:
        """What a change of pixels would change too: the program's name and version."""
        ...

    @property
    def device(self) -> str:
        """Where the rendered tensors lie."""
        ...

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


def make_renderer(
    renders: Renders,
    scene: Scene,
    *,
    device: str,
    command: RenderCommand | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Renderer:
    """The renderer that an experiment's `generation.renders` names, for one scene.

    Args:
        device: `cpu` or `cuda`: where renders are drawn (`gaussians`) or put (`precomputed`, `command`).
        command: needed for the source `command`; run first where its renders are not there already.
        on_progress: called with a short line every few seconds while the command runs.

    Raises:
        InvalidScene: the scene has no folder of renders, or of Gaussians.
        RenderCommandFailed: the command ended with an error.
        CellLocked: another process runs a command for the scene.
        ThesisAssetsError: `cuda` is asked for where CUDA or gsplat is missing.
    """
    if renders.source == "precomputed":
        from thesis_assets.rendering.precomputed import PrecomputedRenderer

        _check_folder(scene.tree.renders_dir, scene.name, "renders", "<renders_root>/<scene_name>/<cam_id>/<fname>.png")
        return PrecomputedRenderer(scene, device)
    if renders.source == "gaussians":
        folder = scene.tree.estimated.gaussians_dir
        _check_folder(folder, scene.name, "Gaussians", "gaussians/<fname>.ply or gaussians/static.ply")
        return _gaussian_renderer(scene, device)
    from thesis_assets.rendering.command_renders import renderer_by_command

    if command is None:
        raise ThesisAssetsError(
            "renders by a command need the experiment that they are made for",
            key="generation.renders.source",
            found=renders.source,
            wanted="the scene's command, filled in",
            remedy="export the scene's samples: `thesis-assets run --until scene_samples`",
        )
    return renderer_by_command(command, device=device, on_progress=on_progress)


def _gaussian_renderer(scene: Scene, device: str) -> Renderer:
    from thesis_assets.rendering.gaussian_renderer import GaussianRenderer

    if device == "cpu":
        from thesis_assets.rendering.torch_rasteriser import TorchRasteriser

        return GaussianRenderer(scene, TorchRasteriser())
    from thesis_assets.rendering.gsplat_rasteriser import GsplatRasteriser

    return GaussianRenderer(scene, GsplatRasteriser(device))


def _check_folder(folder: Path, scene_name: str, what: str, wanted: str) -> None:
    if not folder.is_dir():
        raise InvalidScene(
            f"the scene {scene_name} has no {what}",
            file=folder,
            found="no such directory",
            wanted=wanted,
            remedy="put them there, or name another `generation.renders.source` in the experiment",
        )
