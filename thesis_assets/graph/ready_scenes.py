"""Which scenes are complete for an experiment, so that a scene that is still being copied is waited for.

An answer is kept with the stamp of the scene's folders: a scene that stays as it is costs a listing of its folders a tick.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.scenes.listing import folder_stamp, newest_change, upstream_completeness

DECLARED_REST_SHARE = 0.25
"""Of the quiet time: a scene that says itself that it is finished must have rested so long. The file that says so may be
copied before the images are."""


def vanished_scenes(platform: Platform, made: set[str], spec: ExperimentSpec) -> list[str]:
    """Scenes that an experiment has shards of and does not declare any more: taken out of its file, or gone from disk.

    Nothing shrinks a snapshot by itself: an unmounted file system looks like scenes that were removed.

    Args:
        made: keys of the shards that were ever made.
    """
    declared = set(platform.scene_names(spec))
    cells = [Cell.parse("exp_by_scene", key) for key in made if key.startswith(f"{spec.exp_name}|")]
    return sorted(cell.scene_name for cell in cells if cell.scene_name not in declared)


def unfinished_scenes(platform: Platform, spec: ExperimentSpec, scene_names: Iterable[str]) -> dict[str, str]:
    """Scenes that an experiment's globs match and of which a part is plainly still to come, with what: who starts the export
    by hand does not wait until folders have rested. A scene that the file names is taken as it is.
    """
    from thesis_assets.scenes.catalog import describe_scene

    found = {}
    for name in scene_names:
        if name in spec.generation.scenes:
            continue
        summary = describe_scene(
            platform.roots,
            name,
            source_camera=_named_camera(spec),
            render_source=spec.generation.renders.source,
            recipes=_recipes(spec),
            quiet_s=0.0,
        )
        if summary.problem is None and not summary.completeness.complete:
            found[name] = summary.completeness.reason
        elif summary.problem is None and not summary.completeness.declared and summary.gaps:
            found[name] = "; ".join(summary.gaps)
    return found


def _named_camera(spec: ExperimentSpec) -> int | None:
    """The source camera that the file names; None where each scene's registry entry does."""
    camera = spec.generation.source_camera
    return None if camera == "registry" else camera


def _recipes(spec: ExperimentSpec) -> tuple[str, ...]:
    """The folders of its recipes' renders; the empty one without recipes."""
    return tuple(renders.folder for renders in spec.generation.recipe_renders()) or ("",)


def _question(spec: ExperimentSpec, scene_name: str) -> str:
    question = f"{scene_name} {_named_camera(spec)} {spec.generation.renders.source}"
    return " ".join([question, *filter(None, _recipes(spec))])


@dataclass
class ReadyScenes:
    """Answers by (scene, source camera, render source); `known` survives as a sensor's cursor."""

    platform: Platform
    now: float
    known: dict[str, list[str]] = field(default_factory=dict)
    """Question to [stamp of the folders, why not ready or empty]."""
    asked: set[str] = field(default_factory=set)
    _answers: dict[str, str | None] = field(default_factory=dict)
    """Of this look: many experiments ask about one scene."""

    def why_not(self, spec: ExperimentSpec, scene_name: str) -> str | None:
        """What a scene still waits for; None where it is complete for the experiment's export."""
        question = _question(spec, scene_name)
        if question not in self._answers:
            self._answers[question] = self._looked_at(spec, scene_name)
        return self._answers[question]

    def _looked_at(self, spec: ExperimentSpec, scene_name: str) -> str | None:
        try:
            return self._still_arriving(scene_name) or self._described(spec, scene_name) or None
        except FileNotFoundError as error:
            return f"its folders change while they are looked at ({error.filename})"
        except ThesisAssetsError as error:
            return str(error)

    def _still_arriving(self, scene_name: str) -> str | None:
        tree = self.platform.roots.tree(scene_name)
        quiet_s = float(self.platform.settings.quiet_seconds)
        upstream = upstream_completeness(tree, self.platform.roots, quiet_s=quiet_s, now=self.now)
        if not upstream.complete:
            return upstream.reason
        rest = self.now - newest_change(tree)
        wanted_s = quiet_s * DECLARED_REST_SHARE
        if upstream.declared and rest < wanted_s:
            return f"it changed {max(rest, 0.0):.0f} s ago: it is taken once it has rested for {wanted_s:.0f} s"
        return None

    def _described(self, spec: ExperimentSpec, scene_name: str) -> str:
        from thesis_assets.scenes.catalog import describe_scene

        question = _question(spec, scene_name)
        stamp = folder_stamp(self.platform.roots.tree(scene_name))
        self.asked.add(question)
        if self.known.get(question, [""])[0] != stamp:
            summary = describe_scene(
                self.platform.roots,
                scene_name,
                source_camera=_named_camera(spec),
                render_source=spec.generation.renders.source,
                recipes=_recipes(spec),
                quiet_s=float(self.platform.settings.quiet_seconds),
                now=self.now,
            )
            missing = [f"it lacks {what}" for what in summary.missing.get("export", ())]
            lacks = [*missing, *([] if summary.completeness.declared else summary.gaps)]
            why = "" if summary.complete else "; ".join(filter(None, [summary.problem, *lacks])) or "not complete"
            self.known[question] = [stamp, why]
        return self.known[question][1]

    def kept(self) -> dict[str, list[str]]:
        """The answers to what was asked this time: the others are of scenes that are done."""
        return {question: answer for question, answer in self.known.items() if question in self.asked}
