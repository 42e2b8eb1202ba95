"""The results: `leaderboard` over every evaluated run, `compare` for two of them frame by frame, `lineage` of what any file was made from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import (
    CHECK_FAILED,
    FAILED,
    console,
    dagster_instance,
    human_bytes,
    load_platform,
    may_write,
    print_json,
    print_table,
    progress_line,
    table_text,
    wrong_use,
)
from thesis_assets.errors import InvalidFile, ThesisAssetsError, Undeclared, first_names, near_names
from thesis_assets.graph.cells import Cell, CellKind
from thesis_assets.graph.compare_units import UNREFINED, Comparison
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.scene_facts import baselines_of
from thesis_assets.layout import SampleId, check_key, parse_checkpoint_step, parse_epoch
from thesis_assets.operations.compare_pages import MAX_FRAMES, ComparePages, MadePage
from thesis_assets.operations.integrity_audit import place_naming
from thesis_assets.operations.report_pages import leaderboard_of, renew_pages, write_leaderboard

if TYPE_CHECKING:
    from rich.tree import Tree

    from thesis_assets.reports.leaderboard import Leaderboard
    from thesis_assets.schemas.lineage import LineageLink


RunKey = tuple[str, str]
_SIGNS = {"verified": "[green]✓[/]", "recorded": "[dim]·[/]", "broken": "[bold red]✗[/]"}


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
    exp: options.OnlyExp = None,
    run_names: options.OnlyRuns = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="A run, or <exp>/<run>, that every other is compared with at the same epoch."),
    ] = None,
    cite: Annotated[
        str | None,
        typer.Option("--cite", help="Keep the table of --exp under this name; one that is kept is printed as it was."),
    ] = None,
    diff: Annotated[
        str | None, typer.Option("--diff", help="Say what moved since the table of this name was cited.")
    ] = None,
    each_seed: Annotated[
        bool, typer.Option("--each-seed", help="Show each run of a sweep by itself, in place of means over its seeds.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show every evaluated run, and how it differs from others.

    Differences are paired: to the unrefined render, and to a baseline run. The runs of a sweep that differ in their seed alone are one row, with mean and spread over seeds; CSV and JSON have both. Without options the files of the reports folder are written too; with --exp, --run, --against, --cite or --diff it is only printed.
    """
    platform = load_platform()
    if diff is not None:
        _print_what_moved(platform, diff, as_json=as_json)
        return
    kept = platform.settings.reports.cited(cite) if cite is not None else None
    if kept is None or not kept.is_file():
        run_names = _with_points(platform, exp, run_names or ())
        _refuse_undeclared(platform, exp, run_names)
        if kept is not None and exp is None:
            wrong_use("--cite keeps the table of one experiment: name it with --exp")
        chosen = bool(exp or run_names or against)
        board = _board(platform, exp, run_names or (), against)
    if kept is not None:
        new = None if kept.is_file() else (exp or "", board)
        _print_cited(platform, kept, form, new, each_seed=each_seed, as_json=as_json)
        return
    reports = platform.settings.reports
    if not chosen and not may_write(reports.base):
        progress_line(f"{reports.base} may not be written by this user: the board is only printed")
        chosen = True
    if not chosen:
        write_leaderboard(platform, board)
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
    if form == Format.TABLE:
        _print_tables(board.shown(each_seed=each_seed))
        files = (reports.index, reports.leaderboard_markdown, reports.leaderboard_csv, reports.leaderboard_plot)
        if not chosen:
            print(f"pages: {', '.join(map(str, files))}")
    else:
        print(_text(board, form, platform, each_seed=each_seed), end="")
    if not board.rows and form == Format.TABLE:
        print(_how_to_evaluate(platform, exp, run_names or ()))


def _board(platform: Platform, exp: str | None, run_names: Sequence[str], against: str | None) -> Leaderboard:
    from dataclasses import replace

    baselines = baselines_of(platform)
    if against:
        asked = _baselines(platform, against, exp)
        controls = {run: control for run, control in baselines.controls.items() if asked.get(run) == control}
        baselines = replace(baselines, of=asked, controls=controls)
    named = {*baselines.of.values()} if against else set()

    def keep(run: RunKey) -> bool:
        return ((not exp or run[0] == exp) and (not run_names or run[1] in run_names)) or run in named

    return leaderboard_of(platform, keep, baselines)


def _print_cited(
    platform: Platform,
    path: Path,
    form: Format,
    new: tuple[str, Leaderboard] | None,
    *,
    each_seed: bool,
    as_json: bool,
) -> None:
    """Print what is kept under a name, after keeping it where it is new: (experiment, its board)."""
    from thesis_assets import __version__
    from thesis_assets.reports.citations import keep_cited, read_cited
    from thesis_assets.schemas.evaluation import CitedTable

    if new is not None:
        exp_name, board = new
        if not board.rows:
            print(_how_to_evaluate(platform, exp_name, ()))
            raise typer.Exit(FAILED)
        made_at = time.strftime("%Y-%m-%d %H:%M %Z")
        texts = {each.value: _text(board, each, platform, each_seed=each_seed) for each in Format}
        kept = CitedTable(
            name=path.stem,
            exp_name=exp_name,
            made_at=made_at,
            version=__version__,
            rows=board.rows,
            differences=board.differences,
            protocols=board.protocols,
            comparable=board.comparable,
            texts=texts,
        )
        keep_cited(path, kept)
        progress_line(f"kept as {path}")
    cited = read_cited(path)
    if as_json:
        print_json(cited.model_dump(mode="json", exclude={"texts"}))
    else:
        print(cited.texts[form.value], end="")


def _print_what_moved(platform: Platform, name: str, *, as_json: bool) -> None:
    from thesis_assets.reports.citations import read_cited, what_moved

    cited = read_cited(platform.settings.reports.cited(name))
    runs = {(row.exp_name, row.run_name) for row in cited.rows}
    declared = [(cell.exp_name, cell.run_name) for cell in platform.run_cells()]

    def why_gone(run: RunKey) -> str:
        return "not evaluated any more" if run in declared else "the run is gone: no experiment declares it any more"

    board = leaderboard_of(platform, lambda run: run[0] == cited.exp_name or run in runs)
    lines = list(what_moved(cited, board, why_gone))
    if as_json:
        print_json({"name": cited.name, "exp_name": cited.exp_name, "made_at": cited.made_at, "moved": lines})
        return
    for line in lines:
        print(line)
    print(f"{cited.name}, cited {cited.made_at}: {f'{len(lines)} things moved' if lines else 'nothing moved'}")


def _with_points(platform: Platform, exp: str | None, run_names: Sequence[str]) -> list[str]:
    """Runs by their names, and for the name of a sweep or of a group of seeds its runs."""
    experiments = [platform.experiments.read(exp)] if exp is not None else list(platform.readable_experiments())
    found: dict[str, None] = {}
    for name in run_names:
        found |= dict.fromkeys([run for spec in experiments for run in spec.runs_named(name)] or [name])
    return list(found)


def _refuse_undeclared(platform: Platform, exp: str | None, run_names: Sequence[str]) -> None:
    """Refuse a name of which no line can ever come, as no experiment, or none of its runs, has it."""
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
    """The baseline of every run: of its own experiment where only a run is named; of a group of seeds the run of the same seed."""
    cells = [(cell.exp_name, cell.run_name) for cell in platform.run_cells()]
    named, _, run = against.rpartition("/")
    experiments = {spec.exp_name: spec for spec in platform.readable_experiments()}
    found: dict[RunKey, RunKey] = {}
    for exp_name, other in cells:
        target = experiments.get(named or exp_name)
        if target is None or (exp and exp_name != exp):
            continue
        beside = target.beside(run, experiments[exp_name].runs[other].seed)
        if beside is not None:
            found[exp_name, other] = (target.exp_name, beside)
    if not found:
        wrong_use(f"there is no run {against}; declared: {', '.join('/'.join(cell) for cell in cells)}")
    return {key: other for key, other in found.items() if key != other}


CITED_WIDTH = 160
"""Columns of a table for the terminal that is kept."""


def _text(board: Leaderboard, form: Format, platform: Platform, *, each_seed: bool) -> str:
    """The board in one form; as a table for the terminal with a width of its own."""
    from thesis_assets.reports.leaderboard_pages import csv_text, latex_text, markdown_text, scene_tables_text
    from thesis_assets.schemas.evaluation import LeaderboardRow

    every, board = board, board.shown(each_seed=each_seed)
    match form:
        case Format.MARKDOWN:
            return markdown_text(board, plot_name=platform.settings.reports.leaderboard_plot.name)
        case Format.SCENES:
            return scene_tables_text(board)
        case Format.CSV:
            return csv_text(every.rows, LeaderboardRow)
        case Format.LATEX:
            return latex_text(board)
        case Format.TABLE:
            return "".join(
                part if isinstance(part, str) else table_text(*part, width=CITED_WIDTH) for part in _parts(board)
            )


def _print_tables(board: Leaderboard) -> None:
    for part in _parts(board):
        if isinstance(part, str):
            print(part, end="")
        else:
            print_table(*part)


def _parts(board: Leaderboard) -> Iterator[str | tuple[str, list[str], list[list[str]]]]:
    """Lines, and tables as title, header and rows."""
    from thesis_assets.reports.leaderboard_pages import difference_lines, mean_lines
    from thesis_assets.reports.leaderboard_tables import empty_columns, reasons_for_nothing, remarks, same_tables

    for table, same in same_tables(board):
        header, *lines = mean_lines(table)
        yield f"{table.title} (protocol {table.digest[:8]})", header, lines
        if said := empty_columns(table):
            yield f"{said}\n"
        yield from (f"{line}\n" for line in remarks(table))
        header, *lines = difference_lines(board, table)
        if lines:
            yield "paired differences", header, lines
        yield from (f"no difference: {reason}\n" for reason in reasons_for_nothing(board, table))
        yield from (f"{each.title} (protocol {each.digest[:8]}): the same numbers\n" for each in same)


# --- compare: one offline page of two runs, frame by frame, worst first ----------------------------------------------


def compare(
    exp: options.Exp,
    run: Annotated[str, typer.Option("--run", help="The run that is looked at.")],
    against: Annotated[
        str, typer.Option("--against", help="A run of the experiment, <exp>/<run>, or `unrefined`: its own renders.")
    ] = UNREFINED,
    epoch: Annotated[
        int | None,
        typer.Option("--epoch", help="Default: the last one that both have. Another one is a page of its own."),
    ] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Of pictures in the page.")] = 40,
    max_frames: Annotated[int, typer.Option("--max-frames", min=1, help="Frames with pictures.")] = MAX_FRAMES,
    open_page: options.Open = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a page that compares two runs frame by frame.

    One HTML file that needs no network: baseline, tuned and truth under a slider, worst first, and where both come from. Where the
    reports may not be written, it is written into the current folder.
    """
    platform = load_platform()
    tuned = Cell(exp, run_name=run)
    platform.run_spec(tuned)
    comparison = Comparison(tuned, _other(platform, exp, run, against), epoch)
    page = platform.settings.reports.comparison(*comparison.place)
    at = None if may_write(page.parent) else _here(page)
    pages = ComparePages(platform, progress_line)
    made = pages.make(comparison, max_bytes=max_mb * 1_000_000, max_frames=max_frames, at=at)
    page = at or page
    _say(str(page), made, as_json=as_json)
    if open_page:
        typer.launch(page.as_uri())


def _here(page: Path) -> Path:
    """The page in the current folder, for a user who may only read the reports."""
    if not may_write(Path.cwd()):
        raise ThesisAssetsError(
            "the page can be written neither among the reports nor into the current folder",
            file=page.parent,
            found=f"the current folder is {Path.cwd()}",
            wanted="a folder that this user may write",
            remedy="go to a folder of your own, and give the command there",
        )
    progress_line(f"{page.parent} may not be written by this user: the page is written here")
    return Path.cwd() / page.name


def _other(platform: Platform, exp: str, run: str, against: str) -> Cell | None:
    """The cell that is compared with; None for the run's own renders."""
    if against == UNREFINED:
        return None
    named, _, name = against.rpartition("/")
    other = Cell(named or exp, run_name=name)
    if other == Cell(exp, run_name=run):
        wrong_use("a run is not compared with itself; name another run, or `unrefined`")
    platform.run_spec(other)
    return other


def _say(page: str, made: MadePage, *, as_json: bool) -> None:
    compared, pictures = made.compared, made.pictures
    found = next(row for row in compared.differences if (row.task, row.metric) == ("nvs", compared.metric))
    if as_json:
        print_json(
            {
                "page": page,
                "difference": found.model_dump(mode="json"),
                "headline": made.record.headline,
                "frames": len(compared.frames),
                "frames_with_pictures": len(pictures.by_frame),
                "left_out": compared.left_out,
                "not_for_sharing": made.record.not_for_sharing,
            }
        )
        return
    for scene, reason in compared.left_out.items():
        print(f"not compared: {scene}: {reason}")
    print(f"{made.record.headline}; against {compared.baseline_name}, scenes: {len(compared.scenes)}")
    for reason in dict.fromkeys(row.reason for row in compared.differences if row.task == "nvs" and row.reason):
        print(f"no difference: {reason}")
    for dataset in made.record.not_for_sharing:
        print(f"not to be passed on: the page holds images of {dataset}")
    shown = f"{len(pictures.by_frame)} of {len(compared.frames)} frames have their pictures"
    print(f"{shown} ({human_bytes(pictures.n_bytes)}): {page}")


# --- lineage: what a file or a cell was made from, down to the scenes' digests, verified -----------------------------


def lineage_command(
    target: Annotated[
        str,
        typer.Argument(
            help="A file (checkpoint, selected_checkpoint.json, data.json, sample, metric table, prediction, recording) or a cell: "
            "<experiment>[/<run>[/<scene>[/<epoch>[/<task>]]]]."
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Show what something was made from, down to the scenes.

    Each digest is computed again. Exit code 3 where the chain breaks.
    """
    link = _lineage(load_platform(), target)
    breaks = list(link.breaks())
    if as_json:
        print_json({"target": target, "whole": not breaks, **link.model_dump(mode="json")})
    else:
        console().print(_as_tree(link))
        for broken in breaks:
            console().print(f"the chain breaks at {broken.kind} {broken.name}: {broken.note}", markup=False)
        print("✓ digest computed now and equal to the recorded one, · known by its record")
        where = "one place" if len(breaks) == 1 else f"{len(breaks)} places"
        print("the chain holds" if not breaks else f"the chain breaks in {where}")
        if any(broken.path is not None and not Path(broken.path).exists() for broken in breaks):
            print(f"next: `{_makes(target)}`, for what is missing")
    if breaks:
        raise typer.Exit(CHECK_FAILED)


def _makes(target: str) -> str:
    """The command that makes what is missing of a cell; of a file, the one that names it."""
    if Path(target).exists():
        return "thesis-assets status"
    exp_name, run_name, *_ = _words(target)
    return f"thesis-assets run --exp {exp_name}" + (f" --run {run_name}" if run_name else "")


def _lineage(platform: Platform, target: str) -> LineageLink:
    path = Path(target)
    # The file of the name, not what it may be a link to.
    named = path.parent.resolve() / path.name
    return _of_file(platform, named) if path.exists() and path.name else _of_cell(platform, target)


def _of_file(platform: Platform, path: Path) -> LineageLink:
    """The chain that a file stands in; above it the file itself, where the chain is of another one: compared with the record that
    names it, or not ticked where none does.
    """
    from thesis_assets.schemas.lineage import linked
    from thesis_assets.splits.lineage import compared

    kind, cell, chain = _chain_of(platform, path)
    if chain.path == str(path) or chain.kind == "sample":
        return chain
    place = place_naming(platform, kind, cell, path)
    if place is None:
        note = "no record names this file: it was not compared"
        return linked("file", path.name, path=path, note=note, verified=False, made_from=[chain])
    found = compared(place, path)
    return linked(
        "file",
        path.name,
        path=path,
        digest=found.digest,
        faults=found.faults,
        verified=found.verified,
        made_from=[chain],
    )


def _chain_of(platform: Platform, path: Path) -> tuple[CellKind, Cell, LineageLink]:
    """(kind of cells, cell) that the file belongs to, and what that was made from."""
    from thesis_assets.evaluation.lineage import evaluation_lineage, place_of

    root = platform.settings.difix_data_root
    if path.is_relative_to(root) and path != root:
        exp_name, *parts = path.relative_to(root).parts
        if parts[:1] == ["tuning_runs"] and len(parts) > 1:
            cell = Cell(exp_name, run_name=parts[1])
            return "exp_by_run", cell, _of_run_file(platform, cell, path)
        if parts[:1] == ["samples"] and len(parts) > 1:
            from thesis_assets.splits.lineage import sample_lineage

            sample = SampleId.parse(parts[1])
            chain = sample_lineage(platform.difix(Cell(exp_name)), sample, platform.roots)
            return "exp_by_scene", Cell(exp_name, scene_name=sample.scene_name), chain
        return "exp", Cell(exp_name), _of_cell(platform, exp_name)
    for run_cell in platform.run_cells():
        if not platform.difix(run_cell).split_test.is_file():
            continue
        for tree in platform.evaluation_trees(run_cell).values():
            if path.is_relative_to(tree.base):
                epochs, tasks = place_of(tree, path)
                difix, run_name = platform.difix(run_cell), run_cell.run_name
                chain = evaluation_lineage(tree, difix, run_name, platform.roots, epochs=epochs, tasks=tasks)
                return "exp_by_run", run_cell, chain
    raise InvalidFile(
        "the file belongs to no declared experiment",
        file=path,
        wanted=f"a file below {root}, or below the outputs of an evaluated scene ({platform.settings.output_dir})",
    )


def _of_run_file(platform: Platform, cell: Cell, path: Path) -> LineageLink:
    from thesis_assets.tuning.lineage import checkpoint_lineage, config_lineage, selected_lineage

    tree = platform.difix(cell)
    run = tree.tuning_run(cell.run_name)
    step = parse_checkpoint_step(path.with_suffix(".pkl").name)
    if path.parent == run.checkpoints_dir and step is not None:
        return checkpoint_lineage(tree, cell.run_name, step, platform.roots)
    if path in (run.selected_checkpoint, run.pipeline_overrides):
        return selected_lineage(tree, cell.run_name, platform.roots)
    return config_lineage(tree, cell.run_name, platform.roots)


def _of_cell(platform: Platform, target: str) -> LineageLink:
    from thesis_assets.evaluation.lineage import evaluation_lineage
    from thesis_assets.splits.lineage import data_lineage
    from thesis_assets.tuning.lineage import config_lineage, selected_lineage

    exp_name, run_name, scene_name, epoch, task = _words(target)
    platform.spec(Cell(check_key(exp_name, "exp_name")))
    cell = Cell(exp_name, run_name=run_name)
    tree = platform.difix(cell)
    if not run_name:
        return data_lineage(tree, platform.roots)
    platform.run_spec(cell)
    if not scene_name:
        run = tree.tuning_run(run_name)
        chosen = run.selected_checkpoint.is_file()
        return (selected_lineage if chosen else config_lineage)(tree, run_name, platform.roots)
    scenes = platform.evaluation_trees(cell)
    if scene_name not in scenes:
        raise Undeclared("the scene is not evaluated by this experiment", found=scene_name, wanted=", ".join(scenes))
    return evaluation_lineage(
        scenes[scene_name],
        tree,
        run_name,
        platform.roots,
        epochs=[int(epoch) if epoch.isdigit() else parse_epoch(epoch)] if epoch else [],
        tasks=[task] if task else [],
    )


def _words(target: str) -> list[str]:
    words = target.strip("/").split("/")
    if len(words) > 5 or not all(words):
        raise Undeclared(
            "neither a file nor a cell",
            found=target,
            wanted="a path that is there, or <experiment>[/<run>[/<scene>[/<epoch>[/<task>]]]]",
        )
    return words + [""] * (5 - len(words))


def _as_tree(link: LineageLink, parent: Tree | None = None) -> Tree:
    from rich.markup import escape
    from rich.tree import Tree

    digest = f" [dim]{link.digest[:12]}[/]" if link.digest else ""
    note = f"  [{'red' if link.state == 'broken' else 'dim'}]{escape(link.note)}[/]" if link.note else ""
    label = f"{_SIGNS[link.state]} {link.kind} [bold]{escape(link.name)}[/]{digest}{note}"
    tree = Tree(label) if parent is None else parent.add(label)
    for below in link.made_from:
        _as_tree(below, tree)
    return tree
