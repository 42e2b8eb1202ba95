"""`thesis-assets checks report` and `checks samples`: the page over all cells, and a thorough look at one."""

from typing import Annotated

import typer

from thesis_assets.cli.console import CHECK_FAILED, JsonOption, dagster_instance, load_platform, print_json, print_table
from thesis_assets.defs.check_history import check_rows
from thesis_assets.defs.check_page import write_check_page
from thesis_assets.defs.partitions import Cell

checks_app = typer.Typer(no_args_is_help=True)


@checks_app.callback()
def checks() -> None:
    """Look at the checks' outcomes, or check more thoroughly."""


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
        rows = check_rows(instance)
    path = platform.settings.reports.checks
    write_check_page(path, rows, ui_url=platform.settings.ui_url)
    if as_json:
        print_json({"page": str(path), "checks": [row.__dict__ for row in rows]})
    else:
        failed = [row for row in rows if row.status == "failed"]
        print_table(
            "Failed checks",
            ("check", "partition", "found"),
            [(f"{r.asset}.{r.check}", r.cell, r.message) for r in failed],
        )
        print(f"{len(rows)} checks, {len(failed)} failed: {path}")
    if open_page:
        typer.launch(path.as_uri())
    if any(row.status == "failed" and row.blocking for row in rows):
        raise typer.Exit(CHECK_FAILED)


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
