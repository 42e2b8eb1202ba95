"""The history in PostgreSQL: the same graph, and a database that is restarted in the middle of a run."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thesis_assets.graph.nodes import LEVELS
from thesis_assets_tests.services.dagster_server import ROOT, DagsterServer, prepare_home
from thesis_assets_tests.services.postgres import PostgresServer, postgres_server
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World, thesis_assets

pytestmark = pytest.mark.long

LONG = {**TINY_RUN, "max_train_steps": 400, "checkpointing_steps": 100, "eval_freq": 400}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, scene_home: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    made = World(tmp_path / "home", scene_home)
    made.write({**SMALL, "runs": {"r1": LONG}})
    prepare_home(made, ROOT / "deploy" / "dagster.postgres.yaml")
    return made


def test_a_run_survives_a_restart_of_the_database_and_its_history_is_whole(
    world: World, postgres: PostgresServer
) -> None:
    made = thesis_assets(world, "run", "--exp", "small", "--until", "difix_data")
    assert made.returncode == 0, made.stderr
    assert not list(world.settings.dagster_home.rglob("*.db")), "the history went into SQLite"
    server = DagsterServer(world, world.home / "server.log")
    try:
        level = next(level for level in LEVELS if "tuned_checkpoint" in level.assets)
        run_id = server.launch(level.job, ("tuned_checkpoint",), "small|r1")
        progress = world.platform.difix(world.cell()).tuning_run("r1").progress
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (progress.is_file() and progress.stat().st_size > 500):
            time.sleep(0.5)
        postgres.stop()
        time.sleep(3)
        postgres.start()
        _wait_for_an_end(server, run_id)
        if server.status(run_id) != "SUCCESS":
            # The step's process may lose its connection for good; what it trained is not lost.
            server.wait_for_run(_launch_again(server, level.job))
    finally:
        server.stop()
    status = json.loads(thesis_assets(world, "status", "--exp", "small", "--json").stdout)
    assert [row["state"] for row in status if row["asset"] == "tuned_checkpoint"] == ["made"]
    lines = [json.loads(line) for line in progress.read_text().splitlines()]
    steps = [line["step"] for line in lines if line["event"] == "step"]
    assert steps[-1] == 400
    assert len(steps) - len(set(steps)) <= 100, "more was trained twice than one checkpoint's interval"


def _launch_again(server: DagsterServer, job: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            return server.launch(job, ("tuned_checkpoint",), "small|r1")
        except OSError:  # the web server itself may have to connect again
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _wait_for_an_end(server: DagsterServer, run_id: str) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, AssertionError):  # the web server itself may have to connect again
            if server.status(run_id) in ("SUCCESS", "FAILURE", "CANCELED"):
                return
        time.sleep(1)
    pytest.fail(f"the run did not end:\n{server.log_tail()}")
