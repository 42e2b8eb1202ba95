"""What the trees of evaluated runs do not tell of their numbers: who was trained on, what is damaged or moved, what is the control.

Does not belong here: which numbers count (`evaluation.measured_tasks`), any mean.
"""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.layout import EvaluationTree, dataset_of

if TYPE_CHECKING:
    from thesis_assets.evaluation.measured_tasks import SceneFacts, TaskState
    from thesis_assets.reports.leaderboard import Baselines


def damaged_scenes(platform: Platform, names: Collection[str]) -> set[str]:
    """Those of some evaluated scenes, `<exp>/<run>/<scene>`, that are damaged now: their tables are read."""
    from thesis_assets.evaluation.measured_tasks import measured_run

    look, found = OneLook.of(platform), set()
    runs = {tuple(name.split("/")[:2]) for name in names}
    for cell in look.run_cells():
        run = (cell.exp_name, cell.run_name)
        if run in runs:
            scenes = look.evaluated_scenes(cell, and_lost=True).items()
            trees = {scene: tree for scene, tree in scenes if "/".join((*run, scene)) in names}
            facts = {tree.base: of_scene for tree, of_scene in _facts_of(look, cell, trees, leaks=False)}
            tasks = measured_run(run, list(trees.values()), facts).tasks.values()
            found |= {
                "/".join((*run, scene)) for of_scenes in tasks for scene, each in of_scenes.items() if each.damaged
            }
    return found


def baselines_of(platform: Platform) -> "Baselines":
    """What the experiments' files say that their runs are compared with."""
    from thesis_assets.reports.leaderboard import Baselines

    return Baselines(platform.baselines(), platform.controls())


def scene_facts(platform: Platform, cells: Sequence[Cell]) -> "dict[Path, SceneFacts]":
    """Of every evaluated scene of some runs, by the base of its tree."""
    look = platform if isinstance(platform, OneLook) else OneLook.of(platform)
    return {
        tree.base: facts
        for cell in cells
        if (trees := look.evaluated_scenes(cell, and_lost=True))
        for tree, facts in _facts_of(look, cell, trees)
    }


def _leak(look: Platform, exp_name: str) -> str:
    """What stands on both sides of an experiment's data, and the command that names it all; empty: nothing."""
    from thesis_assets.reports.leaderboard_tables import LEAKED_PEOPLE

    check, _, what = look.leak(exp_name).partition(": ")
    return f"{LEAKED_PEOPLE}: {what} (`thesis-assets checks run --exp {exp_name} {check}`)" if what else ""


def _facts_of(
    look: Platform, cell: Cell, trees: dict[str, EvaluationTree], *, leaks: bool = True
) -> "list[tuple[EvaluationTree, SceneFacts]]":
    from thesis_assets.evaluation.measured_tasks import SceneFacts, TaskState, task_state
    from thesis_assets.scenes.matching import group_id

    rules, untold = look.spec(cell).split.group_rules, ""
    trained_on, leaked = None, ""
    try:
        trained_on = look.trained_on(cell)
        leaked = _leak(look, cell.exp_name) if leaks and trained_on is not None else ""
    except ThesisAssetsError as error:
        untold = f"whether its people were trained on cannot be told: {error.in_one_line}"
    try:
        scenes = {each.scene.name: each for each in look.evaluation_cells(cell, and_gone=True)}
    except ThesisAssetsError as error:
        scenes, untold = {}, f"whether it is current cannot be told: {error.in_one_line}"

    def state(name: str, epoch: int, task: str) -> "TaskState":
        found = task_state(scenes[name], epoch, task, look.contents) if name in scenes else TaskState()
        return found if found.damaged or not untold else TaskState(moved="; ".join(filter(None, (untold, found.moved))))

    return [
        (
            tree,
            SceneFacts(
                name,
                f"{dataset_of(name)}/{group_id(name, rules)}" in (trained_on or ()),
                leaked,
                functools.partial(state, name),
            ),
        )
        for name, tree in trees.items()
    ]
