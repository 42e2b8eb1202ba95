"""A real daemon through a day and a night: a damaged sample is found, mended by the command on the check page, and all below it
follows; a second dataset arrives, and the nightly schedule takes it in."""

import html
import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import failed_blocking_checks
from thesis_assets.graph.history import ASKED_BY
from thesis_assets.graph.nodes import SCENE_FILES
from thesis_assets.graph.states import Plan
from thesis_assets.layout import SampleId
from thesis_assets.storage import read_jsonl
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, say, tiny_world
from thesis_assets_tests.samples.tiny_scenes import write_scene
from thesis_assets_tests.services.dagster_server import DagsterServer, prepare_home
from thesis_assets_tests.worlds import World, thesis_assets

pytestmark = pytest.mark.long

SOON = {"THESIS_SCENE_QUIET_SECONDS": "4", "THESIS_SENSOR_SECONDS": "3", "THESIS_NIGHTLY_AT": "* * * * *"}
V1 = Cell("v1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two scenes of one dataset; the experiment's globs match those of a second one as well."""
    made = tiny_world(tmp_path_factory.mktemp("night"), "data")
    for name in ("hi4d_pair00_hug", "hi4d_pair01_hug"):
        add_scene(made, name)
    split = {"test_groups": {"hi4d": ["pair00"]}, "group_rules": {"chi3d": r"^chi3d_(s\d+)_"}}
    made.write(experiment("v1", generation={"scenes": ["hi4d_*", "chi3d_*"]}, split=split))
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


def states(world: World, instance: dg.DagsterInstance) -> dict[str, str]:
    return {f"{state.asset} {state.cell}": state.state for state in Plan(world.platform, instance).of_experiment("v1")}


def all_made(world: World, instance: dg.DagsterInstance) -> bool:
    return set(states(world, instance).values()) == {"made"}


def page(world: World) -> str:
    """The check page as the daemon wrote it last."""
    path = world.settings.reports.checks
    return html.unescape(path.read_text()) if path.is_file() else ""


def tells_of_no_failure(world: World) -> bool:
    return not re.search(r"[0-9] blocking checks? failed", page(world))


def scenes_of(path: Path) -> Counter[str]:
    """How many samples of each scene data.json has."""
    sides = json.loads(path.read_text()).values()
    return Counter(SampleId.parse(sample_id).scene_name for side in sides for sample_id in side)


def test_an_emptied_sample_blocks_what_is_below_until_the_command_on_the_check_page_is_given(
    server: DagsterServer, world: World, instance: dg.DagsterInstance
) -> None:
    tree = world.platform.difix(V1)
    server.turn_off_sensor(
        "stale_data"
    )  # it would mend the damage itself; a tick that is under way ends before there is any
    server.wait_until(lambda: all_made(world, instance), "the first two scenes")
    before = tree.data_json.read_bytes()
    sample = sorted(path for path in tree.samples_dir.iterdir() if "pair01" in path.name)[0]
    whole = (sample / "image.png").read_bytes()
    (sample / "image.png").unlink()
    (sample / "image.png").write_bytes(b"")

    add_scene(world, "hi4d_pair02_hug")
    failed = "sample_set.every_sample_complete"
    server.wait_until(lambda: failed_blocking_checks(instance, ("sample_set",), "v1") == [failed], "the check fails")
    server.wait_until(lambda: "1 blocking check failed." in page(world), "the check page says so")
    assert tree.data_json.read_bytes() == before
    now = states(world, instance)
    assert now["scene_samples v1|hi4d_pair01_hug"] == "damaged"
    assert now["split_manifests v1"] != "made"

    (command,) = set(re.findall(r"`(thesis-assets run --exp v1 --until scene_samples)`", page(world)))
    done = thesis_assets(world, *shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr
    assert (sample / "image.png").read_bytes() == whole
    server.wait_until(lambda: all_made(world, instance), "all below follows by itself")
    assert set(scenes_of(tree.data_json)) == {"hi4d_pair00_hug", "hi4d_pair01_hug", "hi4d_pair02_hug"}
    server.wait_until(lambda: tells_of_no_failure(world), "the check page says so")
    assert failed_blocking_checks(instance, ("sample_set", "split_manifests", "difix_data"), "v1") == []


def test_a_second_dataset_that_arrives_overnight_is_taken_in_by_the_schedule_when_it_is_complete(
    server: DagsterServer, world: World, instance: dg.DagsterInstance
) -> None:
    tree, new = world.platform.difix(V1), ("chi3d_s02_hug", "chi3d_s03_hug")
    server.wait_until(lambda: all_made(world, instance), "the first dataset")
    server.turn_off_sensor("new_scenes")  # the night's work is the schedule's
    began = time.time()
    for name in new:
        say(world, name, "running")
        write_scene(world.platform.roots, name, cameras=(4, 16), frames=(0, 1))
    say(world, new[0], "success")
    server.turn_on_schedule("new_dataset_backfill")

    def shard(name: str) -> str:
        return states(world, instance).get(f"scene_samples v1|{name}", "not declared")

    server.wait_until(lambda: shard(new[0]) == "made", "the complete scene is exported")
    assert shard(new[1]) == "waiting"
    assert not tree.scene_run(new[1]).base.exists()
    say(world, new[1], "success")
    server.wait_until(lambda: shard(new[1]) == "made", "the next night takes the other")
    server.wait_until(lambda: all_made(world, instance), "the tables follow")

    assert {name: scenes_of(tree.data_json)[name] for name in new} == dict.fromkeys(new, 2)
    assert sum(1 for _ in read_jsonl(tree.all_samples)) == sum(scenes_of(tree.data_json).values())
    exports = [
        run for run in instance.get_runs() if run.job_name != "observe_scene_files" and _exports(run, began, instance)
    ]
    assert len(exports) == len(new), "each new scene once, no old one again"
    assert {run.tags[ASKED_BY] for run in exports} == {"new_dataset_backfill"}
    observed = {
        record.partition_key for record in instance.fetch_observations(dg.AssetKey(SCENE_FILES), limit=99).records
    }
    assert observed >= set(new)

    report = json.loads(thesis_assets(world, "checks", "report", "--json").stdout)
    rows = {f"{row['asset']}.{row['check']}": row for row in report["checks"] if row["cell"] == "v1"}
    assert {row["status"] for row in rows.values()} <= {"passed", "warning"}
    server.wait_until(lambda: tells_of_no_failure(world), "the page of the morning")
    morning = json.loads(thesis_assets(world, "status", "--exp", "v1", "--json").stdout)
    assert {row["state"] for row in morning} == {"made"}


def _exports(run: dg.DagsterRun, since: float, instance: dg.DagsterInstance) -> bool:
    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    return dg.AssetKey("scene_samples") in (run.asset_selection or ()) and record.create_timestamp.timestamp() > since
