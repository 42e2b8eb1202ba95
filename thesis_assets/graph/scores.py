"""The numbers of all evaluated runs with what their trees do not tell: who was trained on, what is damaged or moved, what is the control.

Belongs here: gathering for the reports. Does not belong here: which numbers count (`evaluation.measured_tasks`), any mean.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import OneLook, Platform
from thesis_assets.layout import EvaluationTree, dataset_of

if TYPE_CHECKING:
    from thesis_assets.evaluation.leaderboard import Baselines, Leaderboard
    from thesis_assets.evaluation.measured_tasks import RunKey, SceneFacts, TaskState


def leaderboard_of(
    platform: Platform, keep: Callable[["RunKey"], bool] | None = None, baselines: "Baselines | None" = None
) -> "Leaderboard":
    """The leaderboard of the declared runs.

    Args:
        keep: which runs; None takes all.
        baselines: None takes those of the experiments.
    """
    from thesis_assets.evaluation.leaderboard import build_leaderboard

    trees = [each for each in platform.evaluated_trees() if keep is None or keep((each[1].exp_name, each[0]))]
    runs = {(tree.exp_name, run_name) for run_name, tree in trees}
    cells = [cell for cell in platform.run_cells() if (cell.exp_name, cell.run_name) in runs]
    return build_leaderboard(trees, baselines or baselines_of(platform), scene_facts(platform, cells))


def baselines_of(platform: Platform) -> "Baselines":
    """What the experiments' files say that their runs are compared with."""
    from thesis_assets.evaluation.leaderboard import Baselines

    return Baselines(platform.baselines(), platform.controls())


def scene_facts(platform: Platform, cells: Sequence[Cell]) -> "dict[Path, SceneFacts]":
    """Of every evaluated scene of some runs, by the base of its tree."""
    look = OneLook.of(platform)
    return {
        tree.base: facts
        for cell in cells
        if (trees := look.evaluated_scenes(cell, and_lost=True))
        for tree, facts in _facts_of(look, cell, trees)
    }


def _facts_of(
    look: Platform, cell: Cell, trees: dict[str, EvaluationTree]
) -> "list[tuple[EvaluationTree, SceneFacts]]":
    from thesis_assets.evaluation.measured_tasks import SceneFacts, TaskState, task_state
    from thesis_assets.scenes.matching import group_id

    rules, untold = look.spec(cell).split.group_rules, ""
    try:
        trained_on = look.trained_on(cell) or set()
    except InvalidFile as error:
        trained_on, untold = set(), f"whether its people were trained on cannot be told: {error.in_one_line}"
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
                name, f"{dataset_of(name)}/{group_id(name, rules)}" in trained_on, functools.partial(state, name)
            ),
        )
        for name, tree in trees.items()
    ]
