"""Scenes that came after an experiment was frozen: forked where its file says `auto_fork`, else the command is named.

Does not belong here: scenes of open experiments, which simply take them.
"""

import contextlib
from dataclasses import dataclass

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments.writing import fork_experiment, successor_name
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes


@dataclass(frozen=True)
class LateScenes:
    """The scenes that a frozen experiment does not take, and the fork that would."""

    exp_name: str
    scenes: list[str]
    fork: str
    by_itself: bool
    """Its file says `auto_fork: true`."""

    @property
    def command(self) -> str:
        return f"thesis-assets fork --exp {self.exp_name} --as {self.fork}"


def late_scenes(platform: Platform, ready: ReadyScenes) -> list[LateScenes]:
    """Every frozen experiment with scenes that came later and that no other experiment of the same data sections takes.

    Files that cannot be read are left out: registering names them. So are scenes that are not complete yet.
    """
    specs = {spec.exp_name: spec for spec in platform.readable_experiments()}
    found = []
    for name, spec in specs.items():
        try:
            late = platform.late_scenes(spec)
        except ThesisAssetsError:
            continue
        if not late:
            continue
        taken: set[str] = set()
        for other, second in specs.items():
            if other != name and (second.generation, second.split) == (spec.generation, spec.split):
                with contextlib.suppress(ThesisAssetsError):
                    taken.update(platform.scene_names(second))
        waiting = [scene for scene in late if scene not in taken and ready.why_not(spec, scene) is None]
        fork = successor_name(name)
        if waiting and not platform.experiments.path(fork).exists():
            found.append(LateScenes(name, waiting, fork, spec.generation.auto_fork))
    return found


def fork_for_late_scenes(platform: Platform, ready: ReadyScenes) -> list[LateScenes]:
    """Write the forks of experiments with `auto_fork`; one fork serves all that differ in nothing but their name and runs.

    Raises:
        InvalidExperiment: the file of a fork appeared meanwhile.
    """
    made = []
    while waiting := [late for late in late_scenes(platform, ready) if late.by_itself]:
        fork_experiment(platform.experiments.path(waiting[0].exp_name), waiting[0].fork)
        made.append(waiting[0])
    return made
