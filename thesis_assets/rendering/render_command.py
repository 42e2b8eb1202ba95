"""The user's own render command for one scene: its words, its environment, and the digest by which its renders are current."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.experiments.command_template import fill_template, in_environment

if TYPE_CHECKING:
    from thesis_assets.experiments.generation import Renders
    from thesis_assets.layout import DifixTree
    from thesis_assets.scenes.scene import Scene

_DIGEST_VERSION = 1


@dataclass(frozen=True)
class RenderCommand:
    """One scene's command with everything that stands in its template.

    Attributes:
        tree: of the experiment: its name, and where the logs go.
        renders: of source `command`.
        target_cameras: in numeric order; the template gets them with commas between them, `4,28,40`.
    """

    tree: DifixTree
    scene: Scene
    renders: Renders
    source_camera: int
    target_cameras: tuple[int, ...]

    def words(self) -> list[str]:
        """What is executed: a word of the template stays one word, whatever is filled in."""
        return in_environment(self._filled(str(self.scene.tree.renders_dir.absolute())), self.renders)

    @property
    def cwd(self) -> Path | None:
        """None: where the platform runs."""
        return Path(self.renders.cwd).expanduser() if self.renders.cwd is not None else None

    def digest(self) -> str:
        """Of the command line, its environment and the scene's files; not of where the renders lie."""
        return storage.sha256_value(
            {
                "version": _DIGEST_VERSION,
                "command": self._filled("{render_dir}"),
                "environment": self.renders.model_dump(mode="json", include={"python", "setup", "cwd", "env"}),
                # Also where the template does not tell the command: it may look them up itself.
                "cameras": [self.source_camera, *self.target_cameras],
                "scene": self.scene.scene_stamp("command"),
            }
        )

    @property
    def _template(self) -> str:
        assert self.renders.command is not None, "the source `command` has a command"
        return self.renders.command

    def _filled(self, render_dir: str) -> list[str]:
        return fill_template(
            self._template,
            {
                "scene_name": self.scene.name,
                "source_camera": str(self.source_camera),
                "target_cameras": ",".join(map(str, self.target_cameras)),
                "render_dir": render_dir,
                "exp_name": self.tree.exp_name,
            },
        )
