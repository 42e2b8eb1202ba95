"""What `deploy/` ships, as it is: the units' own commands, the socket that only its owner opens, the door with a token."""

import configparser
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thesis_assets.settings import Settings
from thesis_assets_tests.services.dagster_server import LAUNCH, ROOT, free_port, prepare_home
from thesis_assets_tests.services.required import absent
from thesis_assets_tests.worlds import SMALL, World

pytestmark = pytest.mark.long

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
START_S = 120
TOKEN = "0123456789abcdef" * 4


def command_of(unit: Path, home: Path, **replaced: str) -> list[str]:
    """A unit's command for a person of this home, run by this environment."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    program, *arguments = parser["Service"]["ExecStart"].replace("%h", str(home)).split()
    assert Path(program).is_relative_to(home / "thesis_assets" / ".venv" / "bin"), "the checkout's own environment"
    return [str(Path(sys.executable).parent / Path(program).name), *(replaced.get(each, each) for each in arguments)]


class Connection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask_socket(path: Path, url: str) -> bytes:
    connection = Connection(path)
    connection.request("GET", url)
    return connection.getresponse().read()


def wait_until(answers: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            answers()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"no answer in {START_S} s:\n{log.read_text()[-4000:]}")


def started(command: list[str], world: World, home: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env={**os.environ, **world.environment, "HOME": str(home)},
        cwd=world.home,
        stdout=log.open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    made = World(tmp_path_factory.mktemp("deployed") / "home", scene_home)
    made.write(SMALL)
    prepare_home(made)
    return made


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory; its path is short, since a socket's address is."""
    return tmp_path_factory.mktemp("me")


@pytest.fixture(scope="module")
def web_socket(world: World, person: Path) -> Iterator[Path]:
    log = person / "web.log"
    process = started(command_of(DEPLOY / "systemd" / "thesis-assets-web.service", person), world, person, log)
    path = person / ".thesis-assets" / "ui.sock"
    try:
        wait_until(lambda: ask_socket(path, "/server_info"), process, log)
        yield path
    finally:
        end(process)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    # `verify` wants the programs to be there; what is looked at is the unit.
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit.read_text(), flags=re.MULTILINE)
    copy = tmp_path / unit.name
    copy.write_text(text.replace("%h/thesis_assets", "/"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )

    assert unit.name not in done.stderr, done.stderr


def test_the_web_servers_socket_is_its_owners_alone(web_socket: Path) -> None:
    assert "dagster_version" in json.loads(ask_socket(web_socket, "/server_info"))
    assert stat.S_IMODE(web_socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(web_socket.stat().st_mode) == 0o600


def test_a_second_server_does_not_take_the_socket_away(web_socket: Path, world: World, person: Path) -> None:
    second = started(
        [sys.executable, "-m", "thesis_assets.cli.main", "serve", "--socket", str(web_socket)],
        world,
        person,
        person / "second.log",
    )

    assert second.wait(timeout=60) == 2
    assert "answers on" in (person / "second.log").read_text()
    assert json.loads(ask_socket(web_socket, "/server_info"))


def test_a_socket_in_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    from thesis_assets.cli.services import listen_on_socket_file
    from thesis_assets.errors import ThesisAssetsError

    tmp_path.chmod(0o755)

    with pytest.raises(ThesisAssetsError, match="chmod 700"):
        listen_on_socket_file(tmp_path / "ui.sock")
    with pytest.raises(ThesisAssetsError, match="too long"):
        listen_on_socket_file(tmp_path / ("x" * 120) / "ui.sock")


def test_the_dashboard_shows_everything_and_starts_nothing(world: World, person: Path) -> None:
    port, log = free_port(), person / "dashboard.log"
    unit = DEPLOY / "systemd" / "thesis-assets-dashboard.service"
    process = started(command_of(unit, person, **{"3001": str(port)}), world, person, log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: urllib.request.urlopen(f"{address}/server_info", timeout=5).read(), process, log)
        job = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "thesis_assets.definitions",
            "pipelineName": "report",
            "assetSelection": [{"path": ["leaderboard"]}],
        }
        params = {"mode": "default", "selector": job, "runConfigData": {}, "executionMetadata": {"tags": []}}
        request = urllib.request.Request(
            f"{address}/graphql",
            data=json.dumps({"query": LAUNCH, "variables": {"params": params}}).encode(),
            headers={"Content-Type": "application/json"},
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
    finally:
        end(process)

    assert answer["data"]["launchPipelineExecution"]["__typename"] == "UnauthorizedError", answer


def test_the_door_opens_for_the_token_and_for_nothing_else(web_socket: Path, person: Path) -> None:
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip(absent("nginx", "neither nginx nor openssl may be missing"))
    folder, port = web_socket.parent, free_port()
    (folder / "tmp").mkdir(exist_ok=True)
    config = (DEPLOY / "nginx" / "token-proxy.conf").read_text()
    (folder / "door.conf").write_text(config.replace("listen 3443 ssl", f"listen 127.0.0.1:{port} ssl"))
    (folder / "token.conf").write_text(f'map $cookie_thesis_token $thesis_open {{ default 0; "{TOKEN}" 1; }}\n')
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout tls.key -out tls.crt"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True, timeout=60)
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    log = person / "nginx.log"
    process = subprocess.Popen(
        ["nginx", "-p", ".", "-c", str(folder / "door.conf"), *user],
        cwd=folder,
        stdout=log.open("ab"),
        stderr=subprocess.STDOUT,
    )
    trusting = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    trusting.check_hostname = False

    def ask(
        url: str, cookie: str | None = None, body: str | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=60)
        given = headers | ({"Cookie": f"thesis_token={cookie}"} if cookie else {})
        connection.request("POST" if body else "GET", url, body, given)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    try:
        wait_until(lambda: ask("/"), process, log)
        assert ask("/server_info")[0] == 403
        assert ask("/graphql", "f" * 64)[0] == 403
        status, headers, _ = ask(f"/enter/{TOKEN}")
        assert (status, headers["Location"].rsplit("/", 1)[-1]) == (303, "")
        assert {"HttpOnly", "Secure", "SameSite=Strict"} <= set(headers["Set-Cookie"].split("; "))
        status, _, body = ask("/server_info", TOKEN)
        assert status == 200
        assert "dagster_version" in json.loads(body)
        query = {"body": json.dumps({"query": "{ version }"}), "Content-Type": "application/json"}
        assert ask("/graphql", TOKEN, Origin=f"https://127.0.0.1:{port}", **query)[0] == 200
        status, _, body = ask("/graphql", TOKEN, Origin="https://evil.example", **query)
        assert (status, b"Origin" in body) == (403, True)
    finally:
        process.terminate()
        process.wait(timeout=20)
    for written in folder.glob("*.log"):
        assert TOKEN not in written.read_text()


def test_the_example_environment_names_only_what_is_read() -> None:
    read = {str(field.validation_alias) for field in Settings.model_fields.values()} | {"DAGSTER_DISABLE_TELEMETRY"}
    named = set(re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    database = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.postgres.yaml").read_text()))

    assert named <= read | database
    assert database <= named
