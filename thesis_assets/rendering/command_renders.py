"""Renders that the user's own command makes, once a scene: its words, when it runs, what its failure says, and reading what it left.

The command fills `<renders_root>/<scene_name>/<cam_id>/<fname>.png`, and ends with a made-from record beside the renders. It
runs again where the record is stale, where it did not end well, or where a render that it had made is gone or damaged; a render
that it left out when it ended well is a dropped sample, not a reason to run it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets import storage
from thesis_assets.errors import InvalidScene, ThesisAssetsError
from thesis_assets.experiments.command_template import fill_template, in_environment, placeholders
from thesis_assets.experiments.recipes import RecipeRenders
from thesis_assets.launch.child_environment import hydra_run_folder
from thesis_assets.launch.commands import end_running, run_command
from thesis_assets.launch.jobs import JobState, log_tail
from thesis_assets.launch.supervisors import watched
from thesis_assets.launch.telling import every
from thesis_assets.layout import CommandTree
from thesis_assets.provenance import CODE_VERSIONS, Contents, Making, Older, Place, Unit, Wanted, begin, take_over
from thesis_assets.rendering.renderer import PrecomputedRenderer
from thesis_assets.scenes.listing import list_frames, list_numbers, scene_files
from thesis_assets.scenes.scene import Scene, open_scene
from thesis_assets.schemas.scenes import RenderRecord
from thesis_assets.schemas.tuning import JobRecord

if TYPE_CHECKING:
    from torch import Tensor

    from thesis_assets.experiments.spec import GenerationSpec
    from thesis_assets.layout import DifixTree
    from thesis_assets.scenes.camera import Camera


_REPORT_SECONDS = 5.0
LONGEST_WORD = 128 * 1024 - 1
"""Of a command, bytes, on Linux: some 18,000 frames."""


@dataclass(frozen=True)
class Told:
    """What the command is told of a recipe, whose renders lie in a folder of their own.

    Attributes:
        train_cameras, train_frames: what the 3D model is to be trained from, in numeric order; the template gets them with commas
            between.
    """

    renders: RecipeRenders
    train_cameras: tuple[int, ...]
    train_frames: tuple[str, ...]

    def fields(self) -> dict[str, str]:
        """By placeholder."""
        iterations = self.renders.iterations
        return {
            "recipe": self.renders.recipe.name,
            "iterations": "" if iterations is None else str(iterations),
            "train_cameras": ",".join(map(str, self.train_cameras)),
            "train_frames": ",".join(self.train_frames),
        }


@dataclass(frozen=True)
class RenderCommand:
    """One scene's command with everything that stands in its template.

    Attributes:
        tree: of the experiment: its name, and where the logs go.
        generation: with renders of source `command`.
        target_cameras: in numeric order; the template gets them with commas between them, `4,28,40`.
        told: of the recipe that it renders; None without recipes.
    """

    tree: DifixTree
    scene: Scene
    generation: GenerationSpec
    source_camera: int
    target_cameras: tuple[int, ...]
    told: Told | None = None

    @property
    def logs(self) -> CommandTree:
        """Where it says what it does."""
        return self.tree.render_command(self.scene.name, self.scene.tree.recipe)

    @property
    def title(self) -> str:
        """As it is told of."""
        recipe = self.scene.tree.recipe
        return f"{self.scene.name}, recipe {recipe}" if recipe else self.scene.name

    def words(self) -> list[str]:
        """What is executed: a word of the template stays one word, whatever is filled in."""
        exp_name, renders = self.tree.exp_name, self.generation.renders
        hydra = hydra_run_folder(self.logs, renders.env, exp_name, None, self.scene.name)
        filled = fill_template(
            self._template,
            {
                "scene_name": self.scene.name,
                "source_camera": str(self.source_camera),
                "target_cameras": ",".join(map(str, self.target_cameras)),
                "render_dir": str(self.scene.tree.renders_dir.absolute()),
                "exp_name": exp_name,
                "hydra_run_dir": str(hydra / self.scene.tree.recipe),
                **({} if self.told is None else self.told.fields()),
            },
        )
        return in_environment(filled, renders)

    def unit(self) -> Unit:
        """The scene's renders, as this command makes them: all experiments share them, and each option counts."""
        scene, section = self.scene, self.generation.model_dump(mode="json")
        options: dict[str, Any] = {
            "generation": {key: section[key] for key in ("renders", "source_camera", "target_cameras")}
        }
        used = placeholders(self._template)
        if "exp_name" in used:
            options["exp_name"] = self.tree.exp_name
        if self.told is not None:  # not the share: which samples there are is not the command's
            options["recipe"] = {name: each for name, each in self.told.fields().items() if name in used}
        wanted = Wanted(
            step="command_renders",
            code_version=CODE_VERSIONS["command_renders"],
            options=options,
            files=scene_files(scene.tree, scene.roots, "command"),
            of_outputs=True,
        )
        place = Place(scene.tree.renders_dir, scene.tree.renders_made_from)
        return Unit(f"renders of {self.title}", place, wanted, self._older)

    def _older(self) -> Older | None:
        """Renders that this command made under a version that wrote no record of them."""
        record = _read_record(self.scene)
        if record is None or not record.finished or record.identity or record.command != self.words():
            return None
        return Older(self.made())

    def made(self) -> list[Path]:
        """The renders that are there now, in the folders of the target cameras."""
        return [path for cam_id in self.target_cameras for path in _renders(self.scene, cam_id)]

    @property
    def _template(self) -> str:
        command = self.generation.renders.command
        assert command is not None, "the source `command` has a command"
        return command


class RenderCommandFailed(ThesisAssetsError):
    """The user's render command ended with an error, or without a render."""


class CommandRenderer(PrecomputedRenderer):
    """Reads the renders of one run of a command; notices when another run writes over them."""

    name = "command"
    version = "command"

    def __init__(self, scene: Scene, device: str) -> None:
        super().__init__(scene, device)
        self._record = scene.tree.render_record
        self._written = self._record.read_bytes()

    def render(self, fname: str, cameras: Sequence[Camera]) -> Tensor:
        """See `Renderer.render`.

        Raises:
            ThesisAssetsError: the renders are being made anew, by another command or for changed files.
        """
        batch = super().render(fname, cameras)
        if not self._record.exists() or self._record.read_bytes() != self._written:
            raise ThesisAssetsError(
                "another experiment's command has written over the renders of the scene while they were read",
                file=self._record,
                remedy="let it end, then start this export again: its own command runs again first",
            )
        return batch


def renderer_by_command(
    command: RenderCommand, *, device: str, on_progress: Callable[[str], None] | None = None
) -> CommandRenderer:
    """Run the command where its renders are not there already, and read them.

    Raises:
        RenderCommandFailed: it ended with an error; the message has the end of its stderr.
        CellLocked: another process renders the scene.
        InvalidScene: the folder has renders that no command of the platform made.
    """
    scene = command.scene
    with storage.cell_lock(scene.tree.renders_lock, f"the renders of {scene.name}"):
        contents, unit = Contents(), command.unit()
        making = begin(unit, contents)
        if not _are_made(command, unit, making, contents):
            _make(command, making, on_progress)
        # Opened anew: the scene at hand may have listed the folder before.
        return CommandRenderer(open_scene(scene.roots, scene.name, recipe=scene.tree.recipe), device)


def _are_made(command: RenderCommand, unit: Unit, making: Making, contents: Contents) -> bool:
    """Whether the renders are as this command would make them, all that it gave. Ends a command whose starter is gone.

    Takes away what must not be there when it runs: another command's renders, and damaged ones.
    """
    scene = command.scene
    started = _read_record(scene)
    if started is None:
        _refuse_renders_of_unknown_origin(scene)
        return False
    if not started.finished and Path(started.job).is_file():
        end_running(storage.read_json(Path(started.job), JobRecord))
    take_over(unit, contents)
    verdict = unit.look(contents)
    if started.finished and verdict.is_made:
        return True
    if verdict.is_stale or (verdict.record is None and started.identity != making.identity):
        _remove_renders(scene)
    for name in verdict.damaged:
        (unit.place.base / name).unlink(missing_ok=True)
    return False


def _read_record(scene: Scene) -> RenderRecord | None:
    path = scene.tree.render_record
    return storage.read_json(path, RenderRecord) if path.exists() else None


def _refuse_renders_of_unknown_origin(scene: Scene) -> None:
    for cam_id in list_numbers(scene.tree.renders_dir):
        if frames := _renders(scene, cam_id):
            raise InvalidScene(
                f"the scene {scene.name} has renders that no command of an experiment made",
                file=scene.tree.renders_dir / str(cam_id),
                found=f"{len(frames)} images, and no {scene.tree.render_record.name} beside them",
                wanted="an empty folder for the command to fill",
                remedy="use them (`generation.renders.source: precomputed`), or move the folder away",
            )


def _remove_renders(scene: Scene) -> None:
    """Take away another command's renders, and their record: what this one does not write must be missing, not theirs."""
    scene.tree.renders_made_from.unlink(missing_ok=True)
    for cam_id in list_numbers(scene.tree.renders_dir):
        for path in _renders(scene, cam_id):
            path.unlink()


def _renders(scene: Scene, cam_id: int) -> list[Path]:
    """Looked up anew: the scene's own listing is kept from the first question on."""
    return list(list_frames(scene.tree.renders_dir / str(cam_id), (".png",), scene.roots).paths.values())


def _refuse_long_words(command: RenderCommand, words: Sequence[str]) -> None:
    longest = max(len(word.encode()) for word in words)
    if longest > LONGEST_WORD:
        raise RenderCommandFailed(
            f"the render command of {command.title} has a word that is longer than the system hands over",
            key="generation.renders.command",
            found=f"{longest} bytes",
            wanted=f"at most {LONGEST_WORD}",
            remedy="leave out {train_frames}, and let your script count the frames: it can be told the recipe by {recipe}",
        )


def _make(command: RenderCommand, making: Making, on_progress: Callable[[str], None] | None) -> None:
    scene, tree, renders = command.scene, command.tree, command.generation.renders
    logs, words = command.logs, command.words()
    _refuse_long_words(command, words)
    job = str(logs.job.absolute())
    record = RenderRecord(identity=making.identity, command=words, exp_name=tree.exp_name, finished=False, job=job)
    # Before the first render: what a killed command left is known as its own.
    storage.write_json(scene.tree.render_record, record)
    stderr_start = logs.stderr.stat().st_size if logs.stderr.is_file() else 0
    returncode = run_command(
        watched(words),
        stdout=logs.stdout,
        stderr=logs.stderr,
        job=logs.job,
        cwd=Path(renders.cwd).expanduser() if renders.cwd is not None else None,
        env=renders.env,
        poll=_reporter(command, on_progress),
    )
    if returncode != 0:
        tail = log_tail(logs.stderr, start=stderr_start)
        raise RenderCommandFailed(
            f"the render command of {command.title} ended {JobState('ended', returncode).how}",
            file=logs.stderr,
            found="\n" + tail if tail else "nothing on its stderr",
            remedy="correct its cause, then start again: finished scenes are kept, and the command finds what it had written",
        )
    made = command.made()
    if not made:
        raise RenderCommandFailed(
            f"the render command of {command.title} ended well, and left no render",
            file=scene.tree.renders_dir,
            found="no image of cameras " + ", ".join(map(str, command.target_cameras)),
            wanted="<cam_id>/<frame>.png, such as "
            + str(scene.tree.render(command.target_cameras[0], "000000").relative_to(scene.tree.renders_dir)),
            remedy="let the command write below {render_dir}",
        )
    making.finish(made)
    storage.write_json(scene.tree.render_record, record.model_copy(update={"finished": True}))


def _reporter(command: RenderCommand, on_progress: Callable[[str], None] | None) -> Callable[[], None] | None:
    """Says every few seconds how many images there are and how long it took."""

    def line(seconds: float) -> str:
        return f"{command.title}: the render command runs for {seconds:.0f} s, {len(command.made())} renders are there"

    return every(_REPORT_SECONDS, on_progress, line) if on_progress is not None else None
