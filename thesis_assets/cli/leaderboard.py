"""`thesis-assets leaderboard`: every evaluated run with its paired differences, in the terminal and as files."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli.console import (
    WRONG_USE,
    JsonOption,
    dagster_instance,
    first_names,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.defs.compare_pages import ComparePages
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.report_pages import renew_pages
from thesis_assets.errors import Undeclared, near_names

if TYPE_CHECKING:
    from thesis_assets.evaluation.leaderboard import Leaderboard

RunKey = tuple[str, str]


class Format(StrEnum):
    """What is printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    SCENES = "scenes"
    CSV = "csv"
    LATEX = "latex"


def leaderboard(
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="table: for the terminal; scenes: Markdown, a row a scene, avg last; markdown, csv and latex: the whole page.",
        ),
    ] = Format.TABLE,
    exp: Annotated[str | None, typer.Option("--exp", help="Only this experiment.")] = None,
    run_names: Annotated[list[str] | None, typer.Option("--run", help="Only these runs (repeatable).")] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="A run, or <exp>/<run>, that every other is compared with at the same epoch."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every evaluated run, and how it differs from others.

    Differences are paired: to the unrefined render, and to a baseline run. Without options the files of the reports folder are written too; with --exp, --run or --against it is only printed.
    """
    from thesis_assets.evaluation.leaderboard import build_leaderboard, write_leaderboard

    platform = load_platform()
    _refuse_undeclared(platform, exp, run_names or ())
    trees = platform.evaluated_trees()
    baselines = _baselines(platform, against, exp) if against else platform.baselines()
    named = {*baselines.values()} if against else set()
    keep = [
        (run, tree)
        for run, tree in trees
        if ((not exp or tree.exp_name == exp) and (not run_names or run in run_names)) or (tree.exp_name, run) in named
    ]
    board = build_leaderboard(keep, baselines)
    if not (exp or run_names or against):
        write_leaderboard(platform.settings.reports, board)
        ComparePages(platform, progress_line).renew()
        with dagster_instance(platform.settings) as instance:
            renew_pages(platform, instance)
    if as_json:
        print_json(
            {
                "rows": [row.model_dump(mode="json") for row in board.rows],
                "differences": [row.model_dump(mode="json") for row in board.differences],
            }
        )
        return
    _print(board, form, platform)
    if not board.rows and form == Format.TABLE:
        print(_how_to_evaluate(platform, exp, run_names or ()))


def _refuse_undeclared(platform: Platform, exp: str | None, run_names: Sequence[str]) -> None:
    """Refuse a name of which no line can ever come.

    Raises:
        Undeclared: no experiment, or none of its runs, has the name.
    """
    if exp is not None:
        platform.experiments.read(exp)
        for run in run_names:
            platform.run_spec(Cell(exp, run_name=run))
        return
    declared = list(dict.fromkeys(cell.run_name for cell in platform.run_cells()))
    for run in run_names:
        if run not in declared:
            raise Undeclared(
                "no experiment declares this run",
                file=platform.settings.experiments_dir,
                found=run,
                wanted=", ".join(declared) or "no run is declared",
                remedy=f"correct the name ({near_names(declared, [run])}), or declare it in an experiment's file",
            )


def _how_to_evaluate(platform: Platform, exp: str | None, run_names: Sequence[str]) -> str:
    cells = [cell for cell in platform.run_cells() if exp in (None, cell.exp_name)]
    names = list(dict.fromkeys(cell.exp_name for cell in cells if not run_names or cell.run_name in run_names))
    runs = "".join(f" --run {run}" for run in run_names)
    what, command = ", ".join(run_names) or exp or "what is declared", "thesis-assets run --exp"
    if len(names) == 1:
        return f"nothing of {what} is evaluated yet; next: `{command} {names[0]}{runs}`"
    among = f" of {first_names(names)}" if names else ": `thesis-assets experiment new <name>` writes one"
    return f"nothing of {what} is evaluated yet; next: `{command} <exp_name>{runs}`, an experiment{among}"


def _baselines(platform: Platform, against: str, exp: str | None) -> dict[RunKey, RunKey]:
    """The same baseline for every run: of its own experiment where only a run is named."""
    cells = [(cell.exp_name, cell.run_name) for cell in platform.run_cells()]
    named, _, run = against.rpartition("/")
    wanted = {(name, (named or name, run)) for name, _ in cells if not exp or name == exp}
    found = {name: key for name, key in wanted if key in cells}
    if not found:
        progress_line(f"error: there is no run {against}; declared: {', '.join('/'.join(cell) for cell in cells)}")
        raise typer.Exit(WRONG_USE)
    return {(name, other): found[name] for name, other in cells if name in found and (name, other) != found[name]}


def _print(board: "Leaderboard", form: Format, platform: Platform) -> None:
    from thesis_assets.evaluation.leaderboard_latex import latex_text
    from thesis_assets.evaluation.leaderboard_pages import csv_text, markdown_text, scene_tables_text
    from thesis_assets.schemas.evaluation import LeaderboardRow

    match form:
        case Format.MARKDOWN:
            print(markdown_text(board, plot_name=platform.settings.reports.leaderboard_plot.name))
        case Format.SCENES:
            print(scene_tables_text(board))
        case Format.CSV:
            print(csv_text(board.rows, LeaderboardRow), end="")
        case Format.LATEX:
            print(latex_text(board))
        case Format.TABLE:
            _print_tables(board)
            reports = platform.settings.reports
            print(
                f"pages: {reports.index}, {reports.leaderboard_markdown}, {reports.leaderboard_csv}, {reports.leaderboard_plot}"
            )


def _print_tables(board: "Leaderboard") -> None:
    from thesis_assets.evaluation.leaderboard_pages import difference_lines, mean_lines
    from thesis_assets.evaluation.leaderboard_tables import reasons_for_nothing, score_tables
    from thesis_assets.evaluation.metric_names import TASK_TITLES

    for table in score_tables(board):
        older = "" if table.stated else ", measured by older scripts"
        title = f"{TASK_TITLES[table.task]}{older} (protocol {table.digest[:8]})"
        header, *lines = mean_lines(table)
        print_table(title, header, lines)
        header, *lines = difference_lines(board, table)
        if lines:
            print_table("paired differences", header, lines)
        for reason in reasons_for_nothing(board, table):
            print(f"no difference: {reason}")
