"""How a run's checkpoint scores on the test samples of each recipe: what it mends, and what not.

From the table that the evaluation of its step left; nothing is computed from images.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.samples.recipes import recipe_beside
from thesis_assets.schemas.tuning import EVAL_COLUMNS, RecipeScore, SelectedCheckpoint
from thesis_assets.splits.lineage import compared
from thesis_assets.storage import read_json
from thesis_assets.tuning.checkpoints import list_checkpoints
from thesis_assets.tuning.run_record import checkpoint_place


def recipe_scores(tree: DifixTree, run_name: str, recipes: Sequence[str]) -> list[RecipeScore]:
    """Means over the scored test samples of each recipe, in the order of `recipes`, of the selected checkpoint, else of the newest that was
    scored; empty where none was.

    Raises:
        InvalidFile: the table is damaged: not the one that the run's record names, or no such table.
    """
    run = tree.tuning_run(run_name)
    steps = sorted(list_checkpoints(run), reverse=True)
    if run.selected_checkpoint.is_file():
        steps.insert(0, read_json(run.selected_checkpoint, SelectedCheckpoint).step)
    step = next((step for step in steps if run.eval_metrics(step).is_file()), None)
    if step is None:
        return []
    path = run.eval_metrics(step)
    if faults := compared(checkpoint_place(tree, run_name), path).faults:
        raise InvalidFile("the scores of a step are damaged", file=path, found="; ".join(faults))
    of_recipe: dict[str, list[dict[str, float | None]]] = {name: [] for name in recipes}
    try:
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
            recipe = recipe_beside(tree.samples_dir / row["sample_id"] / "image.png")
            if recipe in of_recipe:
                of_recipe[recipe].append({name: float(row[name]) if row[name] else None for name in EVAL_COLUMNS[2:]})
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFile(
            "the scores of a step cannot be read", file=path, found=str(error), wanted=",".join(EVAL_COLUMNS)
        ) from error
    return [
        RecipeScore(
            exp_name=tree.exp_name,
            run_name=run_name,
            step=step,
            recipe=name,
            n_samples=len(rows),
            **{metric: _mean([row[metric] for row in rows]) for metric in EVAL_COLUMNS[2:]},
        )
        for name, rows in of_recipe.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that there are; None where one is infinite too: equal pictures have no mean in decibels."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there and all(map(math.isfinite, there)) else None
