"""What the schedules start: missing cells handed over to the daemon, and one run that reads every file of all partitions."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill

from thesis_assets.definitions import build_defs
from thesis_assets.defs.sensors import lost_runs
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.history import History
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets.storage import write_json
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, experiment, tiny_world
from thesis_assets_tests.worlds import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = tiny_world(tmp_path)
    made.write(experiment("v1"))
    made.write(experiment("v2", generation={"scenes": ["hi4d_*_hug"]}))
    for name in ("hi4d_pair00_hug", "hi4d_pair01_hug"):
        add_scene(made, name)
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(world: World, instance: dg.DagsterInstance, job: str) -> dg.ExecuteInProcessResult:
    definitions = build_defs(settings=world.settings)
    return definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def handed_over(instance: dg.DagsterInstance) -> list[PartitionBackfill]:
    return sorted(instance.get_backfills(), key=lambda backfill: backfill.title or "")


def test_the_night_hands_over_what_each_experiment_lacks_and_nothing_a_second_time(
    world: World, instance: dg.DagsterInstance
) -> None:
    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    add_scene(world, "hi4d_pair03_dance")
    assert run(world, instance, "new_dataset_backfill").success
    backfills = handed_over(instance)
    assert [backfill.title for backfill in backfills] == ["v1: missing", "v2: missing"]
    for backfill, scenes in zip(
        backfills, (("pair00_hug", "pair01_hug", "pair03_dance"), ("pair00_hug", "pair01_hug")), strict=True
    ):
        assert backfill.asset_backfill_data is not None
        target = backfill.asset_backfill_data.target_subset
        assert {key.to_user_string() for key in target.asset_keys} == {"scene_samples"}, "a scene is not complete"
        exp_name = (backfill.title or "").split(":")[0]
        keys = target.get_partitions_subset(dg.AssetKey("scene_samples")).get_partition_keys()
        assert set(keys) == {f"{exp_name}|hi4d_{scene}" for scene in scenes}
    assert History(instance).maker("scene_samples", "v1|hi4d_pair00_hug") is not None
    assert Ticks(world, instance).tick("new_scenes") == [], "what is handed over is not asked for again"
    assert run(world, instance, "new_dataset_backfill").success
    assert len(handed_over(instance)) == 2


def test_the_night_forks_what_says_so_and_takes_the_fork_through_all_levels(
    world: World, instance: dg.DagsterInstance
) -> None:
    world.write(experiment("v1", generation={"auto_fork": True}))
    world.platform.experiments.path("v2").unlink()
    ticks = Ticks(world, instance)
    ticks.tick("new_scenes", "cheap_assets")
    freeze(world.platform.difix(Cell("v1")), "test")
    add_scene(world, "hi4d_pair02_hug")
    assert run(world, instance, "new_dataset_backfill").success
    [backfill] = handed_over(instance)
    assert backfill.title == "v1-fork1: missing"
    assert backfill.asset_backfill_data is not None
    assets = {key.to_user_string() for key in backfill.asset_backfill_data.target_subset.asset_keys}
    assert assets == {"scene_samples", "sample_set", "split_manifests", "difix_data"}


def test_the_audit_is_one_run_that_finds_an_image_rotten_in_any_partition(
    world: World, instance: dg.DagsterInstance
) -> None:
    Ticks(world, instance).tick("new_scenes", "cheap_assets")
    assert run(world, instance, "integrity_audit").success
    folder = sorted(world.platform.difix(Cell("v2")).samples_dir.iterdir())[0]
    image = folder / "image.png"
    content = bytearray(image.read_bytes())
    content[-20] ^= 0xFF  # Header and end stay whole: only decoding shows it.
    image.unlink()
    image.write_bytes(content)
    meta = sorted(world.platform.difix(Cell("v1")).samples_dir.iterdir())[1] / "meta.json"
    text, stat = meta.read_bytes(), meta.stat()
    meta.unlink()
    meta.write_bytes(text.replace(b'"identity": "', b'"identitY": "'))  # no check knows this key
    os.utime(meta, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert meta.read_bytes() != text

    audited = run(world, instance, "integrity_audit")
    assert not audited.success
    (failed,) = audited.get_step_failure_events()
    said = str(failed.step_failure_data.user_failure_data and failed.step_failure_data.user_failure_data.description)
    assert f"{image}: other bytes than were recorded" in said
    assert f"{meta}: other bytes than were recorded" in said
    rows = check_rows(instance)
    assert {(row.cell, row.run_id) for row in rows} == {("v1", audited.run_id), ("v2", audited.run_id)}
    [row] = [row for row in rows if row.status == "failed"]
    assert (row.check, row.cell) == ("every_sample_complete", "v2")
    assert folder.name in row.offenders


def test_a_job_that_goes_on_while_no_run_follows_it_is_named_with_how_to_take_it_up(
    world: World, instance: dg.DagsterInstance
) -> None:
    world.write(experiment("v1", runs={"r1": {"max_train_steps": 10}}))
    tree = world.platform.difix(Cell("v1", run_name="r1")).tuning_run("r1")
    record = JobRecord(
        launcher="slurm",
        host="login1",
        process_group=None,
        job_id="4711",
        started_at="2026-01-01T00:00:00+00:00",
        command=["train"],
        stdout="out",
        stderr="err",
    )
    write_json(tree.job, record)
    context = dg.build_sensor_context(instance=instance, sensor_name="lost_runs")
    said = lost_runs(context, world.platform).skip_reason
    assert said is not None
    assert "job 4711 (slurm, login1" in str(said.skip_message)
    assert "thesis-assets run --exp v1 --run r1" in str(said.skip_message)
    write_json(tree.job, record.model_copy(update={"returncode": 0}))
    assert "4711" not in str(lost_runs(context, world.platform).skip_reason)
