"""The services: `ui` starts web server and daemon on this machine, `serve` the web server alone; a guard stands before it.

`ui`'s web server is this process, the daemon a child. They end together: by Ctrl-C, and when one of them is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from socket import AF_INET, AF_UNIX, SO_REUSEADDR, SOL_SOCKET
from socket import socket as Socket  # noqa: N812 - an option has its name
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import typer

from thesis_assets.cli.console import dagster_instance, load_platform, prepare_dagster_home, progress_line, wrong_use
from thesis_assets.errors import ThesisAssetsError, reason_of
from thesis_assets.launch.commands import end_tree
from thesis_assets.launch.supervisors import watched
from thesis_assets.operations.execution import CODE_LOCATION
from thesis_assets.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


GRACE_SECONDS = 20.0
"""For the daemon, and the runs below it, to say in the history that they end; then they are killed."""
LONGEST_SOCKET_PATH = 107
"""Bytes, of a Unix socket's address on Linux."""
POLL_MS = 2000
"""How often open pages ask for what is new."""
ANSWER_SECONDS = 5
"""For answers that are under way when the server is ended."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
QUERIES = ("application/json", "application/graphql")
"""Content types that a page of another origin can only send after asking, and the answer is no."""


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
    with dagster_instance(platform.settings):
        home = platform.settings.dagster_home  # its tables are there before server and daemon ask for them at once
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


# --- serve: the web server, on loopback or on a socket file that only its owner can open -----------------------------


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
    listening: Socket, settings: Settings, *, read_only: bool = False, beside: "subprocess.Popen[bytes] | None" = None
) -> None:
    """Dagster's own application behind the guard, with a code server of its own, until a signal comes (KeyboardInterrupt).

    `dagster-webserver` has no option for a guard, nor for a socket file. `beside`: a process with whose end this one ends.
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
        config = uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=ANSWER_SECONDS)
        server = uvicorn.Server(config)

        def end_with(process: "subprocess.Popen[bytes]") -> None:
            process.wait()
            server.should_exit = True

        if beside is not None:
            threading.Thread(target=end_with, args=[beside], daemon=True).start()
        server.run(sockets=[listening])


def listen_on_port(port: int) -> Socket:
    """A port of 127.0.0.1, taken at once: who connects while Dagster is being loaded, waits."""
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
    """A socket file in a folder that nobody but its owner can enter, and its absolute path. Ends the command where a server answers."""
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
        else:
            wrong_use(f"a server answers on {path} already")
    listening = Socket(AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen()
    return listening, path


# --- the guard before Dagster's web server ---------------------------------------------------------------------------


class Guard:
    """An ASGI application before another: foreign requests are answered with 403 and the reason, websockets with 403.

    `names`: hosts under which the server is reached, besides loopback's.
    """

    def __init__(self, app: "ASGIApp", names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset({*LOOPBACK, *names})

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        if scope["type"] in ("http", "websocket"):
            method = scope.get("method", "WEBSOCKET")
            try:
                refuse(
                    method, scope["path"], scope["query_string"].decode("latin-1"), Headers(scope=scope), self._names
                )
            except ThesisAssetsError as refused:
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                else:
                    await PlainTextResponse(f"refused: {refused}\n", status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def refuse(method: str, path: str, query: str, headers: Mapping[str, str], names: Collection[str]) -> None:
    """Pass what a program, or a page of this very server, may ask.

    Args:
        method: of HTTP, or `WEBSOCKET`.
        headers: by lower-case names.
        names: hosts under which the server is reached.

    Raises:
        ThesisAssetsError: the request could come from a foreign page.
    """
    host = headers.get("host", "").lower()
    if _name(host) not in names:
        raise ThesisAssetsError(
            "this server does not answer to this name",
            key="Host",
            found=host,
            wanted=f"{', '.join(sorted(names))}, on any port",
            remedy="where the name is yours: set THESIS_UI_URL=https://<name>, in .env, and start the server again",
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host:
        raise ThesisAssetsError(
            "a page of another origin may not use this server",
            key="Origin",
            found=origin,
            wanted=f"the server's own pages: http(s)://{host}",
            remedy="open the UI itself; behind a proxy, pass on the browser's own Host (nginx: proxy_set_header Host $http_host)",
        )
    # Ports do not count here: another server of this machine is `same-site`. Browsers leave the header out where they do not trust
    # the address; then the Origin has to do.
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not _follows_a_link(method, headers):
        raise ThesisAssetsError(
            "another site may link to this server's pages, but neither show them in itself nor send anything",
            key="Sec-Fetch-Site",
            found=headers["sec-fetch-site"],
            wanted="same-origin",
            remedy="open the address in a tab of its own",
        )
    content = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method not in ("GET", "HEAD", "WEBSOCKET") and content not in QUERIES:
        raise ThesisAssetsError(
            "what changes something is sent as JSON, never as a form",
            key="Content-Type",
            found=content or "none",
            wanted=" or ".join(QUERIES),
            remedy="curl -H 'Content-Type: application/json' --data '{...}'",
        )
    if method in ("GET", "HEAD") and path == "/graphql" and "query" in parse_qs(query, keep_blank_values=True):
        raise ThesisAssetsError(
            "a query does not stand in the address, where it could change something",
            key="query",
            found=method,
            wanted="POST",
            remedy="curl -H 'Content-Type: application/json' --data '{\"query\": ...}'",
        )


def _name(host: str) -> str | None:
    """`[::1]:3000` -> `::1`; None where it is no host."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _follows_a_link(method: str, headers: Mapping[str, str]) -> bool:
    """A whole page, in a tab; not a frame of another page, in which a person can be made to click."""
    page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return method in ("GET", "HEAD") and page
