"""`thesis-assets prune`: the checkpoints that nothing points to, shown, and removed on request."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli.console import (
    WRONG_USE,
    JsonOption,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.defs.partitions import Cell
from thesis_assets.errors import InvalidFile

if TYPE_CHECKING:
    from thesis_assets.tuning.pruning import PlannedCheckpoint

    Rows = list[tuple[str, PlannedCheckpoint]]


def prune_command(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    run: Annotated[str | None, typer.Option("--run", help="The run; without it every run with checkpoints.")] = None,
    keep: Annotated[list[int] | None, typer.Option("--keep", help="Keep this step too; may be repeated.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed, as without --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it they are only shown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the checkpoints that nothing needs; --yes removes them.

    Needed are those of an evaluation epoch or a selection. Never removed: the last one, the selected one, and every step that an evaluation epoch maps to.
    """
    from thesis_assets.tuning.checkpoints import list_checkpoints
    from thesis_assets.tuning.pruning import plan_pruning, prune

    if dry_run and yes:
        progress_line("error: --dry-run and --yes exclude each other")
        raise typer.Exit(WRONG_USE)
    platform = load_platform()
    spec, tree = platform.experiments.read(exp), platform.difix(Cell(exp))
    declared = {run: platform.run_spec(Cell(exp, run_name=run))} if run is not None else spec.runs
    named = {name: each for name, each in declared.items() if run or list_checkpoints(tree.tuning_run(name))}
    if not named:
        raise InvalidFile("no run of the experiment has a checkpoint", file=tree.tuning_runs_dir)
    rows: Rows = []
    # All plans before the first removal: a run whose rule has not chosen yet stops the command with nothing removed.
    for make in (plan_pruning, prune) if yes else (plan_pruning,):
        rows = [
            (name, planned)
            for name, each in named.items()
            for planned in make(tree, name, each, epoch_steps=spec.evaluation.epoch_steps(each), keep=keep or ())
        ]
    _print(exp, rows, removed=yes, as_json=as_json)


def _print(exp: str, rows: Rows, *, removed: bool, as_json: bool) -> None:
    gone = [planned for _, planned in rows if not planned.kept_for]
    size = sum(planned.bytes for planned in gone)
    if as_json:
        checkpoints = [{"run": name, **dataclasses.asdict(planned)} for name, planned in rows]
        print_json({"exp_name": exp, "removed": removed, "bytes": size, "checkpoints": checkpoints})
        return
    word = "removed" if removed else "would be removed"
    table = [
        (name, planned.step, human_bytes(planned.bytes), ", ".join(planned.kept_for) or word) for name, planned in rows
    ]
    print_table(f"Checkpoints of {exp}", ("run", "step", "size", "kept for"), table)
    print(f"{len(gone)} of {len(rows)} {word}, {human_bytes(size)}")
    if gone and not removed:
        print("next: the same command with --yes removes them")
