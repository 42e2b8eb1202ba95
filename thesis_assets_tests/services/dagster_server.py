"""Dagster's web server and daemon on a free port of loopback, asked through GraphQL as the UI does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thesis_assets_tests.worlds import World

WAIT_S = 600
"""Of a machine that has much else to do: what does not come is found late, and what comes late is no failure."""
ROOT = Path(__file__).parents[2]

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidSubsetError { message }
    ... on UnauthorizedError { message }
  }
}
"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
TERMINATE = """
mutation ($id: String!) {
  terminateRun(runId: $id) { __typename ... on TerminateRunFailure { message } ... on PythonError { message } }
}
"""
MESSAGES = """
query ($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events { ... on MessageEvent { message } } } } }
"""
RUNS = "query ($limit: Int = 20) { runsOrError(limit: $limit) { ... on Runs { results { runId status } } } }"
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

SENSOR = """
query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor { sensorState { id } } } }
"""
STOP_SENSOR = "mutation ($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }"
WAIT_SCHEDULE = """
mutation ($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on PythonError { message } }
}
"""
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "thesis_assets.definitions"}


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare_home(world: World, config: Path = ROOT / "dagster.yaml") -> None:
    """An instance file in the world's DAGSTER_HOME."""
    home = world.settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config, home / "dagster.yaml")


class DagsterServer:
    """`thesis-assets ui`: web server, daemon and their code servers, which end with it."""

    def __init__(self, world: World, log: Path, env: dict[str, str] | None = None) -> None:
        self.world, self.log, self.port = world, log, free_port()
        self._env = {**os.environ, **world.environment, **(env or {})}
        self.start()

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "thesis_assets.cli.main", "ui", "--port", str(self.port)],
                env=self._env,
                cwd=self.world.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log_tail()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/server_info", timeout=2).read()
            except OSError:
                time.sleep(0.5)
            else:
                return
        pytest.fail(f"the web server did not start in {WAIT_S} s:\n{self.log_tail()}")

    def wait_until(self, holds: Callable[[], object], what: str, seconds: float = WAIT_S) -> None:
        """Until something holds that its daemon is to bring about. `what`: in words, for the failure."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.log_tail()}"
            time.sleep(0.5)

    def history(self, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
        """The instance that it shows."""
        monkeypatch.setenv("DAGSTER_HOME", str(self.world.settings.dagster_home))
        return dg.DagsterInstance.get()

    def log_tail(self, n_characters: int = 6000) -> str:
        """What is on the terminal, then what code servers and runs wrote."""
        logs = [log for log in (self.log, self.world.settings.dagster_home / "ui.log") if log.is_file()]
        return "\n".join(log.read_text(errors="replace")[-n_characters:] for log in logs)

    def graphql(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, job: str, assets: tuple[str, ...], key: str | None, last_key: str | None = None) -> str:
        """Start one run of a level's job over one cell, or over a range of cells up to `last_key`. Returns its id."""
        tags = {"dagster/partition": key} if key else {}
        if key and last_key:
            tags = {"dagster/asset_partition_range_start": key, "dagster/asset_partition_range_end": last_key}
        params = {
            "mode": "default",
            "selector": {
                **REPOSITORY,
                "pipelineName": job,
                "assetSelection": [{"path": [asset]} for asset in assets],
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
        }
        answer = self.graphql(LAUNCH, params=params)["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def turn_off_sensor(self, name: str) -> None:
        """What the switch beside a sensor does."""
        sensor = self.graphql(SENSOR, selector={**REPOSITORY, "sensorName": name})["sensorOrError"]
        answer = self.graphql(STOP_SENSOR, id=sensor["sensorState"]["id"])["stopSensor"]
        assert answer["__typename"] == "StopSensorMutationResult", answer

    def turn_on_schedule(self, name: str) -> None:
        """What the switch beside a schedule does."""
        answer = self.graphql(WAIT_SCHEDULE, selector={**REPOSITORY, "scheduleName": name})["startSchedule"]
        assert answer["__typename"] == "ScheduleStateResult", answer

    def status(self, run_id: str) -> str:
        return str(self.graphql(STATUS, id=run_id)["runOrError"]["status"])

    def terminate(self, run_id: str) -> None:
        """What the button "Terminate" does."""
        answer = self.graphql(TERMINATE, id=run_id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def runs(self) -> list[str]:
        """Ids of all runs, the newest first."""
        return [run_id for run_id, _ in self.newest_runs(20)]

    def newest_runs(self, count: int) -> list[tuple[str, str]]:
        """Id and status of the last runs, the newest first."""
        found = self.graphql(RUNS, limit=count)["runsOrError"]["results"]
        return [(run["runId"], run["status"]) for run in found]

    def messages(self, run_id: str) -> list[str]:
        """The newest lines of a run's event log."""
        events = self.graphql(MESSAGES, id=run_id)["logsForRun"]["events"]
        return [event["message"] for event in events if "message" in event]

    def wait_for_run(self, run_id: str, wanted: str = "SUCCESS", seconds: float = WAIT_S) -> None:
        """Wait until a run has the wanted status; fail as soon as it has another final one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status(run_id)
            if status == wanted:
                return
            assert status not in ("SUCCESS", "FAILURE", "CANCELED"), f"{run_id} is {status}: {self.log_tail()}"
            time.sleep(1)
        pytest.fail(f"the run did not reach {wanted} in {seconds} s:\n{self.log_tail()}")

    def start_backfill(self, assets: tuple[str, ...], keys: list[str]) -> str:
        """A backfill over keys that all of the assets have. Returns its id."""
        params = {
            "selector": None,
            "assetSelection": [{"path": [asset]} for asset in assets],
            "partitionNames": keys,
        }
        answer = self.graphql(BACKFILL, params=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def wait_for_backfill(self, backfill_id: str, seconds: float = WAIT_S) -> list[str]:
        """Wait until a backfill succeeded. Returns the ids of its runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = self.graphql(BACKFILL_STATUS, id=backfill_id)["partitionBackfillOrError"]
            if state["status"] == "COMPLETED_SUCCESS":
                return [run["runId"] for run in state["runs"]]
            ended = ("FAILED", "COMPLETED_FAILED", "CANCELED")
            assert state["status"] not in ended, (state, self.log_tail())
            time.sleep(1)
        pytest.fail(f"the backfill did not end in {seconds} s:\n{self.log_tail()}")

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """Asked first, killed then; its children end with it however it ends."""
        for signal_number in (first, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signal_number)
                self.process.wait(timeout=20)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
            else:
                return
