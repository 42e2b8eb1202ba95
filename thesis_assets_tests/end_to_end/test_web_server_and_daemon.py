"""The real web server and daemon: every asset of one cell by partition, through GraphQL, the way the UI does it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from thesis_assets.defs.cell_states import cell_states
from thesis_assets.defs.jobs import LEVELS
from thesis_assets_tests.worlds import SCENES, SMALL, World

START_S = 90
RUN_S = 240

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidSubsetError { message }
  }
}
"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status runs(limit: 20) { runId status } } } }
"""


class Server:
    """`dagster dev` on a free port of loopback: web server, daemon and code server, ended with its whole group."""

    def __init__(self, world: World, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = log
        command = [sys.executable, "-m", "dagster", "dev", "-m", "thesis_assets.definitions"]
        self.process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(self.port)],
            env={**os.environ, **world.environment},
            cwd=world.home,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/server_info", timeout=2).read()
            except OSError:
                time.sleep(0.5)
            else:
                return
        pytest.fail(f"the web server did not start in {START_S} s:\n{self.log.read_text()[-3000:]}")

    def graphql(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
        assert "errors" not in answer, answer
        return answer["data"]

    def stop(self) -> None:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signal_number)
                self.process.wait(timeout=20)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
            else:
                return


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    made = World(tmp_path_factory.mktemp("served") / "home", scene_home)
    made.write(SMALL)
    home = made.settings.dagster_home
    home.mkdir(parents=True)
    source = Path(__file__).parents[2] / "dagster.yaml"
    (home / "dagster.yaml").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "thesis_assets.cli.main", "sync", "--json"],
        env={**os.environ, **made.environment},
        cwd=made.home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["added"]["exp_name"] == ["small"]
    return made


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    running = Server(world, world.home / "server.log")
    yield running
    running.stop()


def _selector() -> dict[str, Any]:
    return {"repositoryName": "__repository__", "repositoryLocationName": "thesis_assets.definitions"}


def _backfill_shards(server: Server) -> None:
    """All shards in one backfill: the single-run policy makes one run of them, on the daemon."""
    params = {
        "selector": None,
        "assetSelection": [{"path": ["scene_samples"]}],
        "partitionNames": [f"small|{scene}" for scene in SCENES],
    }
    answer = server.graphql(BACKFILL, params=params)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    deadline = time.monotonic() + RUN_S
    while time.monotonic() < deadline:
        state = server.graphql(BACKFILL_STATUS, id=answer["backfillId"])["partitionBackfillOrError"]
        if state["status"] == "COMPLETED_SUCCESS":
            assert len(state["runs"]) == 1
            return
        assert state["status"] not in ("FAILED", "COMPLETED_FAILED", "CANCELED"), (
            state,
            server.log.read_text()[-4000:],
        )
        time.sleep(1)
    pytest.fail(f"the backfill did not end in {RUN_S} s:\n{server.log.read_text()[-4000:]}")


def _launch(server: Server, job: str, assets: tuple[str, ...], key: str | None) -> None:
    params = {
        "mode": "default",
        "selector": {
            **_selector(),
            "pipelineName": job,
            "assetSelection": [{"path": [asset]} for asset in assets],
        },
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": key}] if key else []},
    }
    answer = server.graphql(LAUNCH, params=params)["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]
    deadline = time.monotonic() + RUN_S
    while time.monotonic() < deadline:
        status = server.graphql(STATUS, id=run_id)["runOrError"]["status"]
        if status == "SUCCESS":
            return
        assert status not in ("FAILURE", "CANCELED"), f"{job}: {server.log.read_text()[-6000:]}"
        time.sleep(1)
    pytest.fail(f"{job} did not end in {RUN_S} s:\n{server.log.read_text()[-4000:]}")


def test_one_cell_of_every_asset_materializes_through_graphql_and_the_daemon(
    server: Server, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _backfill_shards(server)
    keys = {"none": None, "exp": "small", "exp_by_run": "small|r1"}
    for level in LEVELS:
        if level.kind != "exp_by_scene":
            _launch(server, level.job, level.assets, keys[level.kind])
    tree = next(iter(world.platform.evaluation_trees(world.cell()).values()))
    assert tree.manifest.is_file()
    assert tree.evaluation_recording(1).is_file()
    assert world.settings.reports.leaderboard_markdown.is_file()
    monkeypatch.setenv("DAGSTER_HOME", str(world.settings.dagster_home))
    with dg.DagsterInstance.get() as instance:
        states = cell_states(world.platform, instance, "small")
    assert {state.state for state in states} == {"done"}, [state for state in states if state.state != "done"]


def test_the_web_server_listens_on_loopback_only(server: Server) -> None:
    listening = [
        connection.laddr.ip
        for process in [
            psutil.Process(server.process.pid),
            *psutil.Process(server.process.pid).children(recursive=True),
        ]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == server.port
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
