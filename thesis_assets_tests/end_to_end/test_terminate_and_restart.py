"""Through the real web server and daemon: a person's terminate ends every process of a training; a restart of theirs ends none."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from thesis_assets.graph.nodes import LEVELS
from thesis_assets.launch.commands import members
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import TuningRunTree
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.storage import read_json
from thesis_assets.tuning.checkpoints import latest_verified
from thesis_assets_tests.services.dagster_server import DagsterServer, prepare_home
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World, thesis_assets

pytestmark = pytest.mark.long

LONG: dict[str, Any] = {
    **TINY_RUN,
    "max_train_steps": 100_000,  # it never ends by itself
    "checkpointing_steps": 20,
    "eval_freq": 100_000,
    "selection": {"rule": "last"},
}
RUNS = ("terminated", "restarted")
TUNE = next(level.job for level in LEVELS if "tuned_checkpoint" in level.assets)
SECONDS = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("terminated") / "home", scene_home)
    made.write({**SMALL, "runs": {name: copy.deepcopy(LONG) for name in RUNS}})
    prepare_home(made)
    result = thesis_assets(made, "run", "--exp", "small", "--until", "difix_data")
    assert result.returncode == 0, result.stderr
    yield made
    for run_name in RUNS:
        if run_of(made, run_name).job.is_file():
            LocalLauncher().end(read_json(run_of(made, run_name).job, JobRecord), grace_seconds=0)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[DagsterServer]:
    running = DagsterServer(world, world.home / "server.log")
    yield running
    running.stop()


def run_of(world: World, run_name: str) -> TuningRunTree:
    return world.platform.difix(world.cell()).tuning_run(run_name)


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{seconds} s passed"
        time.sleep(0.2)


def lines(run: TuningRunTree) -> list[ProgressLine]:
    """Whole lines of the trainer's progress."""
    text = run.progress.read_text() if run.progress.is_file() else ""
    return [ProgressLine.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def start(server: DagsterServer, world: World, run_name: str) -> str:
    """Start a training and wait until it has saved."""
    run_id = server.launch(TUNE, ("tuned_checkpoint",), f"small|{run_name}")
    until(lambda: any(line.event == "checkpoint" for line in lines(run_of(world, run_name))))
    return run_id


def job_id(run: TuningRunTree) -> str:
    found = read_json(run.job, JobRecord).job_id
    assert found is not None
    return found


def test_terminating_a_run_leaves_no_process_of_its_tree_and_the_last_checkpoint_whole(
    server: DagsterServer, world: World
) -> None:
    run_id = start(server, world, "terminated")
    run = run_of(world, "terminated")
    tree = {process.pid: process for process in members(job_id(run))}
    assert len(tree) > 1

    server.terminate(run_id)

    until(lambda: members(job_id(run)) == [], 15)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree.values())
    server.wait_for_run(run_id, "CANCELED")
    newest, damaged = latest_verified(run)
    assert newest is not None
    assert newest.step >= 20
    assert damaged == []
    assert read_json(run.job, JobRecord).returncode is not None


def test_a_restart_of_web_server_and_daemon_leaves_the_training_at_work_and_the_next_attempt_follows_it(
    server: DagsterServer, world: World
) -> None:
    first = start(server, world, "restarted")
    run = run_of(world, "restarted")
    job = job_id(run)

    server.stop()

    seen = len(lines(run))
    until(lambda: len(lines(run)) > seen + 3)
    assert len(members(job)) > 1

    server.start()
    # The daemon itself starts the next attempt: the run did not fail, its process was ended.
    until(lambda: server.runs()[0] != first and server.status(server.runs()[0]) == "STARTED")
    second = server.runs()[0]
    assert server.status(first) == "FAILURE"
    until(lambda: any("restarted: step" in message for message in server.messages(second)))
    assert job_id(run) == job
    assert [line.event for line in lines(run)].count("start") == 1

    server.terminate(second)

    until(lambda: members(job) == [], 15)
    server.wait_for_run(second, "CANCELED")
