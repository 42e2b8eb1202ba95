"""The renderer of one scene of one experiment: where a command renders, it is told the scene's cameras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import DifixTree
from thesis_assets.samples.plan import source_camera, target_cameras

if TYPE_CHECKING:
    from thesis_assets.rendering.command_renders import RenderCommand
    from thesis_assets.rendering.renderer import Renderer
    from thesis_assets.scenes.scene import Scene


def scene_renderer(
    tree: DifixTree,
    scene: Scene,
    generation: GenerationSpec,
    *,
    device: str,
    on_progress: Callable[[str], None] | None = None,
) -> Renderer:
    """The renderer that `generation.renders` names. Of the source `command`: runs it where its renders are not there already.

    Raises:
        As `rendering.choice.make_renderer`, and as the choice of cameras (`plan.source_camera`, `plan.target_cameras`).
    """
    from thesis_assets.rendering.choice import make_renderer

    command = _command(tree, scene, generation) if generation.renders.source == "command" else None
    return make_renderer(generation.renders, scene, device=device, command=command, on_progress=on_progress)


def _command(tree: DifixTree, scene: Scene, generation: GenerationSpec) -> RenderCommand:
    from thesis_assets.rendering.command_renders import RenderCommand

    source = source_camera(scene, generation)
    targets = tuple(target_cameras(scene, generation, source))
    return RenderCommand(tree, scene, generation, source, targets)
