"""`thesis-assets lineage`: what a file or a cell of the leaderboard was made from, down to the scenes' digests, verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli.console import CHECK_FAILED, JsonOption, console, load_platform, print_json
from thesis_assets.defs.partitions import Cell
from thesis_assets.errors import InvalidFile, Undeclared
from thesis_assets.layout import EvaluationTree, SampleId, check_key, parse_checkpoint_step, parse_epoch

if TYPE_CHECKING:
    from rich.tree import Tree

    from thesis_assets.defs.platform import Platform
    from thesis_assets.schemas.lineage import LineageLink

_SIGNS = {"verified": "[green]✓[/]", "recorded": "[dim]·[/]", "broken": "[bold red]✗[/]"}


def lineage_command(
    target: Annotated[
        str,
        typer.Argument(
            help="A file (checkpoint, selected_checkpoint.json, data.json, sample, metric table, prediction, recording) or a cell: "
            "<experiment>[/<run>[/<scene>[/<epoch>[/<task>]]]]."
        ),
    ],
    as_json: JsonOption = False,
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
    return _of_file(platform, path.resolve()) if path.exists() else _of_cell(platform, target)


def _of_file(platform: Platform, path: Path) -> LineageLink:
    root = platform.settings.difix_data_root
    if path.is_relative_to(root) and path != root:
        exp_name, *parts = path.relative_to(root).parts
        if parts[:1] == ["tuning_runs"] and len(parts) > 1:
            return _of_run_file(platform, Cell(exp_name, run_name=parts[1]), path)
        if parts[:1] == ["samples"] and len(parts) > 1:
            from thesis_assets.splits.lineage import sample_lineage

            return sample_lineage(platform.difix(Cell(exp_name)), SampleId.parse(parts[1]), platform.roots)
        return _of_cell(platform, exp_name)
    for run_cell in platform.run_cells():
        if not platform.difix(run_cell).split_test.is_file():
            continue
        for tree in platform.evaluation_trees(run_cell).values():
            if path.is_relative_to(tree.base):
                return _of_evaluated(platform, run_cell, tree, path)
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


def _of_evaluated(platform: Platform, cell: Cell, tree: EvaluationTree, path: Path) -> LineageLink:
    from thesis_assets.evaluation.lineage import evaluation_lineage, place_of

    epochs, tasks = place_of(tree, path)
    return evaluation_lineage(tree, platform.difix(cell), cell.run_name, platform.roots, epochs=epochs, tasks=tasks)


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
