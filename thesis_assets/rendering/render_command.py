"""The user's own render command for one scene: its words, its environment, and what its renders are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets import storage
from thesis_assets.experiments.command_template import fill_template, in_environment, placeholders
from thesis_assets.provenance import Older, Place, Unit, Wanted
from thesis_assets.scenes.listing import list_frames
from thesis_assets.scenes.stamps import scene_files
from thesis_assets.schemas.renders import RenderRecord

if TYPE_CHECKING:
    from thesis_assets.experiments.spec import GenerationSpec, Renders
    from thesis_assets.layout import DifixTree
    from thesis_assets.scenes.scene import Scene

RENDERS_VERSION = "1"


@dataclass(frozen=True)
class RenderCommand:
    """One scene's command with everything that stands in its template.

    Attributes:
        tree: of the experiment: its name, and where the logs go.
        generation: with renders of source `command`.
        target_cameras: in numeric order; the template gets them with commas between them, `4,28,40`.
    """

    tree: DifixTree
    scene: Scene
    generation: GenerationSpec
    source_camera: int
    target_cameras: tuple[int, ...]

    def words(self) -> list[str]:
        """What is executed: a word of the template stays one word, whatever is filled in."""
        return in_environment(self._filled(str(self.scene.tree.renders_dir.absolute())), self.renders)

    @property
    def cwd(self) -> Path | None:
        """None: where the platform runs."""
        return Path(self.renders.cwd).expanduser() if self.renders.cwd is not None else None

    def unit(self) -> Unit:
        """The scene's renders, as this command makes them: all experiments share them, and each option counts."""
        scene, section = self.scene, self.generation.model_dump(mode="json")
        options: dict[str, Any] = {
            "generation": {key: section[key] for key in ("renders", "source_camera", "target_cameras")}
        }
        if "exp_name" in placeholders(self._template):
            options["exp_name"] = self.tree.exp_name
        wanted = Wanted(
            step="command_renders",
            code_version=RENDERS_VERSION,
            options=options,
            files=scene_files(scene.tree, scene.roots, "command"),
            of_outputs=True,
        )
        place = Place(scene.tree.renders_dir, scene.tree.renders_made_from)
        return Unit(f"renders of {scene.name}", place, wanted, self._older)

    def _older(self) -> Older | None:
        """Renders that this command made under a version that wrote no record of them."""
        path = self.scene.tree.render_record
        if not path.is_file():
            return None
        record = storage.read_json(path, RenderRecord)
        if not record.finished or record.identity or record.command != self.words():
            return None
        return Older(self.made())

    def made(self) -> list[Path]:
        """The renders that are there now, in the folders of the target cameras."""
        folders = [self.scene.tree.renders_dir / str(cam_id) for cam_id in self.target_cameras]
        return [path for folder in folders for path in list_frames(folder, (".png",), self.scene.roots).paths.values()]

    @property
    def renders(self) -> Renders:
        return self.generation.renders

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
