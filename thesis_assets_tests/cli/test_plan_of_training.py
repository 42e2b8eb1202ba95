"""`run --dry-run` tells what a training would be, once its data is there; nothing is started for it."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.experiments.spec import RunSpec
from thesis_assets.tuning.trainer_start import Reported, trainer_start
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, tiny_world
from thesis_assets_tests.tuning.snapshots import SCENES, write_snapshot
from thesis_assets_tests.worlds import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return tiny_world(tmp_path)


def test_a_dry_run_tells_passes_disk_and_size_or_why_it_would_be_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(experiment("v1", runs={"r1": {}}))
    cell = world.cell(exp_name="v1", run_name="r1")
    assert world.platform.plan_of_training(cell) is None
    tree = write_snapshot(world.platform.difix(cell).root)
    assert tree.base == world.platform.difix(cell).base
    assert SCENES[0] in tree.split_train.read_text()
    plan = world.platform.plan_of_training(cell)
    assert plan is not None
    for subject in ("samples: ", "time: ", "disk: ", "size: "):
        assert any(line.startswith(subject) for line in plan.lines), plan
    add_scene(world, "hi4d_pair00_hug")
    add_scene(world, "hi4d_pair01_hug")
    shown = invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "plan of r1: samples: 10000 steps of 1 see 10000: 1250.0 passes over 8" in shown.output
    assert not tree.tuning_run("r1").base.exists()

    monkeypatch.setattr("thesis_assets.tuning.training_plan._bytes_to_come", lambda *_: 10**18)
    shown = invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run")
    assert "plan of r1: refused: the checkpoints of this training do not fit" in shown.output


def test_the_run_itself_tells_its_plan_and_a_dry_run_writes_nothing(
    data_of_scenes: Callable[[int], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = data_of_scenes(2)
    world.write(experiment("v1", runs={"r1": {"max_train_steps": 4, "selection": {"rule": "last"}}}))
    file = world.settings.experiments_dir / "v1.yaml"
    before = file.read_text()
    refused = invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run", "--set", "runs.r1.seed=2")
    assert refused.exit_code == 2
    assert invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run").exit_code == 0
    assert file.read_text() == before
    world.write(experiment("v1", runs={"r2": {"max_train_steps": 4, "selection": {"rule": "last"}}}))
    assert invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run").exit_code == 0
    with dg.DagsterInstance.local_temp(str(world.settings.dagster_home)) as instance:
        assert "r2" not in instance.get_dynamic_partitions("run_name"), "only what makes things registers names"
    told = invoke(monkeypatch, world, "run", "--exp", "v1", "--until", "tuned_checkpoint").output
    assert "plan of r2: samples: 4 steps" in told


def test_the_step_that_the_file_selects_is_kept(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    keys = {"backend": "tiny", "max_train_steps": 4, "checkpointing_steps": 1, "keep_last": 1}
    run = RunSpec.model_validate({**keys, "selection": {"rule": "step", "step": 1}})
    start = trainer_start(tree, "r1", run, "cpu", n_train=8, reported=Reported(steps=(2,)))
    assert start.flags.keep_steps == "1,2"
