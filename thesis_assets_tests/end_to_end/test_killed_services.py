"""Whatever is killed outright while the graph is at work: started again, everything is as if nothing had been, and nothing was made
twice. The web server and the daemon are those of `deploy/`, the history is in PostgreSQL."""

import contextlib
import copy
import http.client
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from thesis_assets.graph.nodes import LEVELS
from thesis_assets.graph.states import Plan
from thesis_assets.launch.commands import members
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, EvaluationTree, TuningRunTree
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.schemas.tuning import JobRecord, ProgressLine
from thesis_assets.storage import read_json
from thesis_assets_tests.end_to_end.equal_worlds import assert_equal, stamps
from thesis_assets_tests.services.dagster_server import ROOT, prepare_home
from thesis_assets_tests.services.dagster_services import SOON, DagsterServices, look_at_the_queue_often
from thesis_assets_tests.services.postgres import PostgresServer, postgres_server
from thesis_assets_tests.worlds import SCENES, SMALL, TINY_RUN, World

pytestmark = pytest.mark.long

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
            return {state.state for state in Plan(self.world.platform, instance).of_experiment("small")}

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
    prepare_home(world, ROOT / "deploy" / "dagster.postgres.yaml")
    look_at_the_queue_often(world)
    monkeypatch.setenv("DAGSTER_HOME", str(world.settings.dagster_home))
    with dg.DagsterInstance.get() as instance:
        register(instance, plan_registration(world.platform, instance))
    server = DagsterServices(world, home / "server.log", SOON | {"THESIS_SENSOR_SECONDS": "3"})
    made = Graph(world, server, postgres, reference)
    try:
        yield made
    finally:
        server.stop()
        if made.run.job.is_file():
            LocalLauncher().end(read_json(made.run.job, JobRecord), grace_seconds=0)
        # The next one is made at the same place.
        home.rename(home.with_name(f"{home.name}-{time.time_ns()}"))


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

    assert graph.states() == {"made"}
    assert {graph.made(asset) for asset in ("sample_set", "tuned_checkpoint", "evaluation_recordings")} == {1}
    assert assert_equal(graph.world.home, graph.undisturbed) > 300


# --- soak ------------------------------------------------------------------------------------------------------------

FINAL = ("SUCCESS", "FAILURE", "CANCELED")
LONGEST_LEVEL_S = 420
"""One that was killed as it started is given up by Dagster after 180 s."""
SPAN_S, DOWN_S = 55.0, 15.0
"""Within which a kill comes, about as long as the graph takes; and how long at most what was killed stays down."""
JOBS = ("export_scenes", "prepare_data", "tune", "evaluate", "record")


@dataclass
class Person:
    """Starts level after level in the UI, and again what failed and the daemon does not start again; loads pages until they come."""

    graph: Graph
    by_hand: int = 0

    def makes_everything(self) -> None:
        for job in JOBS:
            deadline = time.monotonic() + LONGEST_LEVEL_S
            run_id = self._starts(job, deadline)
            while (status := self._reads(lambda run=run_id: self.graph.server.status(run), deadline)) != "SUCCESS":
                assert time.monotonic() < deadline, f"{job} is {status}: {self.graph.server.log_tail()}"
                if status in FINAL:
                    run_id = self._what_follows(run_id, deadline) or self._starts(job, deadline)
                time.sleep(0.5)

    def _what_follows(self, run_id: str, deadline: float) -> str | None:
        """The run that the daemon starts instead; None where it says that it will not, which it does a moment after the failure."""
        while (word := self._reads(lambda: self.graph.server.tags(run_id), deadline).get("dagster/will_retry")) is None:
            assert time.monotonic() < deadline, f"nobody says what follows {run_id}: {self.graph.server.log_tail()}"
            time.sleep(0.5)
        if word == "true":
            return str(self._reads(lambda: self.graph.server.retry_of(run_id), deadline))
        self.by_hand += 1
        return None

    def _starts(self, job: str, deadline: float) -> str:
        """A start whose answer was lost may have been one."""
        before = self._reads(self.graph.server.runs, deadline)
        while True:
            with contextlib.suppress(OSError):
                return self.graph.launch(job)
            new = set(self._reads(self.graph.server.runs, deadline)) - set(before)
            if new:
                return new.pop()

    def _reads(self, page: Callable[[], Any], deadline: float) -> Any:
        while True:
            try:
                return page()
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline, f"no answer: {self.graph.server.log_tail()}"
                time.sleep(0.5)


@dataclass
class Killer:
    """Kills one thing twice, each at a random moment, and starts again what does not start by itself."""

    graph: Graph
    victim: str
    chance: random.Random
    kept: dict[Path, tuple[int, int]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    starts: int = 0
    """Of trainers, before the last one."""
    over: threading.Event = field(default_factory=threading.Event)

    def kills_twice(self) -> None:
        began = time.monotonic()
        for moment in sorted(self.chance.uniform(0, SPAN_S) for _ in range(2)):
            if (
                self.victim != "trainer"
            ):  # there is one for a part of the time alone: its kills find their moments in that
                time.sleep(max(0.0, began + moment - time.monotonic()))
            self._kill()

    def _kill(self) -> None:
        server, down = self.graph.server, self.chance.uniform(0, DOWN_S)
        match self.victim:
            case "worker":
                self._end([self._waits_for(self._worker)])
            case "trainer":
                self._kill_trainer()
            case "daemon":
                self._end([psutil.Process(server.daemon.pid)])
                time.sleep(down)
                server.start_daemon(wait=False)
            case "daemon and all below it":
                daemon = psutil.Process(server.daemon.pid)
                self._end([daemon, *daemon.children(recursive=True)])
                time.sleep(down)
                server.start_daemon(wait=False)
            case "code server":
                self._end([self._waits_for(server.code_server)])
            case "web server":
                self._end([psutil.Process(server.process.pid)])
                time.sleep(down)
                server.start_web_server()
            case "database":
                self._note()
                self.graph.postgres.kill()
                time.sleep(down)
                self.graph.postgres.start()
        self.told.append(f"{self.victim} down {down:.1f} s")

    def _kill_trainer(self) -> None:
        """One that was started since the last kill, while it starts, or after a random step that it does."""
        seen = len(self.graph.lines())
        self._waits_for(self._trainers)
        if self.chance.random() < 0.3:
            time.sleep(self.chance.uniform(0, 3))
        else:
            step = self.chance.randrange(STEPS - 20)
            self._waits_for(lambda: any(line.step >= step for line in self.graph.lines()[seen:]), every=0.003)
        self._end(self._waits_for(self._trainers))
        self.starts += [line.event for line in self.graph.lines()[seen:]].count("start")

    def _worker(self) -> psutil.Process | None:
        with contextlib.suppress(OSError, KeyError):
            server = self.graph.server
            return next((found for run in server.runs() if (found := server.worker(run)) is not None), None)
        return None

    def _trainers(self) -> list[psutil.Process]:
        """The last processes of a training's tree: what computes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.graph.run.job.is_file():
                return [process for process in members(self.graph.job_id()) if not process.children()]
        return []

    def _waits_for(self, look: Callable[[], Any], every: float = 0.1) -> Any:
        found = look()
        while not found:
            assert not self.over.is_set(), f"all was done before there was a {self.victim} to kill"
            time.sleep(every)
            found = look()
        return found

    def _end(self, processes: list[psutil.Process]) -> None:
        self._note()
        for number in ("suspend", "kill"):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    getattr(process, number)()
        psutil.wait_procs(processes, timeout=20)

    def _note(self) -> None:
        """What is published now must not be written again."""
        graph = self.graph
        found = stamps(graph.difix.samples_dir)
        found |= {path: stamp for path, stamp in stamps(graph.run.checkpoints_dir).items() if path.suffix == ".pkl"}
        for epoch in (0, 1):
            task = graph.evaluated.task(epoch, "nvs")
            if task.prediction_record.is_file():
                found |= stamps(task.pred_dir)
        self.kept |= found


@pytest.mark.soak
@pytest.mark.parametrize(
    "victim", ["worker", "trainer", "daemon", "daemon and all below it", "code server", "web server", "database"]
)
def test_what_is_killed_twice_at_random_moments_leaves_no_trace(graph: Graph, victim: str) -> None:
    seed = int(os.environ.get("THESIS_ASSETS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"THESIS_ASSETS_SEED={seed}")
    killer, person = Killer(graph, victim, random.Random(f"{seed} {victim}")), Person(graph)
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(killer.kills_twice)
        try:
            person.makes_everything()
        finally:
            killer.over.set()
        killed.result()
    assert len(killer.told) == 2
    graph.server.reload()  # The second kill may have come after the end.
    assert graph.states() == {"made"}, killer.told
    again = {
        path: stamp for folder in (graph.difix.base, graph.evaluated.base) for path, stamp in stamps(folder).items()
    }
    assert killer.kept.items() <= again.items()
    starts = [line.event for line in graph.lines()].count("start")
    assert starts == killer.starts + 1, killer.told
    assert assert_equal(graph.world.home, graph.undisturbed) > 300
    # Runs wait for another code server; nobody has to start them again.
    assert victim != "code server" or person.by_hand == 0
    print(f"{victim}: killed twice, started {person.by_hand} times by hand")
