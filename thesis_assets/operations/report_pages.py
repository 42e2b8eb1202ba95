"""Writing the reports over all cells: the leaderboard, the check page, and the index that links everything.

Belongs here: when they are written and by what name. Does not belong here: what they tell (`reports.leaderboard`, `graph.check_history`,
`index_page`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from thesis_assets.errors import InvalidFile, reason_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.nodes import leaderboard_unit, names_left_empty
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.scene_facts import baselines_of, scene_facts
from thesis_assets.graph.states import CellState, Plan
from thesis_assets.provenance import begin, forget_stats
from thesis_assets.schemas.checks import CheckRow
from thesis_assets.storage import write_text

if TYPE_CHECKING:
    from thesis_assets.evaluation.measured_tasks import RunKey
    from thesis_assets.reports.leaderboard import Baselines, Leaderboard
    from thesis_assets.schemas.tuning import RecipeScore


CHECK_REPORT = "check_report"
"""The asset that writes the pages."""
HISTORY_READ_AT = "history read at"
"""Of its materialization: checks that ran later do not stand on its pages."""


def every_state(platform: Platform, instance: dg.DagsterInstance) -> list[CellState]:
    """What every declared cell of every experiment is."""
    plan = Plan(platform, instance)
    return [state for spec in platform.readable_experiments() for state in plan.of_experiment(spec.exp_name)]


def write_pages(
    platform: Platform, instance: dg.DagsterInstance, states: Sequence[CellState] | None = None
) -> list[CheckRow]:
    """Write the pages from what is there now. Returns the newest outcome of every check.

    Args:
        states: what every cell is, where that is known already.
    """
    from thesis_assets.operations.index_content import index_content
    from thesis_assets.reports.check_page import render_check_page
    from thesis_assets.reports.index_page import render_index

    rows, reports = check_rows(instance, platform.experiments.archive.names()), platform.settings.reports
    made_at = time.strftime("%Y-%m-%d %H:%M %Z")
    states = every_state(platform, instance) if states is None else states
    not_made = [state.row for state in states if state.state not in ("made", "absent")]
    page = render_check_page(rows, not_made=not_made, ui_url=platform.settings.ui_url, made_at=made_at)
    write_text(reports.checks, page)
    write_text(reports.index, render_index(index_content(platform, instance, rows)))
    return rows


def leaderboard_of(
    platform: Platform, keep: Callable[["RunKey"], bool] | None = None, baselines: "Baselines | None" = None
) -> "Leaderboard":
    """The leaderboard of the declared runs.

    Args:
        keep: which runs; None takes all.
        baselines: None takes those of the experiments.
    """
    from thesis_assets.reports.leaderboard import build_leaderboard

    trees = [each for each in platform.evaluated_trees() if keep is None or keep((each[1].exp_name, each[0]))]
    runs = {(tree.exp_name, run_name) for run_name, tree in trees}
    cells = [cell for cell in platform.run_cells() if (cell.exp_name, cell.run_name) in runs]
    facts = scene_facts(platform, cells)
    board = build_leaderboard(trees, baselines or baselines_of(platform), facts, platform.sweep_points())
    return replace(board, by_recipe=[score for cell in cells for score in _scores_by_recipe(platform, cell)])


def _scores_by_recipe(platform: Platform, cell: Cell) -> "list[RecipeScore]":
    """Of a run whose data has recipes; what of its files cannot be read is told, and leaves it out."""
    from thesis_assets.tuning.recipe_scores import recipe_scores

    recipes = [recipe.name for recipe in platform.spec(cell).generation.recipes]
    if not recipes:
        return []
    try:
        return recipe_scores(platform.difix(cell), cell.run_name, recipes)
    except InvalidFile as error:
        platform.echo(f"{cell}: no scores by recipe: {error.in_one_line}")
        return []


def left_empty(board: "Leaderboard") -> set[str]:
    """`<exp>/<run>/<scene>` of what has a cell that is empty since its numbers are damaged."""
    return {
        f"{row.exp_name}/{row.run_name}/{row.scene_name}" for row in board.rows if row.damaged and row.by_seed is None
    }


def write_leaderboard(platform: Platform, board: "Leaderboard") -> None:
    """Write the tables and the plot of all evaluated runs, with their record."""
    from thesis_assets.reports import leaderboard_pages

    reports = platform.settings.reports
    making = begin(leaderboard_unit(platform, left_empty(board)))
    leaderboard_pages.write_leaderboard(reports, board)
    making.finish(reports.leaderboard_files)


def renew_numbers(platform: Platform, instance: dg.DagsterInstance) -> None:
    """After a look found damage: write the leaderboard and the pages with numbers anew, where its files show a number that is damaged
    now. What keeps them from it is told, no more."""
    from thesis_assets.operations.compare_pages import ComparePages

    if not platform.settings.reports.leaderboard_csv.is_file():
        return
    try:
        board = leaderboard_of(platform)
        if left_empty(board) == names_left_empty(platform):
            return
        write_leaderboard(platform, board)
        pages = ComparePages(platform, platform.echo)
        for page in pages.units():
            forget_stats(page.place)  # an edit may have kept size and time of what they were made from
        pages.renew()
    except Exception as error:  # noqa: BLE001 - what the look found is said all the same
        platform.echo(f"the leaderboard shows numbers that are damaged, and is not renewed: {reason_of(error)}")
        return
    platform.echo(
        f"the leaderboard is written anew, without what is damaged: {platform.settings.reports.leaderboard_csv}"
    )
    renew_pages(platform, instance)


def renew_pages(platform: Platform, instance: dg.DagsterInstance) -> None:
    """As `write_pages`, at the end of what has something else to say: what keeps the pages from it is told, no more."""
    try:
        write_pages(platform, instance)
    except Exception as error:  # noqa: BLE001 - a page decorates: no fault in it may end a run, or the asset that renews it
        platform.echo(f"check page and index are not renewed: {reason_of(error)}")
