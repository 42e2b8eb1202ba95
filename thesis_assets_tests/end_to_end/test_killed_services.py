"""Whatever is killed outright while the graph is at work: started again, everything is as if nothing had been, and nothing was made
twice. The web server and the daemon are those of `deploy/`, the history is in PostgreSQL."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from thesis_assets.defs.cell_states import cell_states
from thesis_assets.defs.jobs import LEVELS
from thesis_assets.defs.registration import plan_registration, register
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.launch.process_tree import members
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, EvaluationTree, TuningRunTree
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.storage import read_json
from thesis_assets_tests.end_to_end.equal_worlds import assert_equal, stamps
from thesis_assets_tests.services.dagster_server import ROOT, prepare_home
from thesis_assets_tests.services.dagster_services import QUICK, SOON, DagsterServices
from thesis_assets_tests.services.postgres import PostgresServer, postgres_server
from thesis_assets_tests.worlds import SCENES, SMALL, TINY_RUN, World

STEPS, SAVED_EVERY = 200, 50
EXPERIMENT: dict[str, Any] = {
    **copy.deepcopy(SMALL),
    "runs": {"r1": {**TINY_RUN, "max_train_steps": STEPS, "checkpointing_steps": SAVED_EVERY, "eval_freq": 100}},
}
N_SAMPLES = len(SCENES) * 9
SECONDS = 120
CELL = "small|r1"


@dataclass
class Graph:
    """The world that is disturbed, its services, and the trees of one that was not."""

    world: World
    server: DagsterServices
    postgres: PostgresServer
    undisturbed: Path

    @property
    def difix(self) -> DifixTree:
        return self.world.platform.difix(self.world.cell())

    @property
    def run(self) -> TuningRunTree:
        return self.difix.tuning_run("r1")

    @property
    def evaluated(self) -> EvaluationTree:
        (tree,) = self.world.platform.evaluation_trees(self.world.cell()).values()
        return tree

    def samples(self) -> list[Path]:
        """Folders of published samples."""
        folders = self.difix.samples_dir.iterdir() if self.difix.samples_dir.is_dir() else ()
        return [path for path in folders if not path.name.startswith(TEMPORARY_PREFIX)]

    def lines(self) -> list[ProgressLine]:
        """Whole lines of the trainer's progress."""
        text = self.run.progress.read_text() if self.run.progress.is_file() else ""
        return [ProgressLine.model_validate_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def job_id(self) -> str:
        found = read_json(self.run.job, JobRecord).job_id
        assert found is not None
        return found

    def launch(self, job: str) -> str:
        """Start one level's run, all scenes in one."""
        (level,) = [level for level in LEVELS if level.job == job]
        keys = {"exp_by_scene": f"small|{SCENES[0]}", "exp": "small", "exp_by_run": CELL}
        last = f"small|{SCENES[-1]}" if level.kind == "exp_by_scene" else None
        return self.server.launch(job, level.assets, keys[level.kind], last)

    def states(self) -> set[str]:
        """Of all cells, by what is on disk and in the history."""
        with dg.DagsterInstance.get() as instance:
            return {state.state for state in cell_states(self.world.platform, instance, "small")}

    def made(self, asset: str) -> int:
        """How often an asset's cells were materialized."""
        with dg.DagsterInstance.get() as instance:
            return len(instance.fetch_materializations(dg.AssetKey(asset), limit=100).records)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> tuple[Path, Path]:
    """Where worlds are made, one after the other, and where the one that nobody disturbed lies now."""
    base = tmp_path_factory.mktemp("killed")
    world = World(base / "home", scene_home)
    world.write(EXPERIMENT)
    report = world.run(until="evaluation_recordings")
    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    world.home.rename(base / "undisturbed")
    return base / "home", base / "undisturbed"


@pytest.fixture
def graph(
    undisturbed: tuple[Path, Path], scene_home: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Graph]:
    home, reference = undisturbed
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    world = World(home, scene_home)
    world.write(EXPERIMENT)
    prepare_home(world, ROOT / "deploy" / "dagster.postgres.yaml", QUICK)
    monkeypatch.setenv("DAGSTER_HOME", str(world.settings.dagster_home))
    with dg.DagsterInstance.get() as instance:
        register(instance, plan_registration(world.platform, instance))
    server = DagsterServices(world, home / "server.log", SOON)
    made = Graph(world, server, postgres, reference)
    try:
        yield made
    finally:
        server.stop()
        if made.run.job.is_file():
            LocalLauncher().end(read_json(made.run.job, JobRecord), grace_seconds=0)


def until(condition: Callable[[], object], what: str, every: float = 0.003) -> None:
    """Wait for a fact on disk. It is asked for often: what is to be killed amidst its work must not get far meanwhile."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {SECONDS} s"
        time.sleep(every)


@contextlib.contextmanager
def held(process: psutil.Process) -> Iterator[None]:
    """Stop a process where it is, so that what is killed meanwhile is killed amidst its work."""
    process.suspend()
    while process.status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def finish(graph: Graph, run_id: str, job: str) -> str:
    """Wait for a run's end; where it failed, start it by hand, once. Returns the last run."""
    until(lambda: graph.server.status(run_id) in ("SUCCESS", "FAILURE", "CANCELED"), f"{job} ends", 0.5)
    if graph.server.status(run_id) != "SUCCESS":
        run_id = graph.launch(job)
        graph.server.wait_for_run(run_id)
    return run_id


def test_all_five_are_killed_in_one_graph_and_it_ends_as_if_nothing_had_been(graph: Graph) -> None:
    server = graph.server

    # A run's process, in the middle of the export: the daemon starts the next attempt by itself.
    first = graph.launch("export_scenes")
    worker = server.wait_for_worker(first)
    until(graph.samples, "a first sample")
    with held(worker):
        assert 0 < len(graph.samples()) < N_SAMPLES
        exported = stamps(graph.difix.samples_dir)
        worker.kill()
    second = server.retry_of(first)
    assert server.status(first) == "FAILURE"

    # The daemon, while that attempt exports: the run goes on without it.
    worker = server.wait_for_worker(second)
    n_before = len(exported) // 4
    until(lambda: len(graph.samples()) > n_before, "one more sample")
    with held(worker):
        assert len(graph.samples()) < N_SAMPLES
        exported |= stamps(graph.difix.samples_dir)
        server.kill_daemon()
    server.wait_for_run(second)
    server.start_daemon()
    assert len(graph.samples()) == N_SAMPLES
    exported_twice = exported.items() - stamps(graph.difix.samples_dir).items()
    assert exported_twice == set()
    assert graph.made("scene_samples") == len(SCENES)

    server.wait_for_run(graph.launch("prepare_data"))

    # The trainer, after a checkpoint and some steps more.
    third = graph.launch("tune")
    until(lambda: any(line.event == "step" and line.step >= SAVED_EVERY + 10 for line in graph.lines()), "steps")
    saved = stamps(graph.run.checkpoints_dir)
    trainers = [process for process in members(graph.job_id()) if not process.children()]
    for process in trainers:
        process.kill()
    server.wait_for_run(third, "FAILURE")
    assert not graph.run.checkpoint(STEPS).exists()
    server.wait_for_run(graph.launch("tune"))
    assert saved.items() <= stamps(graph.run.checkpoints_dir).items()
    events = [line.event for line in graph.lines()]
    assert (events.count("start"), events.count("done")) == (2, 1)

    # The database, while views are predicted and measured.
    fourth = graph.launch("evaluate")
    worker = server.wait_for_worker(fourth)
    predicted = graph.evaluated.task(0, "nvs").prediction_record
    until(predicted.is_file, "the first epoch's predictions")
    with held(worker):
        assert not graph.evaluated.manifest.exists()
        kept = stamps(predicted.parent.parent)
        graph.postgres.kill()
    until(lambda: "Retrying failed database connection" in server.log_tail(), "somebody misses the database", 0.1)
    graph.postgres.start()
    assert "automatic recovery in progress" in graph.postgres.log_text
    server.reload()
    finish(graph, fourth, "evaluate")
    assert kept.items() <= stamps(predicted.parent.parent).items()

    # The web server, while recordings are written.
    fifth = graph.launch("record")
    worker = server.wait_for_worker(fifth)
    until(lambda: graph.evaluated.input_data_recording.exists(), "the first recording")
    with held(worker):
        assert not graph.evaluated.evaluation_recording(1).exists()
        recorded = stamps(graph.evaluated.rerun_dir)
        server.kill_web_server()
    until(lambda: not worker.is_running(), "the run ends without it")
    server.start_web_server()
    server.wait_for_run(fifth)
    assert recorded.items() <= stamps(graph.evaluated.rerun_dir).items()

    assert graph.states() == {"done"}
    assert {graph.made(asset) for asset in ("sample_set", "tuned_checkpoint", "evaluation_recordings")} == {1}
    assert assert_equal(graph.world.home, graph.undisturbed) > 300
