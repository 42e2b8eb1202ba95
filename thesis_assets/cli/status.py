"""`thesis-assets status`: assets x cells, done, stale, failed, running, where."""

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from thesis_assets.cli.console import (
    WRONG_USE,
    JsonOption,
    dagster_instance,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.cli.morning import morning_json, print_morning
from thesis_assets.defs.cell_states import CellState, cell_states
from thesis_assets.defs.check_history import check_rows
from thesis_assets.defs.dead_runs import close_dead_runs
from thesis_assets.defs.morning import morning
from thesis_assets.defs.registration import plan_registration


def status(
    exp: Annotated[str | None, typer.Option("--exp", help="Only this experiment.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Also what happened since: 12h, 90m or 2d ago."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is done and what is not.

    A row an asset, over its cells: done, stale, missing, failed, running or refused. With --since also what happened lately: runs, checks, and what waits for what.
    """
    platform = load_platform()
    if exp is not None:
        platform.experiments.read(exp)
    names = [exp] if exp is not None else [spec.exp_name for spec in platform.readable_experiments()]
    began = _moment(since)
    with dagster_instance(platform.settings) as instance:
        for run_id in close_dead_runs(instance):
            progress_line(f"run {run_id[:8]} was killed before it ended; it is closed")
        states = [state for name in names for state in cell_states(platform, instance, name)]
        plan = plan_registration(platform, instance)
        failed = [] if as_json else [row for row in check_rows(instance) if row.blocking and row.status == "failed"]
        night = morning(platform, instance, began, time.time(), exp_names=names) if began is not None else None
    cells = [state.__dict__ | {"cell": str(state.cell)} for state in states]
    if as_json:
        print_json(cells if night is None else {**morning_json(night), "cells": cells})
        return
    if night is not None:
        print_morning(night)
    print_table("Assets", ("experiment", "asset", "cells", "state", "not done"), _by_asset(states))
    for line in _notes(states):
        print(line)
    for line in plan.warnings:
        if exp is None or line.startswith(f"{exp}: "):
            print(f"warning: {line}")
    for name, reason in plan.refused.items():
        if exp is None or name == exp:
            print(f"refused: {name}: {reason}")
    if any(state.state not in ("done", "refused") for state in states):
        print(f"next: `thesis-assets run --exp {exp or '<experiment>'}` makes what is not done")
    # A row's cell begins with its experiment, as partition keys do.
    if n_failed := sum(exp is None or row.cell.partition("|")[0] == exp for row in failed):
        print(f"{n_failed} blocking check{'s' * (n_failed > 1)} failed: `thesis-assets checks report --open`")


def _moment(since: str | None) -> datetime | None:
    """`12h` -> twelve hours ago."""
    if since is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", since.strip())
    if found is None:
        progress_line(f"error: --since {since!r} is no time: write 90m, 12h or 2d")
        raise typer.Exit(WRONG_USE)
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return datetime.now(UTC) - timedelta(**{unit: int(found[1])})


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


def _notes(states: list[CellState]) -> list[str]:
    """What a reader should know of cells that are done: a line an asset and note."""
    counts = Counter(
        (each.exp_name, each.asset, each.detail) for each in states if each.state == "done" and each.detail
    )
    return [f"noted: {exp_name}: {asset}, {count} cells: {note}" for (exp_name, asset, note), count in counts.items()]


def _named(member: CellState) -> str:
    """The cell within its experiment, and what is known of why it is not done."""
    name = member.cell.run_name or member.cell.scene_name or member.cell.exp_name
    return f"{name} ({member.detail})" if member.detail else name
