"""`thesis-assets ui`: the Dagster web server and daemon on this machine's loopback."""

import os
import sys
from typing import Annotated

import typer

from thesis_assets.cli.console import load_platform, prepare_dagster_home, progress_line
from thesis_assets.cli.serve import serve


def ui(
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.")] = 3000,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The web server alone: shows everything, starts and changes nothing.")
    ] = False,
) -> None:
    """Start the web server and the daemon, with the history of earlier runs. Ends with Ctrl-C."""
    if read_only:
        serve(port=port, socket=None, read_only=True)
    platform = load_platform()
    home = prepare_dagster_home(platform.settings)
    progress_line(f"Dagster on http://127.0.0.1:{port} (history in {home}); Ctrl-C ends it")
    if (index := platform.settings.reports.index).is_file():
        progress_line(f"what there is, as one page without a server: {index}")
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-m",
        "thesis_assets.definitions",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    os.execv(command[0], command)  # noqa: S606 - the server takes this process's place, so that Ctrl-C reaches it
