"""`thesis-assets ui` and pages of another origin: what they try changes nothing, what the UI and a tunnel do works.

One server for all tests; the last ones end it, each in another way.
"""

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg
import psutil
import pytest

from thesis_assets.operations.execution import daemon_runs
from thesis_assets_tests.services.browser import chromium
from thesis_assets_tests.services.dagster_server import DagsterServer, free_port, prepare_home
from thesis_assets_tests.worlds import SMALL, World, thesis_assets

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.long

SELECTOR = '{repositoryName: "__repository__", repositoryLocationName: "thesis_assets.definitions"}'
END_S = 40
NAME = "thesis.example"
"""What the server is called by THESIS_UI_URL."""


def mutation(key: str) -> str:
    """Adds a partition key: the least that changes something and can be looked up."""
    return (
        f'mutation {{ addDynamicPartition(repositorySelector: {SELECTOR}, partitionsDefName: "exp_name", '
        f'partitionKey: "{key}") {{ __typename }} }}'
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    made = World(tmp_path_factory.mktemp("guarded") / "home", scene_home)
    made.write(SMALL)
    prepare_home(made)
    return made


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[DagsterServer]:
    """Started as a shell script starts what it puts behind `&`: with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running = DagsterServer(world, world.home / "terminal.log", {"THESIS_UI_URL": f"https://{NAME}:3443"})
    finally:
        signal.signal(signal.SIGINT, before)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def instance(world: World) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(world.settings.dagster_home)) as opened:
        yield opened


def ask(
    server: DagsterServer, path: str = "/graphql", body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, str]:
    """Status and text of an answer. `headers`: `sec_fetch_site` for `sec-fetch-site`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def handshake(server: DagsterServer, origin: str) -> bytes:
    """The first line of the answer to a websocket's handshake."""
    lines = [
        "GET /graphql HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Origin: {origin}",
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: graphql-ws"),
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(4096).splitlines()[0]


def keys(instance: dg.DagsterInstance) -> set[str]:
    return {key for key in instance.get_dynamic_partitions("exp_name") if key.startswith("planted")}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", f"{NAME}:3443", NAME],
    ids=["tunnel", "tunnel by name", "IPv6", "proxy", "proxy on the usual port"],
)
def test_a_tunnel_and_a_proxy_reach_the_server(server: DagsterServer, host: str) -> None:
    scheme = "https" if NAME in host else "http"
    own = {"Origin": f"{scheme}://{host}", "sec_fetch_site": "same-origin", "content_type": "application/json"}
    status, text = ask(server, body={"query": "{ version }"}, Host=host, **own)
    assert (status, "version" in text) == (200, True), text


def test_the_same_change_is_made_for_the_servers_own_page_and_refused_for_any_other(
    server: DagsterServer, instance: dg.DagsterInstance
) -> None:
    address = f"/graphql?query={quote(mutation('planted_foreign'))}"
    foreign = {"query": mutation("planted_foreign")}
    own = {"Origin": f"http://127.0.0.1:{server.port}", "content_type": "application/json"}
    answers = [
        ask(server, address),
        ask(server, address, accept="text/html"),
        ask(server, address, method="HEAD"),
        ask(server, address, body="", content_type="text/plain"),
        ask(server, address, body="a=b", content_type="application/x-www-form-urlencoded"),
        ask(server, body=foreign, content_type="text/plain; a=application/json"),
        ask(server, body=foreign, **own | {"Origin": "https://evil.example"}),
        ask(server, body=foreign, **own | {"Origin": "http://127.0.0.1:1"}),
        ask(server, body=foreign, **own | {"Host": "evil.example", "Origin": "http://evil.example"}),
        ask(server, body=foreign, content_type="application/json", sec_fetch_site="cross-site"),
    ]
    assert [status for status, _ in answers] == [403] * len(answers)
    assert keys(instance) == set()
    status, text = ask(server, body={"query": mutation("planted_own")}, **own)
    assert (status, keys(instance)) == (200, {"planted_own"}), text


@pytest.mark.parametrize("path", ["report_asset_materialization", "report_asset_observation", "report_asset_check"])
def test_no_form_reports_an_event(server: DagsterServer, path: str, instance: dg.DagsterInstance) -> None:
    asset = f"planted_{path}"
    address = f"/{path}/{asset}?check_name=a&passed=true&data_version=1"
    assert ask(server, address, method="POST")[0] == 403  # without a type; Dagster takes the values of the address
    assert ask(server, address, body="a=b", content_type="application/x-www-form-urlencoded")[0] == 403
    assert dg.AssetKey(asset) not in instance.all_asset_keys()


def test_a_websocket_opens_for_the_servers_own_page_alone(server: DagsterServer) -> None:
    assert b" 101 " in handshake(server, f"http://127.0.0.1:{server.port}")
    assert b" 403 " in handshake(server, "https://evil.example")
    assert b" 403 " in handshake(server, f"http://localhost:{server.port}")


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title><body>")

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is not a server's log."""


@pytest.fixture(scope="module")
def foreign() -> Iterator[int]:
    """The port of another server of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium("--host-resolver-rules=MAP evil.example 127.0.0.1") as opened:
        yield opened


TRY = """
async ([address, mutation]) => {
  const url = address + '/graphql?query=' + encodeURIComponent(mutation);
  const json = {method: 'POST', body: JSON.stringify({query: mutation}), headers: {'Content-Type': 'application/json'}};
  const settled = (make) => new Promise((done) => { make(done); setTimeout(() => done('nothing'), 5000); });
  const outcome = {};
  outcome.image = await settled((done) => { const it = new Image(); it.onload = it.onerror = (e) => done(e.type); it.src = url; });
  outcome.get = await fetch(url, {mode: 'no-cors'}).then((answer) => answer.type, (error) => 'refused');
  outcome.text = await fetch(url, {method: 'POST', mode: 'no-cors', body: ''}).then((answer) => answer.type, () => 'refused');
  outcome.json = await fetch(address + '/graphql', json).then((answer) => answer.status, () => 'refused');
  outcome.form = await settled((done) => {
    const frame = document.createElement('iframe'), form = document.createElement('form');
    frame.name = 'hidden'; frame.onload = () => done('answered'); document.body.append(frame, form);
    Object.assign(form, {action: url, method: 'POST', target: 'hidden'}); form.submit();
  });
  outcome.socket = await settled((done) => {
    const it = new WebSocket(address.replace('http', 'ws') + '/graphql', 'graphql-ws');
    it.onopen = () => done('open'); it.onerror = () => done('refused');
  });
  return outcome;
}
"""


def test_in_a_browser_a_page_of_another_port_or_name_changes_nothing(
    browser: "Browser", server: DagsterServer, foreign: int, instance: dg.DagsterInstance
) -> None:
    address = f"http://127.0.0.1:{server.port}"
    page = browser.new_page()
    before = keys(instance)
    for place in (f"http://127.0.0.1:{foreign}", f"http://evil.example:{foreign}"):
        page.goto(place)
        outcome = page.evaluate(TRY, [address, mutation("planted_foreign")])
        assert (outcome["json"], outcome["socket"], outcome["image"]) == ("refused", "refused", "error"), outcome
    assert keys(instance) == before

    answer = page.goto(f"http://evil.example:{server.port}/")  # its own name now leads here: DNS rebinding
    assert answer is not None
    assert answer.status == 403
    assert page.get_by_text("THESIS_UI_URL").count() == 1

    page.goto(address, wait_until="domcontentloaded")
    outcome = page.evaluate(TRY, [address, mutation("planted_in_the_ui")])
    assert (outcome["json"], outcome["socket"]) == (200, "open"), outcome
    assert keys(instance) - before == {"planted_in_the_ui"}
    page.close()


def test_in_a_browser_a_link_opens_the_ui_and_a_frame_does_not(
    browser: "Browser", server: DagsterServer, foreign: int
) -> None:
    address = f"http://127.0.0.1:{server.port}"
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{foreign}")
    with page.expect_response(f"{address}/runs") as framed:
        page.evaluate(
            "url => { const it = document.createElement('iframe'); it.src = url; document.body.append(it); }",
            f"{address}/runs",
        )
    assert framed.value.status == 403
    page.evaluate(
        "url => { const it = document.createElement('a'); it.href = url; it.textContent = 'to the run'; document.body.append(it); }",
        f"{address}/runs",
    )
    page.get_by_text("to the run").click()
    page.wait_for_url(f"{address}/runs**", wait_until="domcontentloaded")
    page.get_by_text("Runs", exact=True).first.wait_for()
    page.close()


def test_the_terminal_says_where_it_is_and_nothing_of_what_dagster_does(server: DagsterServer, world: World) -> None:
    server.wait_for_run(server.launch("report", ("leaderboard",), None))
    lines = server.log.read_text().splitlines()
    assert len(lines) == 3, lines
    assert f"http://127.0.0.1:{server.port}" in lines[0]
    assert str(world.settings.dagster_home) in lines[1]
    assert "Ctrl-C" in lines[2]
    log = world.settings.dagster_home / "ui.log"
    assert "RUN_SUCCESS" in log.read_text()
    program = psutil.Process(server.process.pid)
    said_in: set[str] = set()
    for process in [program, *program.children(recursive=True)]:
        with contextlib.suppress(FileNotFoundError):  # one of the last run's that has ended
            said_in |= {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in (1, 2)}
    assert said_in == {str(log)}


def test_a_port_that_is_taken_is_said_at_once(server: DagsterServer, world: World) -> None:
    for command in ("ui", "serve"):
        done = thesis_assets(world, command, "--port", str(server.port))
        assert done.returncode == 1
        assert f"--port {server.port + 1}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ended", ["by Ctrl-C", "by SIGTERM", "with its daemon", "by a kill"])
def test_web_server_and_daemon_end_together(server: DagsterServer, ended: str, instance: dg.DagsterInstance) -> None:
    if server.process.poll() is not None:
        server.start()
    program = psutil.Process(server.process.pid)
    below = program.children(recursive=True)
    (daemon,) = [each for each in below if "dagster._daemon" in each.cmdline() and each.ppid() != program.pid]
    deadline = time.monotonic() + END_S
    while ended == "by Ctrl-C" and not daemon_runs(instance):
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.2)
    said = server.log.read_text()
    if ended in ("by Ctrl-C", "by SIGTERM"):
        server.launch("report", ("leaderboard",), None)  # It ends in the midst of its work.
        program.send_signal(signal.SIGINT if ended == "by Ctrl-C" else signal.SIGTERM)
        assert server.process.wait(END_S) == 0, server.log_tail()
        assert server.log.read_text() == said
    elif ended == "with its daemon":
        daemon.kill()
        assert server.process.wait(END_S) == 1
        error = server.log.read_text().removeprefix(said)
        assert error.startswith("error: the daemon has ended"), error
        assert "ended by SIGKILL" in error
        assert "Traceback" not in error
    if ended != "by a kill":
        assert not daemon_runs(instance)
    else:
        program.kill()
        server.process.wait(END_S)
        # The web server's code server waits 45 seconds for a sign of life: it is ended here.
        for process in below:
            if process not in [daemon, *daemon.children(recursive=True), daemon.parent()]:
                process.kill()
    deadline = time.monotonic() + END_S
    while left := [process for process in below if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_the_history_is_made_before_the_daemon_that_would_make_it_too(tmp_path: Path, scene_home: Path) -> None:
    world = World(tmp_path / "home", scene_home)
    world.write(SMALL)
    prepare_home(world)
    words = [sys.executable, "-m", "thesis_assets.cli.main", "ui", "--port", str(free_port())]
    program = subprocess.Popen(words, env={**os.environ, **world.environment})
    try:
        deadline = time.monotonic() + END_S
        # Just after its fork, a child has its parent's command line.
        while not any("dagster._daemon" in child.cmdline() for child in psutil.Process(program.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        made = [path.name for path in world.settings.dagster_home.glob("*/**/*.db")]
    finally:
        program.kill()
        program.wait()
    assert sorted(made) == ["index.db", "runs.db", "schedules.db"]
