"""How things stand: `status` (assets x cells, and what the night brought), `checks`, and `clean` (what killed processes left)."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import dagster as dg
import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import (
    CHECK_FAILED,
    DONE,
    FAILED,
    dagster_instance,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
    wrong_use,
)
from thesis_assets.errors import first_names, near_names
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import MEND, check_rows
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import LEVELS, NODES
from thesis_assets.graph.states import CellState, Plan
from thesis_assets.operations.activity import Activity, activity_since
from thesis_assets.operations.execution import make_checks, works_of_checks
from thesis_assets.operations.failures import failure_reason
from thesis_assets.operations.integrity_audit import NUMBERS, SAMPLES, FullLook
from thesis_assets.operations.leftovers import REST_SECONDS, leftovers, remove
from thesis_assets.operations.lost_runs import close_dead_runs, dead_runs
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.operations.report_pages import renew_numbers, renew_pages, write_pages

REASON = 300
SHOWN_LEVELS = tuple(level for level in LEVELS if level.job != "publish")
EVALUATED = next(level for level in LEVELS if level.job == "evaluate").assets
SHOWN = 30
checks_app = typer.Typer(no_args_is_help=True)


def status(
    exp: options.OnlyExp = None,
    since: Annotated[str | None, typer.Option("--since", help="Also what happened since: 12h, 90m or 2d ago.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is made and what is not, why, and what mends it.

    A row an asset, over its cells: made, missing, stale, damaged, running, failed, blocked, waiting, refused or absent. With --since also what happened lately: runs, checks, and what waits for what.
    """
    platform = load_platform()
    refused = platform.refused_with_data()
    if exp is not None and exp not in refused:
        platform.experiments.read(exp)
    names = [exp] if exp is not None else [*(spec.exp_name for spec in platform.readable_experiments()), *refused]
    began = _moment(since)
    with dagster_instance(platform.settings, to_look=True) as instance:
        for run_id in close_dead_runs(instance):
            progress_line(f"run {run_id[:8]} was killed before it ended; it is closed")
        plan = Plan(platform, instance)
        states = [state for name in names for state in plan.of_experiment(name, levels=SHOWN_LEVELS)]
        if any(each.asset in EVALUATED and (each.work == "damaged" or each.is_repair) for each in states):
            renew_numbers(platform, instance)
        registration = plan_registration(platform, instance)
        rows = [] if as_json else check_rows(instance, platform.experiments.archive.names())
        failed = [row for row in rows if row.blocking and row.status == "failed"]
        night = activity_since(platform, instance, began, time.time(), exp_names=names) if began is not None else None
    cells = [state.row for state in states]
    if as_json:
        print_json(cells if night is None else {**morning_json(night), "cells": cells})
        return
    if night is not None:
        print_morning(night)
    print_table("Assets", ("experiment", "asset", "cells", "state", "not made"), _by_asset(states))
    for line in _notes(states):
        print(line)
    for line in registration.warnings:
        if exp is None or line.startswith(f"{exp}: "):
            print(f"warning: {line}")
    for name, reason in registration.refused.items():
        if exp is None or name == exp:
            print(f"refused: {name}: {reason}")
    for line in _mended_by(states):
        print(line)
    if any(state.is_work or state.state == "failed" for state in states):
        print(
            f"next: `thesis-assets run --exp {exp or '<experiment>'}` makes what is not made (`--dry-run` shows it first)"
        )
    # A row's cell begins with its experiment, as partition keys do.
    if n_failed := sum(exp is None or row.cell.partition("|")[0] == exp for row in failed):
        print(f"{n_failed} blocking check{'s' * (n_failed > 1)} failed: `thesis-assets checks report --open`")


def _moment(since: str | None) -> datetime | None:
    """`12h` -> twelve hours ago."""
    if since is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", since.strip())
    if found is None:
        wrong_use(f"--since {since!r} is no time: write 90m, 12h or 2d")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return datetime.now(UTC) - timedelta(**{unit: int(found[1])})


def _by_asset(states: list[CellState]) -> list[tuple[object, ...]]:
    groups: dict[tuple[str, str], list[CellState]] = {}
    for state in states:
        groups.setdefault((state.cell.exp_name, state.asset), []).append(state)
    rows: list[tuple[object, ...]] = []
    for (exp_name, asset), members in groups.items():
        counts = Counter(member.state for member in members)
        summary = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        open_cells = [_named(member) for member in members if member.state not in ("made", "absent")]
        rows.append((exp_name, asset, len(members), summary, first_names(open_cells, 6)))
    return rows


def _notes(states: list[CellState]) -> list[str]:
    """What a reader should know of cells that are made, and why others cannot be: a line an asset and note."""
    counts = Counter(
        (each.cell.exp_name, each.asset, each.why) for each in states if each.state in ("made", "absent") and each.why
    )
    return [f"noted: {exp_name}: {asset}, {count} cells: {note}" for (exp_name, asset, note), count in counts.items()]


def _named(member: CellState) -> str:
    """The cell within its experiment, and why it is not made."""
    name = member.cell.run_name or member.cell.scene_name or member.cell.exp_name
    return f"{name} ({member.why})" if member.why else name


def _mended_by(states: list[CellState]) -> list[str]:
    """What no plain `run` makes, and the command that does: a line each, the first of a kind."""
    stuck = [each for each in states if each.state in ("blocked", "refused") or each.by_force]
    lines = {
        each.mend: f"{each.state}: {each.asset} of {each.cell}: `{each.mend}`" for each in reversed(stuck) if each.mend
    }
    return list(reversed(lines.values()))


# --- --since: the morning summary ------------------------------------------------------------------------------------


def print_morning(night: Activity) -> None:
    """Counts first, then what needs a person: failed runs, failed checks, jobs nobody follows, what waits."""
    counts = Counter(run.status for run in night.runs)
    summary = ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no run"
    rests = "no daemon runs: sensors and schedules rest (`thesis-assets ui` starts one)"
    print(f"since {night.since.astimezone():%Y-%m-%d %H:%M}: {summary}; {'a daemon runs' if night.daemon else rests}")
    failed = [
        (run.run_id[:8], run.job, run.cells, " ".join(run.reason.split())[:REASON])
        for run in night.of("failure", "canceled")
    ]
    if failed:
        print_table("Runs that did not end well", ("run", "job", "cells", "why"), failed)
    at_work = [
        (run.run_id[:8], run.job, run.cells, run.status, "" if run.seconds is None else f"{run.seconds:.0f} s")
        for run in night.runs
        if run.status not in ("success", "failure", "canceled")
    ]
    if at_work:
        print_table("At work", ("run", "job", "cells", "state", "for"), at_work)
    checks = [(row.status, f"{row.asset}.{row.check}", row.cell, row.message[:REASON]) for row in night.checks]
    if checks:
        print_table("Checks", ("status", "check", "partition", "found"), checks)
    for job in night.jobs:
        print(job.told)
    for name, why in night.waiting.items():
        print(f"waits: {name}: {why[:REASON]}")


def morning_json(night: Activity) -> dict[str, object]:
    """The summary as plain values."""
    return {
        "since": night.since.isoformat(timespec="seconds"),
        "daemon": night.daemon,
        "runs": [run.__dict__ for run in night.runs],
        "checks": [row.__dict__ for row in night.checks],
        "jobs": [job.__dict__ | {"cell": str(job.cell), "told": job.told} for job in night.jobs],
        "waiting": night.waiting,
    }


# --- the checks: their page, made anew, and a thorough look at the samples -------------------------------------------


@checks_app.command("report")
def checks_report(
    open_page: options.Open = False,
    as_json: options.AsJson = False,
) -> None:
    """Write the page of every check of every partition.

    Exit code 3 where a blocking check has failed.
    """
    platform = load_platform()
    with dagster_instance(platform.settings) as instance:
        rows = write_pages(platform, instance)
    path = platform.settings.reports.checks
    if as_json:
        print_json({"page": str(path), "checks": [asdict(row) for row in rows]})
    else:
        failed = [row for row in rows if row.status == "failed"]
        warned = sum(row.status == "warning" for row in rows)
        if failed:
            lines = [(f"{row.asset}.{row.check}", row.cell, row.message, row.remedy) for row in failed]
            print_table("Failed checks", ("check", "partition", "found", "to mend it"), lines)
        print(f"{len(rows)} checks, {len(failed)} failed, {warned} warnings: {path}")
        print(f"everything else: {platform.settings.reports.index}")
    if open_page:
        typer.launch(path.as_uri())
    if any(row.status == "failed" and row.blocking for row in rows):
        raise typer.Exit(CHECK_FAILED)


@checks_app.command("run")
def checks_run(
    exp: options.Exp,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHECK]...", help="An asset, a check, or `asset.check`; default: every check."),
    ] = None,
    run_names: Annotated[
        list[str] | None, typer.Option("--run", help="Only the checks of these runs (repeatable).")
    ] = None,
    scenes: Annotated[
        list[str] | None, typer.Option("--scenes", help="Only the checks of these scenes' shards (repeatable).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make the checks of what is there, and nothing else.

    Exit code 3 where a blocking one fails. Each asset's checks are a run of its job `<asset>_checks`, which the web UI shows too.
    """
    from thesis_assets.definitions import build_defs

    platform = load_platform()
    run_names = platform.runs_named(exp, run_names or ())
    chosen = _chosen_checks(names or ())
    made, rows, errors = 0, [], []
    with dagster_instance(platform.settings) as instance:
        register(instance, plan_registration(platform, instance))
        try:
            platform.refuse_undeclared([Cell(exp, run_name=name) for name in run_names])
            platform.refuse_undeclared([Cell(exp, scene_name=name) for name in scenes or ()])
        except dg.Failure as error:
            wrong_use(error.description)
        works = list(works_of_checks(platform, instance, exp, chosen, run_names, scenes or ()))
        definitions = build_defs(settings=platform.settings, echo=platform.echo)
        try:
            for asset, cell, is_made in works:
                if not is_made:
                    continue
                made += 1
                progress_line(f"{asset} of {cell}")
                result = make_checks(definitions, instance, asset, cell, chosen[asset])
                evaluations = result.get_asset_check_evaluations()
                rows += [_check_row(each, str(cell), result.run_id) for each in evaluations]
                if not evaluations:
                    errors += [failure_reason(event) for event in result.get_step_failure_events()]
        finally:
            if made:
                renew_pages(platform, instance)
    if not made:
        if not works:
            wrong_use(f"nothing of {exp} has such a check")
        named = [*(f" --run {run}" for run in run_names), *(f" --scenes {scene}" for scene in scenes or ())]
        assets, cells = [asset for asset, _, _ in works], [str(cell) for _, cell, _ in works]
        progress_line(
            f"error: {first_names(assets)} of {first_names(cells)}: not made yet, and so not to be checked: "
            f"`thesis-assets run --exp {exp}{''.join(named)}` makes it"
        )
        raise typer.Exit(FAILED)
    failed, warned = (sum(row["status"] == status for row in rows) for status in ("failed", "warning"))
    code = CHECK_FAILED if failed else FAILED if errors else DONE
    if as_json:
        print_json({"exp_name": exp, "exit_code": code, "checks": rows, "errors": errors})
    else:
        shown = [row for row in rows if row["status"] != "passed"]
        if shown:
            header = ("check", "partition", "status", "found", "mend")
            print_table("", header, [[row[name] for name in header] for row in shown])
        for reason in errors:
            print(f"FAILED {reason}")
        print(f"{len(rows)} checks of {exp}: {failed} failed, {warned} {'warning' if warned == 1 else 'warnings'}")
    if code != DONE:
        raise typer.Exit(code)


def _chosen_checks(names: Sequence[str]) -> dict[str, list[str]]:
    """By asset the checks that are named, all where none is."""
    if not names:
        return {asset: list(checks) for asset, checks in CHECKS.items()}
    pairs = [(asset, check) for asset, checks in CHECKS.items() for check in checks]
    chosen: dict[str, list[str]] = {}
    for name in names:
        found = [(asset, check) for asset, check in pairs if name in (asset, check, f"{asset}.{check}")]
        if not found and name in NODES:
            after = [asset for asset in CHECKS if name in NODES[asset].upstream]
            wrong_use(f"{name} has no checks of its own; those of what is made from it: {', '.join(after) or 'none'}")
        if not found:
            known = [*CHECKS, *map(".".join, pairs), *dict.fromkeys(check for _, check in pairs)]
            near = near_names(known, [name])
            wrong_use(
                f"there is no asset with checks and no check {name!r} ({near}); "
                "the page of `thesis-assets checks report` has all that were made"
            )
        for asset, check in found:
            chosen.setdefault(asset, []).append(check)
    return chosen


def _check_row(evaluation: dg.AssetCheckEvaluation, cell: str, run_id: str) -> dict[str, str]:
    blocking = evaluation.severity == dg.AssetCheckSeverity.ERROR
    return {
        "check": f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}",
        "partition": cell,
        "status": "passed" if evaluation.passed else "failed" if blocking else "warning",
        "found": evaluation.description or "",
        "mend": str(evaluation.metadata[MEND].value) if MEND in evaluation.metadata else "",
        "run_id": run_id,
    }


@checks_app.command("samples")
def checks_samples(
    exp: Annotated[str, typer.Option("--exp", help="The experiment whose samples are read.")],
    as_json: options.AsJson = False,
) -> None:
    """Read every file of an experiment's data, and decode every image.

    Every byte is compared with what was recorded when it was written. Exit code 3 names each file that differs. The check in the graph decodes a share.
    """
    _full_look(SAMPLES, exp, (), as_json=as_json)


@checks_app.command("numbers")
def checks_numbers(
    exp: Annotated[str, typer.Option("--exp", help="The experiment whose numbers are computed again.")],
    run_names: options.OnlyRuns = None,
    as_json: options.AsJson = False,
) -> None:
    """Compute all numbers of an experiment again from the images.

    Every byte of what its runs made is compared with what was recorded, and rows by frame, rows by camera and text files with each other. Exit code 3 names each file that differs.
    """
    _full_look(NUMBERS, exp, run_names or (), as_json=as_json)


def _full_look(look: str, exp: str, run_names: Sequence[str], *, as_json: bool) -> None:
    platform = load_platform()
    run_names = platform.runs_named(exp, run_names)
    for name in run_names:
        platform.run_spec(Cell(exp, run_name=name))
    with dagster_instance(platform.settings) as instance:
        full = FullLook(platform, instance, progress_line)
        faults = full.faults(look, exp, run_names)
        if faults:
            renew_numbers(platform, instance)
    counts = {"files": full.n_files, "rows": full.n_rows, "samples": full.n_samples, "faults": len(faults)}
    if as_json:
        rows = [fault.row for fault in faults]
        print_json({"exp_name": exp, **counts, "unverified": full.unverified, "found": rows})
    else:
        for fault in faults:
            print(f"{fault.file}: {fault.problem}")
        for name in full.unverified:
            print(f"not verified yet: {name}: a version without records made it (`thesis-assets run` gives it one)")
        for command in dict.fromkeys(fault.mend for fault in faults):
            print(f"next: `{command}`")
        read = f"{counts['files']:,} files read"
        read += (
            f", {counts['samples']:,} samples decoded"
            if look == SAMPLES
            else f", {counts['rows']:,} rows computed again"
        )
        print(f"{read}: {f'{len(faults)} damaged' if faults else 'all as recorded'}")
    if faults:
        raise typer.Exit(CHECK_FAILED)


# --- clean: what killed processes left behind ------------------------------------------------------------------------


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only shown.")] = False,
    rest: Annotated[
        float,
        typer.Option("--rest-seconds", min=0, help="Leave temporary files alone that changed within so many seconds."),
    ] = REST_SECONDS,
    as_json: options.AsJson = False,
) -> None:
    """Show what killed processes left behind; --yes removes it.

    Temporary files and free locks are removed, runs that were left open are closed. What a process of this machine holds open stays, and so does what changed in the last hour: it may be another machine's.
    """
    platform = load_platform()
    found = leftovers(platform.settings, time.time(), rest_seconds=rest)
    with dagster_instance(platform.settings) as instance:
        runs = close_dead_runs(instance) if yes else [run.run_id for run in dead_runs(instance)]
    taken = [each for each in found if yes and not remove(each)]
    size = sum(each.bytes for each in found if each not in taken)
    if as_json:
        rows = [{"path": str(each.path), "kind": each.kind, "bytes": each.bytes} for each in found if each not in taken]
        print_json({"removed": yes, "bytes": size, "found": rows, "runs": runs})
        return
    table = [(each.kind, each.path, human_bytes(each.bytes), f"{each.rested / 3600:.1f} h") for each in found[:SHOWN]]
    print_table("Left behind", ("kind", "path", "size", "at rest for"), table)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")
    word = "removed" if yes else "can go"
    closed = "closed" if yes else "can be closed"
    print(f"{len(found) - len(taken)} {word}, {human_bytes(size)}; {len(runs)} runs of killed command lines {closed}")
    if (found or runs) and not yes:
        print("next: the same command with --yes")
