"""`thesis-assets backfill`: the plan first, then through the daemon where one runs, else in this process."""

import time
from collections.abc import Sequence
from typing import Annotated

import dagster as dg
import typer

from thesis_assets.cli.console import (
    CHECK_FAILED,
    DONE,
    FAILED,
    WRONG_USE,
    JsonOption,
    dagster_instance,
    first_names,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.cli.run import begun_line, ended_lines, tell_where_no_daemon_does
from thesis_assets.defs.backfill_plan import BackfillPlan, Mode, PlannedCell, by_asset, plan_backfill
from thesis_assets.defs.backfill_runs import hand_over, run_here
from thesis_assets.defs.daemons import daemon_runs
from thesis_assets.defs.dead_runs import close_dead_runs
from thesis_assets.defs.levels import Outcome, Work
from thesis_assets.defs.platform import Platform
from thesis_assets.defs.policy import GPU_ASSETS
from thesis_assets.defs.ready_scenes import ReadyScenes
from thesis_assets.defs.registration import plan_registration, register
from thesis_assets.defs.report_pages import renew_pages


def backfill(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
    run_names: Annotated[list[str] | None, typer.Option("--run", help="Only these runs (repeatable).")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Cells that were never made, or whose files are gone.")
    ] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Cells whose inputs have moved since they were made.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every declared cell.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make some cells of an experiment, and what follows from them.

    Which ones: --missing, --stale or --all. The plan is shown first. Where a daemon runs, it makes the runs, and this command ends at
    once; else they are made here, in order, and a failed blocking check stops them (exit code 3).
    """
    given: dict[Mode, bool] = {"missing": missing, "stale": stale, "all": every}
    modes = [mode for mode, chosen in given.items() if chosen]
    if len(modes) != 1:
        progress_line("error: choose one of --missing, --stale and --all")
        raise typer.Exit(WRONG_USE)
    platform = load_platform()
    for line in platform.idle_globs(platform.experiments.read(exp)):
        progress_line(f"warning: {exp}: {line}")
    with dagster_instance(platform.settings) as instance:
        for run_id in close_dead_runs(instance):
            progress_line(f"run {run_id[:8]} was killed before it ended; it is closed")
        register(instance, plan_registration(platform, instance))
        try:
            ready = ReadyScenes(platform, time.time())
            plan = plan_backfill(platform, instance, exp, modes[0], ready, runs=run_names or ())
        except dg.Failure as error:
            progress_line(f"error: {error.description}")
            raise typer.Exit(WRONG_USE) from error
        through_daemon = daemon_runs(instance)
        if not as_json:
            _show(plan)
        done: dict[str, object] = {"through": "daemon" if through_daemon else "this process"}
        code = DONE
        if plan.cells and not dry_run:
            code = _act(platform, instance, plan, through_daemon, done, as_json)
    if as_json:
        print_json(_plan_json(plan) | done | {"dry_run": dry_run, "exit_code": code})
    elif dry_run and plan.cells:
        where = "to the daemon" if through_daemon else "in this process: no daemon runs"
        print(f"next: the same command without --dry-run; it goes {where}")
    if code != DONE:
        raise typer.Exit(code)


def _act(
    platform: Platform,
    instance: dg.DagsterInstance,
    plan: BackfillPlan,
    through_daemon: bool,
    done: dict[str, object],
    as_json: bool,
) -> int:
    from thesis_assets.definitions import build_defs

    definitions = build_defs(settings=platform.settings, echo=platform.echo)
    if through_daemon:
        backfill_id = hand_over(instance, definitions.resolve_asset_graph(), plan, asked_by="thesis-assets backfill")
        done["backfill"] = backfill_id
        if not as_json:
            print(f"backfill {backfill_id} is handed to the daemon")
            print("next: `thesis-assets status`, or the UI's page Runs > Backfills")
        return DONE

    step_began = 0.0

    def on_work(work: Work) -> None:
        nonlocal step_began
        step_began = time.perf_counter()
        progress_line(begun_line(plan.exp_name, work))

    outcomes: list[Outcome] = []
    try:
        for outcome in run_here(definitions, instance, plan, on_work):
            outcomes.append(outcome)
            for line in ended_lines(plan.exp_name, outcome, time.perf_counter() - step_began):
                progress_line(line)
            if not outcome.success:
                tell_where_no_daemon_does(platform, instance, outcome)
    finally:
        renew_pages(platform, instance)
    done["runs"] = [
        {"job": each.work.level.job, "cells": [str(cell) for cell in each.work.cells], "success": each.success}
        for each in outcomes
    ]
    if not as_json:
        print(f"{sum(each.success for each in outcomes)} of {len(outcomes)} runs succeeded")
    if any(each.failed_checks for each in outcomes):
        return CHECK_FAILED
    return DONE if all(each.success for each in outcomes) else FAILED


def _show(plan: BackfillPlan) -> None:
    rows = []
    for asset, members in by_asset(plan):
        reasons: dict[str, int] = {}
        for each in members:
            reasons[each.why] = reasons.get(each.why, 0) + 1
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        rows.append((asset, len(members), why, first_names([str(each.cell) for each in members]), _hours(members)))
    if rows:
        header = ("asset", "cells", "why", "which", "hours by past runs")
        print_table(f"Backfill of {plan.exp_name}: {plan.mode}", header, rows)
    for cell, why in plan.waiting.items():
        print(f"waits: {cell}: {' '.join(why.split())}")
    if not plan.cells:
        print(f"{plan.exp_name}: nothing to make" + ("" if plan.waiting else ": all is current"))
        return
    unknown = f"; without {', '.join(plan.unknown)}, which were never made" if plan.unknown else ""
    print(f"{len(plan.cells)} cells; about {plan.gpu_hours:.2f} hours on the GPU by past runs{unknown}")


def _hours(members: Sequence[PlannedCell]) -> str:
    known = [each.seconds for each in members if each.seconds is not None]
    return f"{sum(known) / 3600:.2f}" if known else "unknown"


def _plan_json(plan: BackfillPlan) -> dict[str, object]:
    return {
        "exp_name": plan.exp_name,
        "mode": plan.mode,
        "cells": [
            {
                "asset": each.asset,
                "cell": str(each.cell),
                "why": each.why,
                "seconds": each.seconds,
                "gpu": each.asset in GPU_ASSETS,
            }
            for each in plan.cells
        ],
        "waiting": plan.waiting,
        "gpu_hours": round(plan.gpu_hours, 4),
        "without_past_work": plan.unknown,
    }
