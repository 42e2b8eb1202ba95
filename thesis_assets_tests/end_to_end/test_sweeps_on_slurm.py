"""The trainings of a sweep on the real Slurm: side by side, each told by its own step; a failed one is not begun again by itself."""

import os
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.schemas.tuning import JobExit, JobRecord
from thesis_assets.settings import Settings
from thesis_assets.storage import read_json
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment
from thesis_assets_tests.end_to_end.test_plans_on_slurm import SlurmWorld, cluster
from thesis_assets_tests.launch.test_slurm import until
from thesis_assets_tests.services.slurm import SlurmCluster, slurm_cluster
from thesis_assets_tests.worlds import TINY_RUN

pytestmark = pytest.mark.long

__all__ = ["cluster", "slurm_cluster"]

RUN = {**TINY_RUN, "max_train_steps": 10, "checkpointing_steps": 10, "selection": {"rule": "last"}}


class SlottedWorld(SlurmWorld):
    """Two GPU jobs at once."""

    @property
    def settings(self) -> Settings:
        return super().settings.model_copy(update={"gpu_slots": 2})


@pytest.fixture
def world(tmp_path: Path) -> SlottedWorld:
    world = SlottedWorld(tmp_path / "home", tmp_path / "scenes")
    for name in ("hi4d_pair00_hug", "hi4d_pair01_hug"):
        add_scene(world, name)
    return world


def job(world: SlottedWorld, run_name: str) -> JobRecord:
    return read_json(world.platform.difix(Cell("v1")).tuning_run(run_name).job, JobRecord)


def test_the_runs_of_a_sweep_wait_in_the_queue_together(world: SlottedWorld, cluster: SlurmCluster) -> None:
    world.write(experiment("v1", runs={"base": {**RUN, "sweep": {"seed": [1, 2, 3]}}}))
    report = world.run("v1", until="tuned_checkpoint", probe=False)
    assert report.exit_code == 0, world.lines
    names = [f"base-s{seed}" for seed in (1, 2, 3)]
    ended = read_json(world.platform.difix(Cell("v1")).tuning_run(names[0]).job_exit, JobExit).ended_at
    assert job(world, names[1]).started_at < ended, "submitted before the first had ended"
    assert job(world, names[2]).started_at >= ended, "no more at once than there are slots"
    assert cluster.queue() == []
    assert not any(job(world, name).returncode for name in names)


def test_one_that_fails_before_its_step_comes_to_it_is_told_and_not_begun_again(
    world: SlottedWorld, cluster: SlurmCluster
) -> None:
    runs = {"a": {**RUN, "max_train_steps": 300}, "b": {**deepcopy(RUN), "learning_rate": 1e25}}
    world.write(experiment("v1", runs=runs))
    report = world.run("v1", until="tuned_checkpoint", probe=False)
    assert report.exit_code != 0
    told = world.platform.difix(Cell("v1")).tuning_run("b").progress.read_text()
    assert told.count('"failed"') == 1, told
    (failed,) = [outcome for outcome in report.outcomes if not outcome.success]
    assert failed.work.cells == (Cell("v1", run_name="b"),)


def test_an_interrupt_ends_those_that_nobody_follows_yet(world: SlottedWorld, cluster: SlurmCluster) -> None:
    world.write(experiment("v1", runs={"base": {**RUN, "max_train_steps": 100_000, "sweep": {"seed": [1, 2]}}}))
    world.run("v1", until="difix_data", probe=False)

    command = [sys.executable, "-m", "thesis_assets.cli.main", "run", "--exp", "v1", "--until", "tuned_checkpoint"]
    environment = {**os.environ, **world.environment, "THESIS_GPU_SLOTS": "2"}
    with subprocess.Popen([*command, "--no-probe"], env=environment, stdout=subprocess.DEVNULL) as running:
        until(lambda: len(cluster.queue()) == 2)
        until(lambda: world.platform.difix(Cell("v1")).tuning_run("base-s1").progress.is_file())
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=120) != 0
    until(lambda: cluster.queue() == [])
    assert job(world, "base-s2").returncode is not None, "nobody will wait for it"
