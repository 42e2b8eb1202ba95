"""`thesis-assets status`: assets x cells, done, stale, failed, running, where."""

from collections import Counter
from typing import Annotated

import typer

from thesis_assets.cli.console import JsonOption, dagster_instance, load_platform, print_json, print_table
from thesis_assets.defs.cell_states import CellState, cell_states


def status(
    exp: Annotated[str | None, typer.Option("--exp", help="Only this experiment.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which cells of which assets are done, stale, missing, failed or running."""
    platform = load_platform()
    names = [exp] if exp is not None else platform.experiments.names()
    with dagster_instance(platform.settings) as instance:
        states = [state for name in names for state in cell_states(platform, instance, name)]
    if as_json:
        print_json([state.__dict__ | {"cell": str(state.cell)} for state in states])
        return
    print_table("Assets", ("experiment", "asset", "cells", "state", "not done"), _by_asset(states))
    if any(state.state != "done" for state in states):
        print("next: `thesis-assets run --exp <experiment>` makes what is not done")


def _by_asset(states: list[CellState]) -> list[tuple[object, ...]]:
    groups: dict[tuple[str, str], list[CellState]] = {}
    for state in states:
        groups.setdefault((state.exp_name, state.asset), []).append(state)
    rows: list[tuple[object, ...]] = []
    for (exp_name, asset), members in groups.items():
        counts = Counter(member.state for member in members)
        summary = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        open_cells = [_named(member) for member in members if member.state != "done"]
        rows.append((exp_name, asset, len(members), summary, ", ".join(open_cells[:6])))
    return rows


def _named(member: CellState) -> str:
    """The cell within its experiment, and what is known of why it is not done."""
    name = member.cell.run_name or member.cell.scene_name or member.cell.exp_name
    return f"{name} ({member.detail})" if member.detail else name
