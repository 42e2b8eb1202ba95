"""`thesis-assets ui`: the Dagster web server and daemon on this machine's loopback.

The web server is this process, the daemon a child. They end together: by Ctrl-C, and when one of them is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import dagster as dg
import typer

from thesis_assets.cli.console import load_platform, prepare_dagster_home, progress_line
from thesis_assets.cli.serve import listen_on_port, run_web_server, serve
from thesis_assets.defs.levels import CODE_LOCATION
from thesis_assets.errors import ThesisAssetsError, reason_of
from thesis_assets.launch.commands import end_tree
from thesis_assets.launch.starter_watch import watched

GRACE_SECONDS = 20.0
"""For the daemon, and the runs below it, to say in the history that they end; then they are killed."""


def ui(
    port: Annotated[
        int,
        typer.Option("--port", help="Port on 127.0.0.1. For another one, set THESIS_UI_URL: links to runs go there."),
    ] = 3000,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The web server alone: shows everything, starts and changes nothing.")
    ] = False,
) -> None:
    """Start the web server and the daemon, with the history of earlier runs. Ends with Ctrl-C."""
    if read_only:
        serve(port=port, socket=None, read_only=True)
        return
    platform = load_platform()
    home = prepare_dagster_home(platform.settings)
    listening = listen_on_port(port)
    log = home / "ui.log"
    progress_line(f"Dagster: http://127.0.0.1:{port} (the first page comes in some seconds)")
    progress_line(f"History: {home}; what Dagster says: {log}")
    if (index := platform.settings.reports.index).is_file():
        progress_line(f"Results on one page: {index}")
    progress_line("Ctrl-C ends it.")
    with _everything_said_in(log), contextlib.suppress(KeyboardInterrupt), _daemon() as daemon:
        run_web_server(listening, platform.settings, beside=daemon)
        code = daemon.wait()
        raise ThesisAssetsError(
            "the daemon has ended, and the web server with it",
            file=log,
            found=f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}",
            remedy=f"tail -50 {log}; then start it again",
        )


@contextlib.contextmanager
def _everything_said_in(log: Path) -> Iterator[None]:
    """What this process and those below it write goes to a file; the terminal gets an error that ends the command, no more."""
    terminal = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except BaseException:
        os.dup2(terminal, 2)
        raise


@contextlib.contextmanager
def _daemon() -> Iterator["subprocess.Popen[bytes]"]:
    """Dagster's daemon, which ends with this process however that ends; runs that are under way end with it."""
    level = os.environ.get("DAGSTER_DAEMON_LOG_LEVEL", "error")
    # The history's tables are made here: two processes that make them at once leave a history that Dagster cannot read.
    with dg.DagsterInstance.get() as instance:
        daemon = subprocess.Popen(
            watched([sys.executable, "-m", "dagster._daemon", "run", "-m", CODE_LOCATION]),
            env={**os.environ, "DAGSTER_DAEMON_LOG_LEVEL": level},
            process_group=0,
        )
        try:
            yield daemon
        finally:
            end_tree(daemon.pid, "", grace_seconds=GRACE_SECONDS)
            daemon.wait()
            try:  # else a backfill could be handed to it while its last word is fresh
                instance.wipe_daemon_heartbeats()
            except Exception as error:  # noqa: BLE001  the database may have ended first, and each kind says so in its own way
                progress_line(f"the daemon's last word stays in the history: {reason_of(error)}")
