"""The one plan: what every cell is said to be, by whom it is made, and what stands in its way; over scenes of a few small images."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thesis_assets.errors import CellLocked, InvalidScene, ProcessLost
from thesis_assets.graph.attempts import note_failure, read_attempt
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.states import CellState, Plan
from thesis_assets.operations.backfill_plan import plan_backfill
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.provenance import ASKED_ANEW, ask_anew
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets.storage import cell_lock, write_json
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, remove_scene
from thesis_assets_tests.graph.attempts import attempting
from thesis_assets_tests.tuning.snapshots import make_config_file
from thesis_assets_tests.worlds import World

V1 = Cell("v1")
RUN = Cell("v1", run_name="r1")
SHARD = Cell("v1", scene_name="hi4d_pair01_hug")


@pytest.fixture
def world(data_of_scenes: Callable[[int], World]) -> World:
    return data_of_scenes(2)


@pytest.fixture
def instance(world: World) -> Iterator[dg.DagsterInstance]:
    with world.instance() as instance:
        yield instance


def states(world: World, instance: dg.DagsterInstance) -> dict[str, CellState]:
    """By asset and cell."""
    register(instance, plan_registration(world.platform, instance))
    found = Plan(world.platform, instance).of_experiment("v1")
    return {f"{each.asset} {each.cell}": each for each in found}


def sample_of(world: World, scene: str = SHARD.scene_name) -> Path:
    folders = world.platform.difix(V1).samples_dir.iterdir()
    return next(folder for folder in sorted(folders) if scene in folder.name)


def fail_check(instance: dg.DagsterInstance, asset: str, name: str) -> None:
    found = dg.AssetCheckEvaluation(dg.AssetKey(asset), name, passed=False, blocking=True, partition="v1", metadata={})
    instance.report_runless_asset_event(found)


def test_what_is_made_is_made_and_what_was_never_made_is_missing_with_its_command(
    world: World, instance: dg.DagsterInstance
) -> None:
    found = states(world, instance)
    data = [state for state in found.values() if not state.cell.run_name]
    assert {state.state for state in data} == {"made"}
    tuned = found["tuned_checkpoint v1|r1"]
    assert (tuned.state, tuned.mend) == ("missing", "thesis-assets run --exp v1 --run r1 --until tuned_checkpoint")


def test_an_emptied_sample_is_damaged_and_a_run_makes_exactly_it_again(
    world: World, instance: dg.DagsterInstance
) -> None:
    sample = sample_of(world)
    before = (sample / "image.png").read_bytes()
    others = {path: path.stat().st_mtime_ns for path in sample.parent.rglob("*.png") if path.parent != sample}
    (sample / "image.png").unlink()
    (sample / "image.png").write_bytes(b"")
    damaged = states(world, instance)[f"scene_samples {SHARD}"]
    assert damaged.state == "damaged"
    assert "0 bytes, was" in damaged.why
    assert world.run("v1", until="difix_data").exit_code == 0
    assert (sample / "image.png").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert {state.state for state in states(world, instance).values() if not state.cell.run_name} == {"made"}


def test_nothing_follows_from_files_that_come_back(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sample_of(world) / "image.png").unlink()
    states(world, instance)
    plan = plan_backfill(world.platform, instance, "v1", "missing", ReadyScenes(world.platform, 1e12))
    data = [(each.asset, each.why) for each in plan.cells if each.cell.exp_name and not each.cell.run_name]
    assert data == [("scene_samples", "missing")]
    told = invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--dry-run").output
    assert "lost files alone come back" in told
    world.platform.difix(V1).scene_run(SHARD.scene_name).made_from.unlink()
    plan = plan_backfill(world.platform, instance, "v1", "missing", ReadyScenes(world.platform, 1e12))
    assert [(each.asset, each.why) for each in plan.cells if not each.cell.run_name][:2] == [
        ("scene_samples", "missing"),
        ("sample_set", "follows scene_samples"),
    ]


def test_damage_is_said_before_staleness(world: World, instance: dg.DagsterInstance) -> None:
    add_scene(world, SHARD.scene_name, frames=(0, 1, 2))
    (sample_of(world) / "meta.json").write_text("{}")
    state = states(world, instance)[f"scene_samples {SHARD}"]
    assert state.state == "damaged"
    assert "new" in state.why


def test_a_scene_that_moved_makes_its_shard_stale_and_nothing_below_until_it_is_made(
    world: World, instance: dg.DagsterInstance
) -> None:
    add_scene(world, SHARD.scene_name, frames=(0, 1, 2))
    found = states(world, instance)
    assert found[f"scene_samples {SHARD}"].state == "stale"
    assert found["sample_set v1"].state == "made"
    plan = plan_backfill(world.platform, instance, "v1", "stale", ReadyScenes(world.platform, 1e12))
    assert [(each.asset, each.why) for each in plan.cells[:2]] == [
        ("scene_samples", "stale"),
        ("sample_set", "follows scene_samples"),
    ]


def test_nothing_plans_past_a_failed_blocking_check(world: World, instance: dg.DagsterInstance) -> None:
    fail_check(instance, "sample_set", "every_sample_complete")
    found = states(world, instance)
    assert {state.state for state in found.values() if not state.cell.run_name} == {"made"}, "whole as they are"
    runs = [state for state in found.values() if state.cell.run_name and state.state != "absent"]
    assert {state.state for state in runs} == {"blocked"}
    assert "sample_set.every_sample_complete" in runs[0].why
    for mode in ("missing", "stale"):
        plan = plan_backfill(world.platform, instance, "v1", mode, ReadyScenes(world.platform, 1e12))
        assert plan.cells == ()
    assert world.run("v1", until="difix_data").exit_code == 0, "which makes the check again"
    assert states(world, instance)["tuned_checkpoint v1|r1"].state == "missing"


def test_a_failed_check_of_what_is_made_anew_blocks_nothing(world: World, instance: dg.DagsterInstance) -> None:
    """Its checks come again after that."""
    fail_check(instance, "sample_set", "every_sample_complete")
    shutil.rmtree(sample_of(world))
    found = states(world, instance)
    assert found[f"scene_samples {SHARD}"].state == "missing"
    assert found["tuned_checkpoint v1|r1"].state == "missing"


def test_a_run_makes_failed_checks_again_before_it_goes_on(world: World, instance: dg.DagsterInstance) -> None:
    fail_check(instance, "split_manifests", "group_non_leakage")
    report = world.run("v1", until="difix_data")
    assert report.exit_code == 0
    assert [outcome.work.assets for outcome in report.outcomes] == [("split_manifests",)]
    assert any("passed when made again" in line for line in world.lines)


def test_a_scene_that_is_being_copied_waits(world: World, instance: dg.DagsterInstance) -> None:
    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    found = states(world, instance)
    assert found["scene_samples v1|hi4d_pair02_hug"].state == "waiting"
    assert "two cameras" in found["scene_samples v1|hi4d_pair02_hug"].why
    assert found["tuned_checkpoint v1|r1"].state == "waiting", "it would freeze the data without the scene"
    assert "two cameras" in found["tuned_checkpoint v1|r1"].why


def test_frozen_data_that_would_change_is_refused_with_the_fork_and_lost_files_are_work(
    world: World, instance: dg.DagsterInstance
) -> None:
    freeze(world.platform.difix(V1), "test")
    add_scene(world, SHARD.scene_name, frames=(0, 1, 2))
    refused = states(world, instance)[f"scene_samples {SHARD}"]
    assert refused.state == "refused"
    assert "thesis-assets fork --exp v1" in refused.mend
    shutil.rmtree(sample_of(world, "hi4d_pair00_hug"))
    assert states(world, instance)["scene_samples v1|hi4d_pair00_hug"].state == "missing"


def test_what_was_asked_for_anew_and_killed_is_gone_on_with_also_in_frozen_data(
    world: World, instance: dg.DagsterInstance
) -> None:
    (shard,) = NODES["scene_samples"].units(world.platform, SHARD)
    ask_anew(shard)
    found = states(world, instance)[f"scene_samples {SHARD}"]
    assert (found.state, found.why) == ("stale", ASKED_ANEW)
    image = sample_of(world) / "image.png"
    before = image.stat().st_mtime_ns
    assert world.run("v1", until="difix_data").exit_code == 0
    assert image.stat().st_mtime_ns != before
    freeze(world.platform.difix(V1), "test")
    (data_json,) = NODES["difix_data"].units(world.platform, V1)
    ask_anew(data_json)
    assert states(world, instance)["difix_data v1"].is_work, "it comes out as it was, and is not refused"
    assert world.run("v1", until="difix_data").exit_code == 0
    assert {state.state for state in states(world, instance).values() if not state.cell.run_name} == {"made"}


def test_a_lost_freeze_is_damage_of_the_data_that_a_run_mends(world: World, instance: dg.DagsterInstance) -> None:
    tree = world.platform.difix(V1)
    frozen = freeze(tree, "tuning run r1")
    named = frozen.model_dump(include={"data_json_sha256", "manifest_sha256"})
    write_json(tree.tuning_run("r1").train_config, make_config_file({}).model_copy(update=named))
    tree.frozen.unlink()
    found = states(world, instance)
    assert found["difix_data v1"].state == "damaged"
    assert "meta/frozen.json" in found["difix_data v1"].why
    assert found["difix_data v1"].mend == "thesis-assets run --exp v1 --until difix_data"
    add_scene(world, SHARD.scene_name, frames=(0, 1, 2))
    assert states(world, instance)[f"scene_samples {SHARD}"].state == "refused", "it is frozen all the same"
    remove_scene(world, SHARD.scene_name)
    world.run("v1", until="difix_data")
    assert tree.frozen.is_file()
    assert states(world, instance)["difix_data v1"].state == "made"


def test_another_generation_section_is_refused_until_it_is_forced(world: World, instance: dg.DagsterInstance) -> None:
    world.write(experiment("v1", generation={"frames": {"stride": 2}}, runs={"r1": {"max_train_steps": 10}}))
    refused = states(world, instance)[f"scene_samples {SHARD}"]
    assert refused.state == "refused"
    assert refused.mend == "thesis-assets run --exp v1 --force scene_samples"
    report = world.run("v1", until="difix_data")
    assert report.exit_code == 1
    assert {state.state for state in report.stopped} == {"refused"}
    assert world.run("v1", until="difix_data", force=["scene_samples"]).exit_code == 0
    assert states(world, instance)[f"scene_samples {SHARD}"].state == "made"


def test_another_generation_section_is_taken_while_nothing_was_exported(
    world: World, instance: dg.DagsterInstance
) -> None:
    tree = world.platform.difix(world.cell(exp_name="v1"))
    shutil.rmtree(tree.samples_dir)
    shutil.rmtree(tree.scene_runs_dir)
    assert tree.generation_config.is_file(), "a first export that failed leaves it"
    world.write(experiment("v1", generation={"frames": {"stride": 2}}, runs={"r1": {"max_train_steps": 10}}))
    assert states(world, instance)[f"scene_samples {SHARD}"].state != "refused"
    assert world.run("v1", until="scene_samples").exit_code == 0


def test_tasks_that_an_experiment_does_not_have_are_absent(world: World, instance: dg.DagsterInstance) -> None:
    world.write(experiment("v1", runs={"r1": {"max_train_steps": 10}}, evaluation={"tasks": ["nvs"], "epochs": [0]}))
    found = states(world, instance)
    assert {found[f"{task} v1|r1"].state for task in ("pose_smplx", "pose_smpl")} == {"absent"}
    assert found["nvs v1|r1"].state == "missing"


def test_a_failed_attempt_is_not_work_until_what_it_was_made_from_moves(
    world: World, instance: dg.DagsterInstance
) -> None:
    shutil.rmtree(sample_of(world))
    with pytest.raises(InvalidScene), attempting(world.platform, "scene_samples", [SHARD], "0123", lambda: False):
        raise InvalidScene("it cannot be read")
    failed = states(world, instance)[f"scene_samples {SHARD}"]
    assert (failed.state, failed.why) == ("failed", "it cannot be read")
    ready = ReadyScenes(world.platform, 1e12)
    by_schedule = plan_backfill(world.platform, instance, "v1", "missing", ready, by_person=False)
    assert f"scene_samples {SHARD}" not in {f"{each.asset} {each.cell}" for each in by_schedule.cells}
    asked = plan_backfill(world.platform, instance, "v1", "missing", ready)
    assert f"scene_samples {SHARD}" in {f"{each.asset} {each.cell}" for each in asked.cells}
    add_scene(world, SHARD.scene_name, frames=(0, 1, 2))
    assert states(world, instance)[f"scene_samples {SHARD}"].state == "missing"


def test_a_lost_process_is_started_again_three_times_and_then_it_has_failed(
    world: World, instance: dg.DagsterInstance
) -> None:
    said = []
    for _ in range(3):
        with pytest.raises(ProcessLost), attempting(world.platform, "tuned_checkpoint", [RUN], "0123", lambda: False):
            raise ProcessLost("it ended by signal 9")
        said.append(states(world, instance)[f"tuned_checkpoint {RUN}"].state)
    assert said == ["missing", "missing", "failed"]
    assert states(world, instance)[f"selected_checkpoint {RUN}"].state == "waiting"


def attempt_that_fails(
    world: World, run_id: str, error: Exception, meanwhile: Callable[[], None] = lambda: None
) -> None:
    with attempting(world.platform, "tuned_checkpoint", [RUN], run_id, lambda: False):
        meanwhile()
        raise error


def test_who_finds_another_at_work_on_a_cell_leaves_that_ones_note(world: World) -> None:
    """Commands that were refused made one that is at work look like one that was lost as often."""
    tree = world.platform.difix(V1)

    def meanwhile() -> None:
        at_work = read_attempt(tree, "tuned_checkpoint", RUN)
        for run_id in ("second", "third", "fourth"):
            with pytest.raises(CellLocked):
                attempt_that_fails(world, run_id, CellLocked("another process works on it"))
        assert at_work is not None
        assert read_attempt(tree, "tuned_checkpoint", RUN) == at_work

    with pytest.raises(ProcessLost):
        attempt_that_fails(world, "works", ProcessLost("it ended by signal 9"), meanwhile)
    failed = read_attempt(tree, "tuned_checkpoint", RUN)
    assert failed is not None
    assert (failed.run_id, failed.number, failed.reason) == ("works", 1, "it ended by signal 9")


def test_a_failure_while_another_is_refused_is_what_stays(world: World) -> None:
    def meanwhile() -> None:
        note_failure(world.platform, "tuned_checkpoint", [RUN], "it has no data", "works")

    with pytest.raises(CellLocked):
        attempt_that_fails(world, "refused", CellLocked("another process works on it"), meanwhile)
    found = read_attempt(world.platform.difix(V1), "tuned_checkpoint", RUN)
    assert found is not None
    assert (found.run_id, found.reason) == ("works", "it has no data")


def test_of_a_refused_command_nothing_is_noted(world: World) -> None:
    tree = world.platform.difix(V1)
    shutil.rmtree(sample_of(world))
    with cell_lock(tree.lock(f"scene-{SHARD.scene_name}"), "the other one"):
        report = world.run("v1", until="scene_samples")
    assert report.exit_code != 0
    assert read_attempt(tree, "scene_samples", SHARD) is None


def test_a_cell_that_is_made_forgets_its_attempts(world: World) -> None:
    assert list(world.platform.difix(V1).attempts_dir.glob("*")) == []
    assert read_attempt(world.platform.difix(V1), "scene_samples", SHARD) is None


def test_the_dry_run_and_the_status_say_the_same_of_every_cell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (sample_of(world) / "ref_image.jpg").unlink()
    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    rows: Any = json_of(invoke(monkeypatch, world, "status", "--exp", "v1", "--json"))
    assert rows == json_of(invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run", "--json"))
    assert {"exp_name", "asset", "cell", "state", "why", "mend"} == rows[0].keys()
    assert not (sample_of(world) / "ref_image.jpg").exists(), "nothing was started"


def test_scenes_that_are_gone_shrink_nothing_by_themselves_and_a_person_may(
    world: World, instance: dg.DagsterInstance
) -> None:
    add_scene(world, "hi4d_pair02_hug")
    assert world.run("v1", until="difix_data").exit_code == 0
    world.write(experiment("v1", generation={"exclude": ["hi4d_pair02_*"]}, runs={"r1": {"max_train_steps": 10}}))
    remove_scene(world, "hi4d_pair02_hug")
    state = states(world, instance)["sample_set v1"]
    assert (state.state, state.by_hand) == ("refused", True)
    assert "set-aside" in state.why


def test_a_file_that_cannot_be_read_is_told_in_its_own_words(world: World, instance: dg.DagsterInstance) -> None:
    (world.settings.experiments_dir / "v1.yaml").write_text("a: &x {}\nb: *x\n")
    (why,) = {state.why for state in Plan(world.platform, instance).of_experiment("v1")}
    assert "aliases are not read" in why
    assert "None" not in why


def test_what_comes_after_until_is_neither_made_nor_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (world.platform.difix(V1).made_from(name) for name in ("split_manifests", "difix_data")):
        place.unlink()
    shutil.rmtree(world.platform.difix(V1).data_json.parent)
    report = world.run("v1", until="sample_set")
    assert (report.exit_code, report.stopped) == (0, [])
    shown = json_of(invoke(monkeypatch, world, "run", "--exp", "v1", "--until", "sample_set", "--dry-run", "--json"))
    assert {row["asset"] for row in shown} == {"scene_samples", "sample_set"}


def test_a_backfill_makes_what_waits_for_a_failed_cell_with_it(world: World, instance: dg.DagsterInstance) -> None:
    """As a person's run does; the reason of the failure is told in one line."""
    with (
        pytest.raises(InvalidScene),
        attempting(world.platform, "tuned_checkpoint", [RUN], "run1", lambda: True),
    ):
        raise InvalidScene("not finite", found="step 2")
    found = states(world, instance)
    assert found["tuned_checkpoint v1|r1"].state == "failed"
    assert found["tuned_checkpoint v1|r1"].why == "not finite found: step 2"
    assert found["selected_checkpoint v1|r1"].state == "waiting"
    plan = plan_backfill(world.platform, instance, "v1", "missing", ReadyScenes(world.platform, 1e12))
    assert plan.waiting == {}
    assert [each.asset for each in plan.cells[:2]] == ["tuned_checkpoint", "selected_checkpoint"]

    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    states(world, instance)
    plan = plan_backfill(world.platform, instance, "v1", "missing", ReadyScenes(world.platform, 1e12))
    assert "tuned_checkpoint" not in {each.asset for each in plan.cells}, "it would freeze the data without the scene"


@pytest.mark.parametrize("asset", ["sample_set", "split_manifests", "difix_data"])
def test_a_garbled_record_is_damaged_and_a_run_writes_it_anew(
    world: World, instance: dg.DagsterInstance, asset: str
) -> None:
    world.platform.difix(V1).made_from(asset).write_text("{")
    assert states(world, instance)[f"{asset} v1"].state == "damaged"
    assert world.run("v1", until="difix_data").exit_code == 0
    assert states(world, instance)[f"{asset} v1"].state == "made"


def test_an_experiment_with_data_whose_file_is_refused_keeps_it_and_every_cell_names_the_line(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, path = states(world, instance), world.settings.experiments_dir / "v1.yaml"
    keys = {name: instance.get_dynamic_partitions(name) for name in ("exp_name", "scene_name", "run_name")}
    tree = world.platform.difix(V1)
    stamps = {file: file.stat().st_mtime_ns for file in tree.base.rglob("*") if file.is_file()}
    whole = path.read_text()
    path.write_text(whole.replace("max_train_steps: 10", "max_train_steps: 1000000000000"))
    line = 1 + path.read_text().splitlines().index("    max_train_steps: 1000000000000")

    found = states(world, instance)
    assert {state.state for state in found.values()} == {"refused"}
    assert {f"scene_samples {SHARD}", "difix_data v1"} <= found.keys()
    assert all(f"v1.yaml:{line}" in state.why for state in found.values())
    for words in (("status",), ("status", "--exp", "v1")):
        told = invoke(monkeypatch, world, *words)
        assert told.exit_code == 0
        assert f"v1.yaml:{line}" in told.stdout
    rows = json_of(invoke(monkeypatch, world, "status", "--exp", "v1", "--json"))
    assert {row["state"] for row in rows} == {"refused"}
    invoke(monkeypatch, world, "sync", "--remove-withdrawn")
    assert {name: instance.get_dynamic_partitions(name) for name in keys} == keys
    assert {file: file.stat().st_mtime_ns for file in tree.base.rglob("*") if file.is_file()} == stamps

    path.write_text(whole)
    assert states(world, instance) == before
