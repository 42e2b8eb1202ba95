"""A real daemon with its sensors on: a scene copied in file by file is waited for, then exported once, and what is cheap
follows; the rest is one backfill through all levels."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.history import ASKED_BY
from thesis_assets.graph.states import Plan
from thesis_assets_tests.services.dagster_server import DagsterServer, prepare_home
from thesis_assets_tests.worlds import SMALL, World, thesis_assets

pytestmark = pytest.mark.long

SOON = {"THESIS_SCENE_QUIET_SECONDS": "8", "THESIS_SENSOR_SECONDS": "3"}
LATE = "studio_pair01_fight"
FILES_A_SECOND = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    """Three of the four scenes are there; the sensors start what is data."""
    base = tmp_path_factory.mktemp("arriving")
    shutil.copytree(scene_home, base / "scenes")
    for root in ("canonical_gt", "preprocessing"):
        (base / "late" / root).mkdir(parents=True)
        (base / "scenes" / root / LATE).rename(base / "late" / root / LATE)
    made = World(base / "home", base / "scenes", auto_start="data")
    made.write(SMALL)
    prepare_home(made)
    return made


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[DagsterServer]:
    running = DagsterServer(world, world.home / "server.log", SOON)
    yield running
    running.stop()


@pytest.fixture
def instance(server: DagsterServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    with server.history(monkeypatch) as opened:
        yield opened


def exports(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    return list(instance.get_runs(dg.RunsFilter(job_name="export_scenes")))


def copy_slowly(source: Path, target: Path, after_each: Callable[[], None]) -> None:
    """Every file by itself, in the order of a directory listing: the word that the scene is finished is not the last."""
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            continue
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        after_each()
        time.sleep(1 / FILES_A_SECOND)


def test_a_scene_copied_file_by_file_is_exported_once_and_what_is_cheap_follows(
    server: DagsterServer, world: World, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tree = world.platform.difix(world.cell())

    def collected() -> int:
        return len(tree.all_samples.read_text().splitlines()) if tree.all_samples.is_file() else 0

    server.wait_until(lambda: collected() == 27 and tree.data_json.is_file(), "three scenes collected")
    first = exports(instance)
    assert [run.tags[ASKED_BY] for run in first] == ["new_scenes"]

    late = world.home.parent / "late"
    for root in ("preprocessing", "canonical_gt"):
        copy_slowly(
            late / root / LATE,
            world.scene_home / root / LATE,
            lambda: None,
        )
        assert len(exports(instance)) == 1, "a run began before the scene was complete"
    server.wait_until(lambda: collected() == 36, "the late scene collected")

    new = [run for run in exports(instance) if run.run_id != first[0].run_id]
    assert [run.tags["dagster/partition"] for run in new] == [f"small|{LATE}"]
    server.wait_until(lambda: _is_done(world, instance, "difix_data"), "data.json follows")
    followed = instance.fetch_materializations(dg.AssetKey("sample_set"), limit=10).records
    # Counted by what was made, not by who asked: a shard that `cheap_assets` misses is followed by `stale_data`.
    assert len(followed) == 2, "once for the first three scenes, once for the late one"
    checks = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("split_manifests"), "group_non_leakage"), limit=10
    )
    assert len(checks) == 2, "the checks run with what follows"


def _is_done(world: World, instance: dg.DagsterInstance, asset: str) -> bool:
    return all(
        state.state == "made" for state in Plan(world.platform, instance).of_experiment("small") if state.asset == asset
    )


def test_a_backfill_of_everything_goes_from_shards_to_recordings_in_order(
    server: DagsterServer, world: World, instance: dg.DagsterInstance
) -> None:
    before = time.time()
    plan = json.loads(thesis_assets(world, "backfill", "--exp", "small", "--all", "--dry-run", "--json").stdout)
    assert plan["gpu_hours"] > 0, "the shards were exported before"
    assert "tuned_checkpoint" in plan["without_past_work"]
    assert plan["through"] == "daemon"
    report = json.loads(thesis_assets(world, "backfill", "--exp", "small", "--all", "--json").stdout)
    server.wait_for_backfill(report["backfill"])
    runs = [
        record
        for record in instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": report["backfill"]}))
        if record.start_time is not None
    ]
    assert all(record.start_time > before for record in runs if record.start_time is not None)
    ordered = sorted(runs, key=lambda record: record.start_time or 0.0)
    assets = [{key.to_user_string() for key in record.dagster_run.asset_selection or ()} for record in ordered]
    assert assets[0] == {"scene_samples"}
    assert "sample_set" in assets[1]
    assert "tuned_checkpoint" in set().union(*assets[2:])
    made = [each for record in ordered for each in record.dagster_run.asset_selection or ()]
    assert len(made) == len(set(made)), "no asset in two runs"
    states = Plan(world.platform, instance).of_experiment("small")
    assert {state.state for state in states} == {"made"}, [state for state in states if state.state != "made"]
