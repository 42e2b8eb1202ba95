"""The choice of a renderer for a scene, by what an experiment's `generation.renders` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from thesis_assets.errors import InvalidScene, ThesisAssetsError
from thesis_assets.experiments.spec import Renders
from thesis_assets.rendering.command_renders import RenderCommand, renderer_by_command
from thesis_assets.rendering.gaussian_renderer import GaussianRenderer, GsplatRasteriser
from thesis_assets.rendering.renderer import PrecomputedRenderer, Renderer
from thesis_assets.rendering.torch_rasteriser import TorchRasteriser
from thesis_assets.scenes.scene import Scene


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
        recipe = f" of the recipe {scene.tree.recipe}" if scene.tree.recipe else ""
        wanted = f"<renders_root>/<scene_name>/{'<recipe>/' if recipe else ''}<cam_id>/<fname>.png"
        _check_folder(scene.tree.renders_dir, scene.name, f"renders{recipe}", wanted)
        return PrecomputedRenderer(scene, device)
    if renders.source == "gaussians":
        folder = scene.tree.estimated.gaussians_dir
        _check_folder(folder, scene.name, "Gaussians", "gaussians/<fname>.ply or gaussians/static.ply")
        return GaussianRenderer(scene, TorchRasteriser() if device == "cpu" else GsplatRasteriser(device))
    if command is None:
        raise ThesisAssetsError(
            "renders by a command need the experiment that they are made for",
            key="generation.renders.source",
            found=renders.source,
            wanted="the scene's command, filled in",
            remedy="export the scene's samples: `thesis-assets run --until scene_samples`",
        )
    return renderer_by_command(command, device=device, on_progress=on_progress)


def _check_folder(folder: Path, scene_name: str, what: str, wanted: str) -> None:
    if not folder.is_dir():
        raise InvalidScene(
            f"the scene {scene_name} has no {what}",
            file=folder,
            found="no such directory",
            wanted=wanted,
            remedy="put them there, or name another `generation.renders.source` in the experiment",
        )
