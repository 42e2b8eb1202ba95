"""The real web server and daemon: every asset of one cell by partition, through GraphQL, the way the UI does it."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from thesis_assets.graph.nodes import LEVELS
from thesis_assets.graph.states import Plan
from thesis_assets_tests.services.dagster_server import DagsterServer, prepare_home
from thesis_assets_tests.worlds import SCENES, SMALL, World, thesis_assets

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    made = World(tmp_path_factory.mktemp("served") / "home", scene_home)
    made.write(SMALL)
    prepare_home(made)
    result = thesis_assets(made, "sync", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["added"]["exp_name"] == ["small"]
    return made


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[DagsterServer]:
    running = DagsterServer(world, world.home / "server.log")
    yield running
    running.stop()


TIMELINE = """
query {
  runsOrError(filter: {statuses: [SUCCESS]}) {
    ... on Runs { results { pipelineName startTime repositoryOrigin { repositoryName repositoryLocationName } } }
  }
  workspaceOrError { ... on Workspace { locationEntries { name } } }
}
"""
"""What the landing page asks for; it passes over a run without an origin, or with one of another location."""
HISTORY = """
query ($job: PipelineSelector!) { pipelineOrError(params: $job) { ... on Pipeline { runs(limit: 5) { status } } } }
"""


def test_a_run_of_the_command_line_stands_in_the_timeline_and_in_its_jobs_history(
    server: DagsterServer, world: World
) -> None:
    done = thesis_assets(world, "run", "--exp", "small", "--until", "scene_catalog")
    assert done.returncode == 0, done.stderr
    found = server.graphql(TIMELINE)
    (location,) = [entry["name"] for entry in found["workspaceOrError"]["locationEntries"]]
    (run,) = [run for run in found["runsOrError"]["results"] if run["pipelineName"] == "observe_scenes"]
    assert run["startTime"] is not None
    origin = {"repositoryName": "__repository__", "repositoryLocationName": location}
    assert run["repositoryOrigin"] == origin
    history = server.graphql(HISTORY, job={**origin, "pipelineName": "observe_scenes"})["pipelineOrError"]["runs"]
    assert history == [{"status": "SUCCESS"}]


def test_one_cell_of_every_asset_materializes_through_graphql_and_the_daemon(
    server: DagsterServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All shards in one backfill: the single-run policy makes one run of them, on the daemon.
    shards = server.start_backfill(("scene_samples",), [f"small|{scene}" for scene in SCENES])
    assert len(server.wait_for_backfill(shards)) == 1
    keys = {"none": None, "exp": "small", "exp_by_run": "small|r1"}
    for level in LEVELS:
        if level.kind != "exp_by_scene":
            server.wait_for_run(server.launch(level.job, level.assets, keys[level.kind]))
    tree = next(iter(world.platform.evaluation_trees(world.cell()).values()))
    assert tree.manifest.is_file()
    assert tree.evaluation_recording(1).is_file()
    assert world.settings.reports.leaderboard_markdown.is_file()
    monkeypatch.setenv("DAGSTER_HOME", str(world.settings.dagster_home))
    with dg.DagsterInstance.get() as instance:
        states = Plan(world.platform, instance).of_experiment("small")
    assert {state.state for state in states} == {"made"}, [state for state in states if state.state != "made"]


def test_the_web_server_listens_on_loopback_only(server: DagsterServer) -> None:
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
