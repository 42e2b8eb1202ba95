"""`thesis-assets serve`: the web server alone, on loopback or on a socket file that only its owner can open.

For a machine where the daemon runs as a service of its own; `thesis-assets ui` starts both. Does not belong here: runs, the daemon.
"""

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from socket import AF_INET, AF_UNIX, SO_REUSEADDR, SOL_SOCKET
from socket import socket as Socket  # noqa: N812 - an option has its name
from typing import Annotated
from urllib.parse import urlsplit

import dagster as dg
import typer

from thesis_assets.cli.console import WRONG_USE, load_platform, prepare_dagster_home, progress_line
from thesis_assets.defs.levels import CODE_LOCATION
from thesis_assets.errors import ThesisAssetsError
from thesis_assets.settings import Settings

LONGEST_SOCKET_PATH = 107
"""Bytes, of a Unix socket's address on Linux."""
POLL_MS = 2000
"""How often open pages ask for what is new."""
GRACE_SECONDS = 5
"""For answers that are under way when the server is ended."""


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
        listening, path = listen_on_socket_file(socket)
        progress_line(f"{kind} on {path} (history in {home}); from your machine: ssh -L 3000:{path} <this machine>")
    else:
        listening = listen_on_port(port)
        progress_line(f"{kind} on http://127.0.0.1:{port} (history in {home}); Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        run_web_server(listening, platform.settings, read_only=read_only)


def run_web_server(
    listening: Socket,
    settings: Settings,
    *,
    read_only: bool = False,
    beside: "subprocess.Popen[bytes] | None" = None,
) -> None:
    """Dagster's own application behind the guard, with a code server of its own, until a signal comes.

    `dagster-webserver` has no option for a guard, nor for a socket file.

    Args:
        beside: a process with whose end this one ends.

    Raises:
        KeyboardInterrupt: a signal ended it.
    """
    # SIGTERM is as Ctrl-C: the code server is ended too. A shell script starts what it puts behind `&` with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster_webserver import cli as defaults
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    from thesis_assets.cli.web_guard import Guard

    target = ModuleTarget(
        module_name=CODE_LOCATION, attribute=None, working_directory=str(Path.cwd()), location_name=None
    )
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(
            instance,
            version=__version__,
            read_only=read_only,
            workspace_load_target=target,
            code_server_log_level="warning",
        ) as context,
    ):
        instance.optimize_for_webserver(
            defaults.DEFAULT_DB_STATEMENT_TIMEOUT, defaults.DEFAULT_POOL_RECYCLE, defaults.DEFAULT_POOL_MAX_OVERFLOW
        )
        app = create_app_from_workspace_process_context(context, live_data_poll_rate=POLL_MS)
        guarded = Guard(app, [str(urlsplit(settings.ui_url).hostname)])
        config = uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
        server = uvicorn.Server(config)

        def end_with(process: "subprocess.Popen[bytes]") -> None:
            process.wait()
            server.should_exit = True

        if beside is not None:
            threading.Thread(target=end_with, args=[beside], daemon=True).start()
        server.run(sockets=[listening])


def listen_on_port(port: int) -> Socket:
    """A port of 127.0.0.1, taken at once: who connects while Dagster is being loaded, waits.

    Raises:
        ThesisAssetsError: the port is taken, or not allowed.
    """
    listening = Socket(AF_INET)
    listening.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise ThesisAssetsError(
            "the port cannot be used",
            key="--port",
            found=f"{port}: {getattr(error, 'strerror', None) or error}",
            wanted="a free port of 127.0.0.1",
            remedy=f"open http://127.0.0.1:{port} (perhaps a server of yours answers there already), or name another: --port {port + 1}",
        ) from error
    return listening


def listen_on_socket_file(path: Path) -> tuple[Socket, Path]:
    """A socket file in a folder that nobody but its owner can enter, and its absolute path.

    Raises:
        ThesisAssetsError: the folder lets others in, the address is too long.
        typer.Exit: a server answers there.
    """
    path = prepare_socket(path)
    listening = Socket(AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen()
    return listening, path


def prepare_socket(path: Path) -> Path:
    """A free place for a socket file in a folder that nobody but its owner can enter.

    Raises:
        ThesisAssetsError: the folder lets others in, the address is too long, or a server answers there.
    """
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
    with Socket(AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)  # left by a server that was killed
            return path
    progress_line(f"error: a server answers on {path} already")
    raise typer.Exit(WRONG_USE)
