"""Dagster's own marks: a scene that changed marks its shards and nothing else, a raised code version marks and asks for nothing."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from thesis_assets.definitions import build_defs
from thesis_assets.defs.jobs import OBSERVE_JOB
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.history import RANGE_END, RANGE_START
from thesis_assets.graph.nodes import NODES
from thesis_assets.operations.execution import make_run
from thesis_assets.provenance import CODE_VERSIONS
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, experiment, remove_scene, tiny_world
from thesis_assets_tests.worlds import World

SCENES = ("hi4d_pair00_hug", "hi4d_pair01_hug", "hi4d_pair02_hug")
SHARDS = [("scene_samples", f"v1|{name}") for name in SCENES]
TABLES = [("sample_set", "v1"), ("split_manifests", "v1"), ("difix_data", "v1")]


@pytest.fixture
def world(data_of_scenes: Callable[[int], World]) -> World:
    return data_of_scenes(len(SCENES))


@pytest.fixture
def instance(world: World) -> Iterator[dg.DagsterInstance]:
    with world.instance() as opened:
        yield opened


def marked(world: World, instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """What Dagster marks stale, by partition, with its reasons."""
    graph = build_defs(settings=world.settings).resolve_asset_graph()
    marks = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    found = {}
    for asset, key in [*SHARDS, *TABLES]:
        assert marks.get_status(dg.AssetKey(asset), key) != StaleStatus.MISSING
        if causes := marks.get_stale_causes(dg.AssetKey(asset), key):
            found[f"{asset} {key}"] = [cause.reason for cause in causes]
    return found


def observe(world: World, instance: dg.DagsterInstance) -> list[str | None]:
    """The scenes that a run of the nightly schedule's job observes."""
    result = make_run(instance, build_defs(settings=world.settings).resolve_job_def(OBSERVE_JOB))
    assert result.success
    events = [event for event in result.all_events if event.is_asset_observation]
    return [event.partition for event in events]


def test_a_scene_that_changed_marks_its_shards_until_they_are_made_anew(
    world: World, instance: dg.DagsterInstance
) -> None:
    assert marked(world, instance) == {}, "each cell of a range has what it was made after"
    assert observe(world, instance) == []
    add_scene(world, SCENES[1], frames=(0, 1, 2))
    assert observe(world, instance) == [SCENES[1]]
    assert observe(world, instance) == []
    assert marked(world, instance) == {f"scene_samples v1|{SCENES[1]}": ["has a new dependency data version"]}
    assert world.run("v1", until="difix_data").exit_code == 0
    assert marked(world, instance) == {}
    assert observe(world, instance) == []


def test_what_changed_between_two_looks_is_known_by_the_export_that_read_it(
    world: World, instance: dg.DagsterInstance
) -> None:
    """Observed as it was, then changed, then exported: the next look tells Dagster nothing new."""
    assert observe(world, instance) == []
    add_scene(world, SCENES[0], frames=(0, 1, 2))
    assert world.run("v1", until="scene_samples").exit_code == 0
    assert observe(world, instance) == []
    assert set(marked(world, instance)) == {"sample_set v1"}


def test_equal_bytes_with_other_times_are_no_new_version_and_are_read_once(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(world, instance)
    image = world.platform.roots.tree(SCENES[0]).ground_truth.image(4, "000000")
    os.utime(image, (1, 1))
    read: list[str] = []
    from thesis_assets.provenance import contents

    digest = contents._digest
    monkeypatch.setattr(contents, "_digest", lambda path, size: read.append(str(path)) or digest(path, size))
    assert observe(world, instance) == []
    assert str(image) in read
    read.clear()
    assert observe(world, instance) == []
    assert read == []
    assert marked(world, instance) == {}


def test_a_scene_that_is_gone_marks_nothing_and_a_lost_cache_neither(
    world: World, instance: dg.DagsterInstance
) -> None:
    observe(world, instance)
    world.settings.scene_stamps.write_text("{")
    remove_scene(world, SCENES[2])
    assert observe(world, instance) == []
    assert marked(world, instance) == {}


def test_a_scene_whose_shard_has_a_garbled_record_is_passed_over_and_the_others_are_observed(
    world: World, instance: dg.DagsterInstance
) -> None:
    world.platform.difix(Cell("v1")).scene_run(SCENES[0]).made_from.write_text("{")
    for name in SCENES[:2]:
        add_scene(world, name, frames=(0, 1, 2))
    assert observe(world, instance) == [SCENES[1]]


def test_a_raised_code_version_is_marked_and_asks_for_nothing(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks(world, instance)
    for _ in range(4):
        ticks.tick()
    ticks.asked.clear()
    raised = ("scene_samples", "split_manifests")
    for asset in raised:
        monkeypatch.setitem(CODE_VERSIONS, asset, "2")
    ticks.definitions = build_defs(settings=world.settings)
    expected = {f"scene_samples v1|{name}": ["has a new code version"] for name in SCENES}
    expected["split_manifests v1"] = ["has a new code version"]
    assert marked(world, instance) == expected
    for _ in range(3):
        assert ticks.tick() == []
    report = world.run("v1", until="difix_data")
    assert (report.exit_code, report.outcomes) == (0, [])
    # What a run leaves as an older version made it still says so.
    make_run(
        instance,
        ticks.definitions.resolve_job_def("export_scenes"),
        tags={RANGE_START: SHARDS[0][1], RANGE_END: SHARDS[1][1]},
        assets=[dg.AssetKey("scene_samples")],
    )
    make_run(
        instance,
        ticks.definitions.resolve_job_def("export_scenes"),
        partition_key=SHARDS[2][1],
        assets=[dg.AssetKey("scene_samples")],
    )
    assert {name for name in marked(world, instance) if name.startswith("scene_samples")} == {
        f"scene_samples {key}" for _, key in SHARDS
    }
    assert world.run("v1", until="scene_samples", force=["scene_samples"]).exit_code == 0
    assert not any(name.startswith("scene_samples") for name in marked(world, instance))


def test_the_cells_that_a_failed_range_made_have_versions_too(tmp_path: Path) -> None:
    world = tiny_world(tmp_path)
    world.write(experiment("v1"))
    for name in SCENES:
        add_scene(world, name)
    world.platform.roots.tree(SCENES[1]).registry_entry.write_text("{")
    report = world.run("v1", until="scene_samples")
    assert report.exit_code == 1
    with world.instance() as instance:
        graph = build_defs(settings=world.settings).resolve_asset_graph()
        marks = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        found = [marks.get_status(dg.AssetKey("scene_samples"), key).value for _, key in SHARDS]
        assert found == ["FRESH", "MISSING", "FRESH"]
        add_scene(world, SCENES[0], frames=(0, 1, 2))
        assert observe(world, instance) == [SCENES[0]]
        marks = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        assert marks.get_status(dg.AssetKey("scene_samples"), SHARDS[0][1]) == StaleStatus.STALE


def test_the_code_version_of_an_asset_is_that_of_its_records(finished_world: World) -> None:
    graph = build_defs(settings=finished_world.settings).resolve_asset_graph()
    scene = finished_world.platform.scene_names(finished_world.platform.experiments.read("small"))[0]
    of_kind = {"exp_by_scene": Cell("small", scene_name=scene), "exp": Cell("small"), "none": Cell()}
    for asset, node in NODES.items():
        cell = of_kind.get(node.kind, finished_world.cell())
        shown = graph.get(dg.AssetKey(asset)).code_version
        assert shown == CODE_VERSIONS[asset]
        steps = {
            unit.wanted.code_version for unit in node.units(finished_world.platform, cell) if unit.wanted.step == asset
        }
        assert steps <= {shown}, asset


def test_the_look_at_the_scenes_is_scheduled(tmp_path: Path) -> None:
    world = tiny_world(tmp_path)
    repository = build_defs(settings=world.settings).get_repository_def()
    schedule = repository.get_schedule_def("nightly_scene_files")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    with world.instance() as instance:
        context = dg.build_schedule_context(instance=instance, repository_def=repository)
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert schedule.job_name == OBSERVE_JOB
    assert request.partition_key is None
