"""A real daemon that may start everything: from scenes and an experiment file to recordings without a command, each cell once."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.states import Plan
from thesis_assets_tests.services.dagster_server import WAIT_S, DagsterServer, prepare_home
from thesis_assets_tests.worlds import SMALL, World

pytestmark = pytest.mark.long

SOON = {"THESIS_SENSOR_SECONDS": "3"}


@pytest.fixture
def world(tmp_path: Path, scene_home: Path) -> World:
    shutil.copytree(scene_home, tmp_path / "scenes")
    made = World(tmp_path / "home", tmp_path / "scenes", auto_start="everything")
    prepare_home(made)
    return made


@pytest.fixture
def server(world: World) -> Iterator[DagsterServer]:
    running = DagsterServer(world, world.home / "server.log", SOON)
    yield running
    running.stop()


def test_an_experiment_file_alone_leads_to_recordings_and_nothing_is_made_twice(
    server: DagsterServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(SMALL)

    monkeypatch.setenv("DAGSTER_HOME", str(world.settings.dagster_home))
    with dg.DagsterInstance.get() as instance:
        deadline = time.monotonic() + WAIT_S
        while not (states := Plan(world.platform, instance).of_experiment("small")) or {s.state for s in states} != {
            "made"
        }:
            left = [f"{state.asset} {state.cell}: {state.state}" for state in states if state.state != "made"]
            assert time.monotonic() < deadline, f"not within {WAIT_S} s: {left}\n{server.log_tail()}"
            time.sleep(1)
        (tree,) = world.platform.evaluation_trees(world.cell()).values()
        assert tree.evaluation_recording(1).is_file()
        made = Counter[str]()
        for state in states:
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(
                    dg.AssetKey(state.asset), asset_partitions=[state.cell.key] if state.cell.key else None
                ),
                limit=10,
            ).records
            made[f"{state.asset} {state.cell}"] = len(records)
        assert set(made.values()) == {1}, {name: count for name, count in made.items() if count != 1}
        failed = [run for run in instance.get_runs() if run.status is dg.DagsterRunStatus.FAILURE]
        assert not failed, [_why(instance, run) for run in failed]


def _why(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What a failed run was to make, and the innermost error of each step."""
    causes = []
    for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        error = event.get_dagster_event().step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        causes.append(error.message if error is not None else "no error")
    return f"{run.asset_selection}: {causes}"
