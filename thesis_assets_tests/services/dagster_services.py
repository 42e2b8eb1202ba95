"""Dagster's web server and daemon as `deploy/` starts them: two programs, each with a code server of its own, killed one by one.

`dagster_server` starts both as one program (`thesis-assets ui`), which ends with whichever of them dies.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil
import pytest
import yaml

from thesis_assets_tests.services.dagster_server import RUNS, WAIT_S, DagsterServer
from thesis_assets_tests.worlds import World

MODULE = "thesis_assets.definitions"
WORKER = re.compile(r"Started process for run \(pid: (\d+)\)")
SOON = {"DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1"}
"""How often the daemon looks for runs that it is to start again."""


def look_at_the_queue_often(world: World) -> None:
    """In the instance file of a test; nothing else of it differs from what is shipped."""
    path = world.settings.dagster_home / "dagster.yaml"
    config = yaml.safe_load(path.read_text())
    config["run_coordinator"]["config"]["dequeue_interval_seconds"] = 1
    path.write_text(yaml.safe_dump(config))


class DagsterServices(DagsterServer):
    """A web server and a daemon that live and die by themselves."""

    def start(self) -> None:
        """Start both, and wait until both are at work."""
        self._groups: list[int] = []
        self.start_daemon(wait=False)
        self.start_web_server()
        self._wait_for_daemon()

    def start_web_server(self) -> None:
        """Start it (again), and wait until it answers."""
        self.process = self._started(["-m", "thesis_assets.cli.main", "serve", "--port", str(self.port)])
        self._wait()

    def start_daemon(self, *, wait: bool = True) -> None:
        """Start it (again), and wait until it is at work."""
        self._daemon_since = time.time()
        self.daemon = self._started(["-m", "dagster._daemon", "run", "-m", MODULE])
        if wait:
            self._wait_for_daemon()

    def kill_web_server(self) -> None:
        """The program alone, as for want of memory: its code server is not asked."""
        _kill(self.process)

    def code_server(self) -> psutil.Process | None:
        """The daemon's, which starts the workers; None until there is one again."""
        children = psutil.Process(self.daemon.pid).children()
        return next((child for child in children if "grpc" in child.cmdline()), None)

    def kill_daemon(self) -> None:
        """The program alone: its code server, and the workers below that, are not asked."""
        _kill(self.daemon)

    def worker(self, run_id: str) -> psutil.Process | None:
        """The process that makes a run; None where it has not started or has ended."""
        found = [match for message in self.messages(run_id) if (match := WORKER.search(message))]
        try:
            return psutil.Process(int(found[0][1])) if found else None
        except psutil.NoSuchProcess:
            return None

    def wait_for_worker(self, run_id: str) -> psutil.Process:
        """Wait until a run has a process."""
        deadline = time.monotonic() + WAIT_S
        while (found := self.worker(run_id)) is None:
            assert time.monotonic() < deadline, f"{run_id} has no worker: {self.log_tail()}"
            time.sleep(0.1)
        return found

    def reload(self) -> None:
        """What a person does after a database was down: load pages until none is an error.

        The connections that a server keeps are found broken as they are used: one error a kind of storage.
        """
        deadline = time.monotonic() + WAIT_S
        for query in (RUNS, EVENTS, TICKS):
            while True:
                try:
                    self.graphql(query)
                    break
                except OSError:
                    assert time.monotonic() < deadline, self.log_tail()
                    time.sleep(0.2)

    def tags(self, run_id: str) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.graphql(TAGS, id=run_id)["runOrError"]["tags"]}

    def retry_of(self, run_id: str) -> str:
        """Wait until the daemon has started a lost run again; returns the new run."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if (retried := self.tags(run_id).get("dagster/auto_retry_run_id")) is not None:
                return retried
            time.sleep(0.2)
        pytest.fail(f"the daemon did not start {run_id} again in {WAIT_S} s:\n{self.log_tail()}")

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """End both, and whatever those that were killed have left behind."""
        for process in (self.process, self.daemon):
            if process.poll() is None:
                process.send_signal(first)
        for process in (self.process, self.daemon):
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                continue
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _started(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                env=self._env,
                cwd=self.world.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._groups.append(process.pid)
        return process

    def _wait_for_daemon(self) -> None:
        """Heartbeats of an earlier daemon do not count."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self.daemon.poll() is None, self.log_tail()
            statuses = self.graphql(HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
            beats = {each["daemonType"]: each["lastHeartbeatTime"] for each in statuses}
            if all((beats.get(name) or 0.0) > self._daemon_since for name in ("QUEUED_RUN_COORDINATOR", "SENSOR")):
                return
            time.sleep(0.2)
        pytest.fail(f"the daemon was not at work in {WAIT_S} s:\n{self.log_tail()}")


TAGS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { tags { key value } } } }"
EVENTS = "query { assetsOrError { ... on AssetConnection { nodes { assetMaterializations(limit: 1) { runId } } } } }"
TICKS = """
query {
  sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "thesis_assets.definitions"}) {
    ... on Sensors { results { name sensorState { status ticks(limit: 1) { id } } } }
  }
}
"""
HEARTBEATS = "query { instance { daemonHealth { allDaemonStatuses { daemonType lastHeartbeatTime } } } }"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
