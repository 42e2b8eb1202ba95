"""Before which work a probe job is made. The job itself is made on a real cluster (`end_to_end/test_plans_on_slurm.py`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from thesis_assets.errors import CellLocked, ThesisAssetsError
from thesis_assets.evaluation.probe import ProbeWork
from thesis_assets.graph.cells import Cell
from thesis_assets.launch.jobs import Call
from thesis_assets.launch.mapping import WorkerDied
from thesis_assets.operations.cost_estimates import PastWork, ProbeCosts
from thesis_assets.operations.probing import make_probe, wanted_probes
from thesis_assets.schemas.probes import Probe, StepCost
from thesis_assets.settings import Settings
from thesis_assets.storage import write_json
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment
from thesis_assets_tests.test_architecture import FILES, imports_of, room_of
from thesis_assets_tests.worlds import TINY_RUN, World

FEW, MANY = 20, 21
EXPORT = Cell("v1", scene_name="hi4d_pair01_hug")


class SlurmWorld(World):
    """Of a cluster that nobody asks."""

    @property
    def settings(self) -> Settings:
        return super().settings.model_copy(update={"launcher": "slurm", "slurm_array_at_once": 4})


def world_of(tmp_path: Path, kind: type[World] = SlurmWorld, *, run: dict[str, Any] | None = None) -> World:
    world = kind(tmp_path / "home", tmp_path / "scenes")
    for number in range(2):
        add_scene(world, f"hi4d_pair{number:02}_hug")
    runs = {} if run is None else {"r1": {**TINY_RUN, "checkpointing_steps": 500, "eval_freq": 500, **run}}
    world.write(experiment("v1", runs=runs))
    return world


def wanted(world: World, n_scenes: int = 0, *runs: str) -> list[Cell]:
    exports = [("scene_samples", Cell("v1", scene_name=f"hi4d_pair{number:02}_hug")) for number in range(n_scenes)]
    trained = [("tuned_checkpoint", Cell("v1", run_name=run)) for run in runs]
    with world.instance() as instance:
        return wanted_probes(world.platform, instance, [*exports, *trained])


def keep(world: World, cell: Cell, **costs: StepCost) -> None:
    """A kept probe of a cell."""
    of = ProbeCosts(world.platform)
    key = (of.of_data(world.platform.spec(cell)), of.of_run(cell))
    values = {"measured_at": "", "scene_name": "", "run_name": cell.run_name, "costs": costs, "seconds_a_save": 2.0}
    write_json(world.settings.probes.kept(*key), Probe(of_data=key[0], of_run=key[1], **values))


def test_a_probe_is_made_before_more_than_twenty_scenes(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    assert wanted(world, FEW) == []
    assert wanted(world, MANY) == [Cell("v1")]


@pytest.mark.parametrize(("steps", "n_probes"), [(1000, 0), (1001, 1)])
def test_a_probe_is_made_before_more_than_a_thousand_steps(tmp_path: Path, steps: int, n_probes: int) -> None:
    world = world_of(tmp_path, run={"max_train_steps": steps})
    assert wanted(world, 1, "r1") == [Cell("v1", run_name="r1")] * n_probes


def test_runs_whose_steps_take_as_long_share_a_probe(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    same = {"max_train_steps": 2000, "checkpointing_steps": 500}
    runs = {"a": same, "b": {**same, "learning_rate": 1e-5, "seed": 3}, "c": {**same, "resolution": 64}}
    world.write(experiment("v1", runs=runs))
    assert wanted(world, 0, "a", "b", "c") == [Cell("v1", run_name="a"), Cell("v1", run_name="c")]


def test_on_this_machine_there_is_no_probe(tmp_path: Path) -> None:
    assert wanted(world_of(tmp_path, World, run={"max_train_steps": 5000}), MANY, "r1") == []


def test_a_kept_probe_counts_as_past_work_and_says_what_cells_take(tmp_path: Path) -> None:
    world = world_of(tmp_path, run={"max_train_steps": 2000, "num_processes": 2})
    run = Cell("v1", run_name="r1")
    costs = {"scene_samples": StepCost(start=10, unit=5), "tuned_checkpoint": StepCost(start=20, unit=0.5)}
    keep(world, run, **costs)
    assert wanted(world, MANY, "r1") == []
    with world.instance() as instance:
        past = PastWork(world.platform, instance)
        exported, trained = past.cost("scene_samples", EXPORT), past.cost("tuned_checkpoint", run)
        assert past.cost("nvs", run) is None, "it was not evaluated"
    assert exported is not None
    assert exported.by_probe
    # Two triplets of one target camera; four elements of the array at once.
    assert (exported.gpu_seconds, exported.seconds) == (20, 5)
    assert trained is not None
    # 2000 steps and four saves; on two GPUs.
    assert (trained.seconds, trained.gpu_seconds) == (20 + 1000 + 8, 2 * 1028)


def test_a_probe_of_other_settings_says_nothing(tmp_path: Path) -> None:
    world = world_of(tmp_path, run={"max_train_steps": 2000})
    keep(world, Cell("v1", run_name="r1"), tuned_checkpoint=StepCost(start=1, unit=1))
    world.write(experiment("v1", runs={"r1": {**TINY_RUN, "max_train_steps": 2000, "train_batch_size": 16}}))
    assert wanted(world, 0, "r1") == [Cell("v1", run_name="r1")]


@pytest.mark.long
def test_past_work_of_another_kind_does_not_stand_for_it(tmp_path: Path) -> None:
    """Once a small run has been trained, its steps tell nothing of a large one's."""
    here, small = world_of(tmp_path, World), {key: value for key, value in TINY_RUN.items() if key != "selection"}
    here.write(experiment("v1", runs={"small": small}))
    report = here.run("v1", until="tuned_checkpoint")
    assert report.exit_code == 0, [outcome.errors for outcome in report.outcomes]
    world = SlurmWorld(here.home, here.scene_home)
    long = {**small, "max_train_steps": 2000, "checkpointing_steps": 500}
    world.write(experiment("v1", runs={"small": small, "as_small": long, "large": {**long, "resolution": 128}}))
    assert wanted(world, 0, "as_small", "large") == [Cell("v1", run_name="large")]


class Cluster:
    """Has a job of a probe at work, whose files the one who follows it finds as they were."""

    name = "slurm"

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._meanwhile = meanwhile
        self.found: list[str] = []

    def map(self, function: object, calls: Sequence[Call[ProbeWork]], calling: object) -> list[Exception]:
        del function, calling
        self.found = [path.read_text() for path in calls[0].item.folder.glob("*")]
        self._meanwhile()
        return [WorkerDied("it was cancelled")]


def probe_by(world: World, cluster: Cluster) -> None:
    platform = world.platform
    vars(platform)["launcher"] = cluster
    make_probe(platform, Cell("v1"), "hi4d_pair01_hug", lambda _: None)


def test_who_follows_the_probe_job_of_a_killed_command_leaves_its_files(tmp_path: Path) -> None:
    """They were removed first, under the job that was followed then, which failed of that."""
    world, cluster = world_of(tmp_path), Cluster()
    of = ProbeCosts(world.platform)
    key = (of.of_data(world.platform.spec(Cell("v1"))), of.of_run(Cell("v1")))
    at_work = world.settings.probes.work_dir(*key) / "work"
    at_work.mkdir(parents=True)
    (at_work / "half").write_text("made by the job")
    with pytest.raises(ThesisAssetsError, match="the probe of v1 failed"):
        probe_by(world, cluster)
    assert cluster.found == ["made by the job"]
    assert not world.settings.probes.work_dir(*key).exists()


def test_a_second_command_is_told_who_makes_its_probe(tmp_path: Path) -> None:
    """It followed the same job, and whoever ended first took the other's answer away."""
    world = world_of(tmp_path)
    told: list[ThesisAssetsError] = []

    def meanwhile() -> None:
        with pytest.raises(ThesisAssetsError, match="the probe of v1") as refused:
            probe_by(world, Cluster())
        told.append(refused.value)

    with pytest.raises(ThesisAssetsError, match="the probe of v1 failed"):
        probe_by(world, Cluster(meanwhile))
    assert [type(error) for error in told] == [CellLocked]


def test_only_commands_of_a_person_make_a_probe() -> None:
    """A sensor or a schedule that waits for a cluster's queue asks for nothing else meanwhile."""
    makers = {
        room_of(path) for path in FILES for found in imports_of(path) if found.module.endswith("operations.probing")
    }
    assert makers == {"cli"}


def test_a_dry_run_says_that_a_probe_will_be_made_and_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(tmp_path, run={"max_train_steps": 5000})
    for command in (("run",), ("backfill", "--missing")):
        result = invoke(monkeypatch, world, *command, "--exp", "v1", "--dry-run", THESIS_LAUNCHER="slurm")
        assert result.exit_code == 0, (result.output, result.exception)
        assert "first makes a probe job" in result.stderr
        assert not world.settings.probes.base.exists()
        without = invoke(
            monkeypatch, world, *command, "--exp", "v1", "--dry-run", "--no-probe", THESIS_LAUNCHER="slurm"
        )
        assert "probe job" not in without.stderr


def test_a_plan_shows_what_a_kept_probe_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(tmp_path, run={"max_train_steps": 5000})
    cost = {"scene_samples": StepCost(start=3600, unit=0), "tuned_checkpoint": StepCost(start=0, unit=3.6)}
    keep(world, Cell("v1", run_name="r1"), **cost)
    on_slurm = {"THESIS_LAUNCHER": "slurm", "THESIS_SLURM_ARRAY_AT_ONCE": "4"}

    shown = invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run", **on_slurm).stderr
    assert "estimate: scene_samples: 2 cells, about 0.50 hours, 2.00 GPU hours" in shown
    assert "estimate: tuned_checkpoint: 1 cells, about 5.01 hours, 5.01 GPU hours" in shown
    assert "by a probe job" in shown

    shown = invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--dry-run", **on_slurm).stdout
    assert "about 5.51 hours, 7.01 hours on the GPU by a probe job" in " ".join(shown.split())
