"""`thesis-assets checks`: the page over all cells, the checks of some cells made anew, and a thorough look at the samples."""

from collections.abc import Sequence
from dataclasses import asdict
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
from thesis_assets.defs.checks.outcomes import CHECKS
from thesis_assets.defs.failures import failure_reason
from thesis_assets.defs.levels import make_checks, works_of_checks
from thesis_assets.defs.metadata import MEND
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.registration import plan_registration, register
from thesis_assets.defs.report_pages import renew_pages, write_pages
from thesis_assets.errors import near_names

checks_app = typer.Typer(no_args_is_help=True)


@checks_app.callback()
def checks() -> None:
    """Look at the checks' outcomes, make them anew, or check more thoroughly."""


@checks_app.command("report")
def checks_report(
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonOption = False,
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
            print_table(
                "Failed checks",
                ("check", "partition", "found", "to mend it"),
                [(f"{r.asset}.{r.check}", r.cell, r.message, r.remedy) for r in failed],
            )
        print(f"{len(rows)} checks, {len(failed)} failed, {warned} warnings: {path}")
        print(f"everything else: {platform.settings.reports.index}")
    if open_page:
        typer.launch(path.as_uri())
    if any(row.status == "failed" and row.blocking for row in rows):
        raise typer.Exit(CHECK_FAILED)


@checks_app.command("run")
def checks_run(
    exp: Annotated[str, typer.Option("--exp", help="The experiment.")],
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
    as_json: JsonOption = False,
) -> None:
    """Make the checks of what is there, and nothing else.

    Exit code 3 where a blocking one fails. Each asset's checks are a run of its job `<asset>_checks`, which the web UI shows too.
    """
    from thesis_assets.definitions import build_defs

    platform = load_platform()
    platform.experiments.read(exp)
    chosen = _chosen_checks(names or ())
    made, rows, errors = 0, [], []
    with dagster_instance(platform.settings) as instance:
        register(instance, plan_registration(platform, instance))
        try:
            platform.refuse_undeclared([Cell(exp, run_name=name) for name in run_names or ()])
            platform.refuse_undeclared([Cell(exp, scene_name=name) for name in scenes or ()])
        except dg.Failure as error:
            progress_line(f"error: {error.description}")
            raise typer.Exit(WRONG_USE) from error
        works = list(works_of_checks(platform, instance, exp, chosen, run_names or (), scenes or ()))
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
        named = [*(f" --run {run}" for run in run_names or ()), *(f" --scenes {scene}" for scene in scenes or ())]
        assets, cells = [asset for asset, _, _ in works], [str(cell) for _, cell, _ in works]
        progress_line(
            f"error: {first_names(assets)} of {first_names(cells)}: not made yet, and so not to be checked: "
            f"`thesis-assets run --exp {exp}{''.join(named)}` makes it"
            if works
            else f"error: nothing of {exp} has such a check"
        )
        raise typer.Exit(FAILED if works else WRONG_USE)
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
    chosen: dict[str, list[str]] = {}
    for name in names:
        found = [
            (asset, check)
            for asset, checks in CHECKS.items()
            for check in checks
            if name in (asset, check, f"{asset}.{check}")
        ]
        if not found:
            known = [*CHECKS, *(f"{asset}.{check}" for asset, checks in CHECKS.items() for check in checks)]
            known = [*known, *dict.fromkeys(check for checks in CHECKS.values() for check in checks)]
            near = near_names(known, [name])
            progress_line(
                f"error: there is no asset with checks and no check {name!r} ({near}); "
                "the page of `thesis-assets checks report` has all that were made"
            )
            raise typer.Exit(WRONG_USE)
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
    as_json: JsonOption = False,
) -> None:
    """Decode every image of every sample.

    The check in the graph decodes a share. Exit code 3 where one is damaged.
    """
    from thesis_assets.samples.integrity import check_samples_complete
    from thesis_assets.samples.sample_rows import read_rows

    platform = load_platform()
    platform.experiments.read(exp)
    tree = platform.difix(Cell(exp))
    outcome = check_samples_complete(tree, read_rows(tree.all_samples), full=True)
    if as_json:
        print_json(outcome.model_dump(mode="json"))
    else:
        for offender in outcome.offenders:
            print(offender)
        print(f"{outcome.counts['samples']} samples, {outcome.counts['offenders']} damaged: {outcome.message}")
    if not outcome.passed:
        raise typer.Exit(CHECK_FAILED)
