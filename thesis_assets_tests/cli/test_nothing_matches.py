"""An experiment whose patterns match no scene: refused before anything starts, with where was looked and what is near."""

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.defs.jobs import new_dataset_backfill
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, experiment, tiny_world
from thesis_assets_tests.worlds import SMALL, World, thesis_assets

SLIP = SMALL | {"exp_name": "slip", "generation": {"scenes": ["studoi_*"]}}


def refused_with_its_place(world: World, said: str) -> None:
    assert "no scene on disk matches" in said
    assert str(world.settings.canonical_gt_root) in said
    assert "studoi_*" in said
    assert "near: studio_pair00_dance" in said


@pytest.mark.parametrize("arguments", [("run", "--exp", "slip"), ("backfill", "--exp", "slip", "--missing")])
def test_it_is_refused_before_the_first_step_with_the_root_and_near_names(
    new_world: Callable[..., World], arguments: tuple[str, ...]
) -> None:
    world = new_world(SLIP)
    done = thesis_assets(world, *arguments)
    assert done.returncode == 1
    refused_with_its_place(world, done.stderr)
    assert f"{world.settings.experiments_dir}/slip.yaml:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "the scenes on disk:" not in done.stderr, "a step was started"
    assert not world.settings.difix_data_root.exists()


def test_status_and_sync_say_so_and_show_the_others(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(SLIP, SMALL)
    states = json_of(invoke(monkeypatch, world, "status", "--json"))
    of_slip = [state for state in states if state["exp_name"] == "slip"]
    assert {state["state"] for state in of_slip} <= {"refused", "waiting"}
    assert (of_slip[0]["asset"], of_slip[0]["cell"]) == ("scene_samples", "slip")
    assert [state for state in states if state["exp_name"] == "small"]
    refused_with_its_place(world, " ".join(invoke(monkeypatch, world, "status", "--exp", "slip").output.split()))
    synced = invoke(monkeypatch, world, "sync")
    assert synced.exit_code == 1
    refused_with_its_place(world, synced.output)


def test_evaluated_scenes_that_nothing_matches_are_refused_before_anything_is_trained(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(SMALL | {"evaluation": {"scenes": ["studio_pair3_*"], "epochs": [0, 1]}})
    done = invoke(monkeypatch, world, "run", "--exp", "small")
    assert done.exception is not None
    assert "evaluation.scenes" in str(done.exception)
    assert "near: studio_pair0" in str(done.exception)
    assert not world.settings.difix_data_root.exists()
    data = json_of(invoke(monkeypatch, world, "run", "--exp", "small", "--until", "scene_samples", "--json"))
    assert data["exit_code"] == 0, "the data alone needs no evaluated scene"


def test_one_glob_without_a_scene_beside_others_is_a_warning_that_names_it(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(SMALL | {"generation": {"scenes": ["studio_*", "stduio_pair9*"]}})
    warning = (
        f"small: generation.scenes: stduio_pair9* matches no scene of {world.settings.canonical_gt_root} (near: studio_"
    )
    synced = invoke(monkeypatch, world, "sync")
    assert synced.exit_code == 0
    assert warning in synced.output
    assert warning in invoke(monkeypatch, world, "status").output
    done = invoke(monkeypatch, world, "run", "--exp", "small", "--until", "scene_catalog")
    assert done.exit_code == 0
    assert warning in done.output
    assert warning in invoke(monkeypatch, world, "backfill", "--exp", "small", "--missing", "--dry-run").output


def test_sensors_and_the_nightly_backfill_say_it_and_serve_the_others(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, auto_start="everything")
    world.write(experiment("slip", generation={"scenes": ["hi5d_*"]}, runs={"r1": {"max_train_steps": 10}}))
    world.write(experiment("other"))
    add_scene(world, "hi4d_pair00_hug")
    add_scene(world, "hi4d_pair01_hug")
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(world, instance)
        ticks.tick("experiment_files")
        assert "refused slip: no scene on disk matches" in ticks.said["experiment_files"]
        assert str(world.settings.canonical_gt_root) in ticks.said["experiment_files"]
        assert [request.job_name for request in ticks.tick("new_scenes")] == ["export_scenes"]
        ticks.tick("stale_data", "cheap_assets", "new_scenes")
        assert "no scene on disk matches" in ticks.said["new_scenes"]
        assert instance.get_dynamic_partitions("exp_name") == ["other"]
        night = ticks.definitions.resolve_job_def(new_dataset_backfill.name).execute_in_process(instance=instance)
        assert night.success


def test_data_whose_scenes_are_gone_stays_as_it_is_open_and_frozen(tmp_path: Path) -> None:
    world = tiny_world(tmp_path)
    world.write(experiment("v1"))
    for number in range(2):
        add_scene(world, f"hi4d_pair0{number}_hug")
    assert world.run("v1", until="difix_data").exit_code == 0
    tree = world.platform.difix(world.cell(exp_name="v1"))
    before = tree.all_samples.read_text()
    shutil.rmtree(world.settings.canonical_gt_root)
    shutil.rmtree(world.settings.preprocessing_root)
    assert world.run("v1", until="difix_data").outcomes == []
    assert tree.all_samples.read_text() == before

    freeze(tree, reason="a test")
    with world.instance() as instance:
        assert sorted(instance.get_dynamic_partitions("scene_name")) == ["hi4d_pair00_hug", "hi4d_pair01_hug"]
    assert [outcome.work.assets for outcome in world.run("v1", until="difix_data").outcomes] == []
    world.write(experiment("v1", generation={"frames": {"stride": 2}}))
    changed = world.run("v1", until="difix_data")
    assert changed.exit_code == 1
    assert "the data is frozen, and would change: `generation.frames.stride` was 1, is 2" in changed.stopped[0].why
    assert tree.all_samples.read_text() == before
