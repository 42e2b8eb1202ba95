"""`thesis-assets serve`: the web server alone, on loopback or on a socket file that only its owner can open.

For a machine where the daemon runs as a service of its own; `thesis-assets ui` starts both. Does not belong here: runs, the daemon.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import dagster as dg
import typer

from thesis_assets.cli.console import WRONG_USE, load_platform, prepare_dagster_home, progress_line
from thesis_assets.errors import ThesisAssetsError

MODULE = "thesis_assets.definitions"
LONGEST_SOCKET_PATH = 107
"""Bytes, of a Unix socket's address on Linux."""


def serve(
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1: open to everybody on this machine.")] = 3000,
    socket: Annotated[
        Path | None, typer.Option("--socket", help="A socket file instead of a port: open to its owner alone.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, start and change nothing.")] = False,
) -> None:
    """Serve the web UI, without a daemon. Ends with Ctrl-C."""
    platform = load_platform()
    home = prepare_dagster_home(platform.settings)
    kind = "read-only dashboard" if read_only else "web server"
    if socket is not None:
        path = prepare_socket(socket)
        progress_line(f"{kind} on {path} (history in {home}); from your machine: ssh -L 3000:{path} <this machine>")
        serve_on_socket(path, read_only=read_only)
        return
    progress_line(f"{kind} on http://127.0.0.1:{port} (history in {home}); Ctrl-C ends it")
    command = [sys.executable, "-m", "dagster_webserver", "-m", MODULE, "-h", "127.0.0.1", "-p", str(port)]
    if read_only:
        command.append("--read-only")
    os.execv(command[0], command)  # noqa: S606 - the server takes this process's place, so that a signal reaches it


def prepare_socket(path: Path) -> Path:
    """A free place for a socket file in a folder that nobody but its owner can enter.

    The folder's mode protects the socket: the file's own mode is set by the server, after it exists.

    Raises:
        ThesisAssetsError: the folder lets others in, the address is too long, or a server answers there.
    """
    import socket

    path = path.expanduser().absolute()
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise ThesisAssetsError(
            "the socket's path is too long for this system",
            file=path,
            key="--socket",
            found=f"{len(os.fsencode(path))} bytes",
            wanted=f"at most {LONGEST_SOCKET_PATH}",
            remedy="name a shorter path",
        )
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    mode = path.parent.stat().st_mode & 0o777
    if mode & 0o077 or path.parent.stat().st_uid != os.geteuid():
        raise ThesisAssetsError(
            "other users could open a socket in this folder",
            file=path.parent,
            key="--socket",
            found=f"mode {mode:o}, owner {path.parent.stat().st_uid}",
            wanted=f"mode 700, owner {os.geteuid()}",
            remedy=f"chmod 700 {path.parent}, or name a path in a folder of its own",
        )
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)  # left by a server that was killed
            return path
    progress_line(f"error: a server answers on {path} already")
    raise typer.Exit(WRONG_USE)


def serve_on_socket(path: Path, *, read_only: bool) -> None:
    """Dagster's own application under uvicorn, which can listen on a socket file; `dagster-webserver` has no option for it."""
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    target = ModuleTarget(module_name=MODULE, attribute=None, working_directory=None, location_name=None)
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(
            instance, version=__version__, read_only=read_only, workspace_load_target=target
        ) as context,
    ):
        uvicorn.run(create_app_from_workspace_process_context(context), uds=str(path), log_level="warning")
