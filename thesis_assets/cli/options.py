"""The options that several commands share: one name, one help, one meaning."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else on standard output.")]
Exp = Annotated[str, typer.Option("--exp", help="The experiment.")]
ExpOrNone = Annotated[str | None, typer.Option("--exp", help="The experiment.")]
OnlyExp = Annotated[str | None, typer.Option("--exp", help="Only this experiment.")]
Run = Annotated[str, typer.Option("--run", help="The run.")]
RunOrNone = Annotated[str | None, typer.Option("--run", help="The run.")]
OnlyRuns = Annotated[
    list[str] | None,
    typer.Option("--run", help="Only these runs (repeatable); a sweep's name takes all of its points."),
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Probe = Annotated[
    bool | None,
    typer.Option(
        "--probe/--no-probe",
        help="On Slurm: make a two-minute job first that tells what the work will take. Default: where there is much to do and no past "
        "work to go by, and not in a dry run.",
    ),
]
