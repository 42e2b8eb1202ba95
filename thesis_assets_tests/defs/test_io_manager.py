"""The IO manager: what is described is written, each cell of a range has its own metadata, and tables are loaded again."""

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thesis_assets.definitions import build_defs
from thesis_assets.defs.io_manager import SplitRows, TreeIOManager
from thesis_assets.graph.attempts import begin_attempts, read_attempt
from thesis_assets.graph.cells import PARTITIONS, Cell
from thesis_assets.graph.history import RANGE_END, RANGE_START
from thesis_assets.graph.nodes import CODE_VERSION, DATA_VERSION, latest_metadata, look_at
from thesis_assets.operations.execution import make_run
from thesis_assets.samples import export
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.storage import cell_lock
from thesis_assets_tests.worlds import SCENES, SMALL, TINY_RUN, World, thesis_assets

WRITTEN = {DATA_VERSION, CODE_VERSION, "files", "bytes", "seconds", "step run"}


@pytest.mark.parametrize("asset", ["sample_set", "split_manifests"])
def test_tables_that_were_written_are_loaded(finished_world: World, asset: str) -> None:
    """Loaded by an asset downstream, as a user's own would be."""
    platform = finished_world.platform
    seen: list[Any] = []

    @dg.asset(ins={"loaded": dg.AssetIn(asset, input_manager_key="trees")}, partitions_def=PARTITIONS["exp"])
    def downstream(loaded) -> None:  # type: ignore[no-untyped-def]
        seen.append(loaded)

    upstream = dg.AssetSpec(asset, partitions_def=downstream.partitions_def)
    with finished_world.instance() as instance:
        result = dg.materialize(
            [upstream, downstream],
            partition_key="small",
            instance=instance,
            resources={"trees": TreeIOManager(platform)},
            selection=[downstream],
        )
    assert result.success
    [loaded] = seen
    rows = loaded.train + loaded.test if isinstance(loaded, SplitRows) else loaded
    assert sorted(row.sample_id for row in rows) == [
        row.sample_id for row in read_rows(platform.difix(Cell("small")).all_samples)
    ]


def make_range(world: World, job: str, asset: str, first: str, last: str) -> tuple[bool, Mapping[str, dict[str, Any]]]:
    """Make cells of an asset in one run. Returns whether it ended well, and by cell what its newest event of that run has."""
    with world.instance() as instance:
        definitions = build_defs(settings=world.settings)
        result = make_run(
            instance,
            definitions.resolve_job_def(job),
            tags={RANGE_START: first, RANGE_END: last},
            assets=[dg.AssetKey(asset)],
        )
        events = [event for event in instance.all_logs(result.run_id) if event.is_dagster_event]
        keys = [
            str(event.get_dagster_event().partition)
            for event in events
            if event.get_dagster_event().event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
        ]
        assert len(keys) == len(set(keys))
        kind = "exp_by_scene" if asset == "scene_samples" else "exp_by_run"
        return result.success, {key: latest_metadata(instance, asset, Cell.parse(kind, key)) or {} for key in keys}


def versions(told: Mapping[str, Mapping[str, Any]]) -> Sequence[Any]:
    return [each[DATA_VERSION] for each in told.values()]


def test_each_scene_of_one_run_has_its_own_metadata_and_a_failed_one_leaves_the_others(
    new_world: Callable[..., World], scene_home: Path, tmp_path: Path
) -> None:
    world = new_world()
    shutil.copytree(scene_home, tmp_path / "scenes")
    world.scene_home = tmp_path / "scenes"
    entry = world.scene_home / "scenes" / f"{SCENES[1]}.json"
    whole = entry.read_bytes()
    entry.write_bytes(whole[:20])
    ended_well, told = make_range(world, "export_scenes", "scene_samples", f"small|{SCENES[0]}", f"small|{SCENES[3]}")
    assert not ended_well
    others = [SCENES[0], *SCENES[2:]]
    assert sorted(told) == [f"small|{scene}" for scene in others]
    assert len(set(versions(told))) == len(others)
    for key, metadata in told.items():
        scene = key.partition("|")[2]
        assert metadata.keys() >= WRITTEN
        assert metadata["path"].endswith(scene)
        assert metadata["dagster/row_count"] == len(
            read_rows(world.platform.difix(Cell("small")).scene_run(scene).all_samples)
        )
    failed = look_at(world.platform, "scene_samples", Cell("small", scene_name=SCENES[1]))
    assert failed.state == "missing"

    entry.write_bytes(whole)
    ended_well, told = make_range(world, "export_scenes", "scene_samples", f"small|{SCENES[0]}", f"small|{SCENES[3]}")
    assert ended_well
    assert sorted(told) == [f"small|{scene}" for scene in SCENES]
    assert {key: metadata["exported"] for key, metadata in told.items()} == {
        f"small|{scene}": scene == SCENES[1] for scene in SCENES
    }


def test_a_fault_of_the_program_in_one_scene_leaves_the_others_too(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(work: export.ShardWork) -> export.ShardRecord:
        if work.scene_name == SCENES[2]:
            raise KeyError("a fault")
        return export_shard(work)

    export_shard = export.export_shard
    monkeypatch.setattr(export, "export_shard", faulty)
    world = new_world()
    ended_well, told = make_range(world, "export_scenes", "scene_samples", f"small|{SCENES[0]}", f"small|{SCENES[3]}")
    assert not ended_well
    assert sorted(told) == [f"small|{scene}" for scene in (*SCENES[:2], SCENES[3])]


def test_who_finds_another_at_work_on_a_cell_leaves_that_ones_note(new_world: Callable[..., World]) -> None:
    world = new_world()
    platform, cell = world.platform, Cell("small", run_name="r1")
    tree = platform.difix(cell)
    begin_attempts(platform, "nvs", [cell], "at work")
    noted = read_attempt(tree, "nvs", cell)
    with cell_lock(tree.lock("evaluation-r1"), "the evaluation"):
        ended_well, told = make_range(world, "evaluate", "nvs", "small|r1", "small|r1")
    assert (ended_well, told) == (False, {})
    assert noted is not None
    assert read_attempt(tree, "nvs", cell) == noted


@pytest.mark.long
def test_every_scene_that_failed_begins_a_line_of_its_own(
    new_world: Callable[..., World], scene_home: Path, tmp_path: Path
) -> None:
    world = new_world()
    world.scene_home = tmp_path / "scenes"
    shutil.copytree(scene_home, world.scene_home)
    for scene in SCENES[:2]:
        shutil.rmtree(world.scene_home / "preprocessing" / scene / "gaussians")
    said = thesis_assets(world, "run", "--exp", "small", "--until", "scene_samples").stderr.splitlines()
    for scene in SCENES[:2]:
        assert any(line.strip().startswith(f"{scene}: the scene") for line in said), said


@pytest.mark.long
def test_each_run_of_one_step_has_its_own_predictions_and_metadata(new_world: Callable[..., World]) -> None:
    changes: dict[str, dict[str, object]] = {"r1": {}, "r2": {"learning_rate": 1e-2}, "r3": {"max_train_steps": 2}}
    runs = {name: {**copy.deepcopy(TINY_RUN), **change} for name, change in changes.items()}
    world = new_world({**SMALL, "runs": runs})
    assert world.run("small", until="selected_checkpoint").exit_code == 0
    broken = world.platform.difix(Cell("small")).tuning_run("r3").checkpoint(2)
    broken.write_bytes(b"no checkpoint")
    ended_well, told = make_range(world, "evaluate", "predictions", "small|r1", "small|r3")
    assert not ended_well
    assert sorted(told) == ["small|r1", "small|r2"]
    assert len(set(versions(told))) == 2
    for metadata in told.values():
        assert metadata.keys() >= WRITTEN
        assert metadata["source"] == "refine"
    # The unrefined views of both are the same, and so are their bytes.
    trees = [world.platform.evaluation_trees(Cell("small", run_name=run))[SCENES[3]] for run in ("r1", "r2")]
    pictures = [sorted(tree.task(epoch, "nvs").inputs_dir.rglob("*.png")) for tree in trees for epoch in (0, 1)]
    first, refined, same, other = [[path.read_bytes() for path in paths] for paths in pictures]
    assert first == same
    assert refined != other
