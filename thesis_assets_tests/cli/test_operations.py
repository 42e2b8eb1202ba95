"""Looking after a platform from the command line: backfill with its plan, the morning's summary, what is left behind."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, tiny_world
from thesis_assets_tests.worlds import World, thesis_assets


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two scenes of a few images, one experiment without runs."""
    made = tiny_world(tmp_path, auto_start="nothing")
    made.write(experiment("v1"))
    for number in range(2):
        add_scene(made, f"hi4d_pair0{number}_hug")
    return made


def cells(report: dict[str, list[dict[str, object]]]) -> list[tuple[object, object]]:
    return [(each["asset"], each["why"]) for each in report["cells"]]


def test_a_backfill_shows_its_plan_acts_here_without_a_daemon_and_then_has_nothing_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--dry-run", "--json"))
    assert plan["through"] == "this process"
    assert plan["dry_run"]
    assert not world.platform.difix(Cell("v1")).base.exists()
    assert cells(plan)[:3] == [
        ("scene_samples", "missing"),
        ("scene_samples", "missing"),
        ("sample_set", "missing"),
    ]
    assert plan["without_past_work"] == ["scene_samples", "sample_set", "split_manifests", "difix_data"]

    done = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--json"))
    assert [(run["job"], len(run["cells"]), run["success"]) for run in done["runs"]] == [
        ("export_scenes", 2, True),
        ("prepare_data", 1, True),
    ]
    again = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--json"))
    assert again["cells"] == []
    said = invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--dry-run").output
    assert "v1: nothing is missing, damaged or failed; `thesis-assets status`" in said
    assert "hours by past runs" not in said, "an empty table"
    everything = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--all", "--dry-run", "--json"))
    assert len(everything["cells"]) == 2 + 3
    assert everything["without_past_work"] == []
    assert all(each["seconds"] is not None for each in everything["cells"])
    shown = invoke(monkeypatch, world, "backfill", "--exp", "v1", "--all", "--dry-run")
    assert "hours on the GPU by past runs" in shown.output


def test_a_backfill_of_stale_cells_takes_what_moved_and_what_follows_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.run("v1", until="difix_data").exit_code == 0
    add_scene(world, "hi4d_pair01_hug", frames=(0, 1, 2))
    add_scene(world, "hi4d_pair02_hug")
    plan = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--stale", "--dry-run", "--json"))
    shards = [each["cell"] for each in plan["cells"] if each["asset"] == "scene_samples"]
    assert shards == ["v1|hi4d_pair01_hug"]
    missing = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--dry-run", "--json"))
    assert [each["cell"] for each in missing["cells"] if each["asset"] == "scene_samples"] == ["v1|hi4d_pair02_hug"]


def test_a_scene_that_is_not_complete_holds_up_what_is_made_from_it_and_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    plan = json_of(invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing", "--dry-run", "--json"))
    assert {each["asset"] for each in plan["cells"]} == {"scene_samples"}
    assert "two cameras" in plan["waiting"]["v1|hi4d_pair02_hug"]
    assert "two cameras" in plan["waiting"]["v1"]


@pytest.mark.parametrize("options", [(), ("--missing", "--all"), ("--missing", "--run", "nothing")])
def test_a_backfill_that_is_asked_wrongly_says_so_with_code_2(
    world: World, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    assert invoke(monkeypatch, world, "backfill", "--exp", "v1", *options).exit_code == 2


def test_the_morning_names_what_failed_and_what_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(experiment("v2", generation={"target_cameras": {"mode": "explicit", "ids": [28]}}))
    (world.settings.experiments_dir / "bad.yaml").write_text("exp_name: bad\n")
    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    assert invoke(monkeypatch, world, "backfill", "--exp", "v1", "--missing").exit_code == 0
    assert invoke(monkeypatch, world, "backfill", "--exp", "v2", "--missing").exit_code == 1
    told = json_of(invoke(monkeypatch, world, "status", "--since", "12h", "--json"))
    assert not told["daemon"]
    assert [run["status"] for run in told["runs"]] == ["failure", "success"]
    failed = told["runs"][0]
    assert failed["cells"] == "v2|hi4d_pair00_hug..v2|hi4d_pair01_hug"
    assert "28" in failed["reason"]
    assert "two cameras" in told["waiting"]["hi4d_pair02_hug"]
    assert "bad.yaml" in told["waiting"]["bad"]
    assert {cell["exp_name"] for cell in told["cells"]} == {"v1", "v2"}
    shards = {cell["cell"]: cell["state"] for cell in told["cells"] if cell["asset"] == "scene_samples"}
    assert shards["v2|hi4d_pair00_hug"] == shards["v2|hi4d_pair01_hug"] == "failed", "each cell of the run over both"
    shown = invoke(monkeypatch, world, "status", "--since", "1d").output
    assert "1 failure, 1 success" in shown
    assert "Runs that did not end well" in shown
    one = json_of(invoke(monkeypatch, world, "status", "--exp", "v1", "--since", "12h", "--json"))
    assert [run["status"] for run in one["runs"]] == ["success"]
    assert invoke(monkeypatch, world, "status", "--since", "yesterday").exit_code == 2


def test_the_morning_closes_and_names_a_run_whose_process_was_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.test_utils import create_run_for_test

    from thesis_assets.graph.run_processes import PROCESS_TAG, holder_tags

    invoke(monkeypatch, world, "sync")
    with dg.DagsterInstance.get() as instance:
        create_run_for_test(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            tags=holder_tags("") | {PROCESS_TAG: "1-1.00", "dagster/partition": "v1"},
        )
    told = json_of(invoke(monkeypatch, world, "status", "--since", "12h", "--json"))
    [run] = told["runs"]
    assert (run["status"], run["cells"]) == ("failure", "v1")
    assert "killed" in run["reason"]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[Path, Path], None]]:
    """A process that holds a temporary file open and a lock, as a writer at work does."""
    children: list[subprocess.Popen[bytes]] = []

    def hold(temporary: Path, lock: Path) -> None:
        code = f"import fcntl, sys; a = open({str(temporary)!r}, 'w'); b = open({str(lock)!r}, 'a'); fcntl.flock(b, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        children.append(child)

    yield hold
    for child in children:
        child.kill()
        child.communicate()


def test_clean_shows_then_removes_what_dead_writers_left_and_nothing_that_is_in_use(
    world: World, monkeypatch: pytest.MonkeyPatch, holder: Callable[[Path, Path], None]
) -> None:
    from thesis_assets.storage import atomic_file, temporary_sibling

    tree = world.platform.difix(Cell("v1"))
    folder = temporary_sibling(tree.samples_dir / "a")
    folder.mkdir(parents=True)
    (folder / "image.png").write_bytes(b"12345")
    old = temporary_sibling(tree.all_samples)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"123")
    recent = temporary_sibling(tree.data_json)
    recent.parent.mkdir(parents=True)
    recent.write_bytes(b"1")
    held = temporary_sibling(tree.split_train)
    free_lock, held_lock = tree.lock("scene-a"), tree.lock("scene-b")
    free_lock.parent.mkdir(parents=True)
    free_lock.write_text("{}")
    holder(held, held_lock)
    theirs = tree.base / ".tmp-of-somebody"
    theirs.write_bytes(b"not ours")
    for path in (folder / "image.png", folder, old, held, theirs):
        os.utime(path, (time.time() - 7200,) * 2)

    shown = json_of(invoke(monkeypatch, world, "clean", "--json"))
    assert {each["path"] for each in shown["found"]} == {str(path) for path in (folder, old, free_lock)}
    assert shown["bytes"] == 5 + 3 + 2
    assert old.exists()
    assert "--yes" in invoke(monkeypatch, world, "clean").output
    json_of(invoke(monkeypatch, world, "clean", "--yes", "--json"))
    assert not any(path.exists() for path in (folder, old, free_lock))
    assert all(path.exists() for path in (recent, held, held_lock, theirs))
    with atomic_file(tree.all_samples) as path:
        path.write_bytes(b"x")


def test_a_lock_that_was_cleaned_away_while_it_was_opened_is_not_held_twice(tmp_path: Path) -> None:
    """Two holders of two files of one name: the second must see that the first one's file is gone, or be refused."""
    from thesis_assets.errors import CellLocked
    from thesis_assets.storage import cell_lock, remove_free_lock

    lock = tmp_path / "locks" / "a.lock"
    with cell_lock(lock, "a"):
        assert not remove_free_lock(lock)
        with pytest.raises(CellLocked), cell_lock(lock, "a"):
            pass
    assert remove_free_lock(lock)
    with cell_lock(lock, "a"):
        assert lock.exists()


def test_sync_removes_withdrawn_keys_only_when_it_is_told_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke(monkeypatch, world, "sync")
    world.platform.experiments.path("v1").unlink()
    kept = json_of(invoke(monkeypatch, world, "sync", "--json"))
    assert kept["withdrawn"]["exp_name"] == ["v1"]
    assert kept["removed"] == {}
    dry = invoke(monkeypatch, world, "sync", "--remove-withdrawn", "--dry-run").output
    assert "would be removed: exp_name v1" in dry
    assert json_of(invoke(monkeypatch, world, "sync", "--json"))["withdrawn"]["exp_name"] == ["v1"]
    gone = json_of(invoke(monkeypatch, world, "sync", "--remove-withdrawn", "--json"))
    assert gone["removed"]["exp_name"] == ["v1"]
    assert json_of(invoke(monkeypatch, world, "sync", "--json"))["withdrawn"] == {
        "exp_name": [],
        "scene_name": [],
        "run_name": [],
    }


def test_a_history_that_cannot_be_opened_is_told_without_a_traceback(tmp_path: Path) -> None:
    world = World(tmp_path / "home", tmp_path / "scenes")
    world.home.mkdir()
    (world.home / "dagster_home").write_text("")
    done = thesis_assets(world, "status")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the history of runs cannot be opened" in done.stderr
    assert "DAGSTER_HOME" in done.stderr


def test_of_many_open_cells_the_status_names_some_and_counts_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2, 9):
        add_scene(world, f"hi4d_pair0{number}_hug")
    told = " ".join(re.sub("[│┃]", " ", invoke(monkeypatch, world, "status").stdout).split())
    assert "9 missing" in told
    assert "and 3 more" in told
