"""Whatever happens to the data of an experiment, all who are asked say the same of every cell, and `run` mends it to what it would
have been."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thesis_assets.defs.attempts import attempting
from thesis_assets.defs.jobs import LEVELS
from thesis_assets.defs.partitions import Cell
from thesis_assets.defs.ready_scenes import ReadyScenes
from thesis_assets.defs.requests import EXPORT, PREPARE
from thesis_assets.defs.states import Plan
from thesis_assets.errors import InvalidScene
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, cell_of, experiment, state_of, tiny_world
from thesis_assets_tests.worlds import World

V1 = Cell("v1")
SCENES = tuple(f"hi4d_pair{number:02d}_hug" for number in range(4))
N_EVENTS = 6
Event = Callable[[World, random.Random], World]


def drawn_file(world: World, drawn: random.Random, name: str) -> Path:
    return drawn.choice(sorted(world.platform.difix(V1).samples_dir.glob(f"*/{name}")))


def made(world: World, drawn: random.Random) -> World:
    world.run("v1", until=drawn.choice(["scene_samples", "split_manifests", "difix_data"]))
    return world


def another_photograph(world: World, drawn: random.Random) -> World:
    add_scene(world, drawn.choice(SCENES), frames=tuple(range(drawn.randint(2, 4))))
    return world


def emptied(world: World, drawn: random.Random) -> World:
    path = drawn_file(world, drawn, drawn.choice(["image.png", "target_image.jpg", "meta.json"]))
    path.unlink()
    path.write_bytes(b"")
    return world


def deleted(world: World, drawn: random.Random) -> World:
    tree = world.platform.difix(V1)
    path = drawn.choice(
        [drawn_file(world, drawn, "image.png").parent, tree.split_train, tree.all_samples, tree.data_json]
    )
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return world


def another_split(world: World, drawn: random.Random) -> World:
    group = drawn.choice(["pair00", "pair01"])
    world.write(experiment("v1") | {"split": {"test_groups": {"hi4d": [group]}}})
    return world


def failed(world: World, drawn: random.Random) -> World:
    cell = Cell("v1", scene_name=drawn.choice(SCENES))
    with pytest.raises(InvalidScene), attempting(world.platform, "scene_samples", [cell], "0123", lambda: False):
        raise InvalidScene("it could not be read")
    return world


def blocked(world: World, drawn: random.Random) -> World:
    asset, name = drawn.choice([("sample_set", "every_sample_complete"), ("split_manifests", "group_non_leakage")])

    @dg.op(out=dg.Out(dg.Nothing))
    def fail(context: dg.OpExecutionContext) -> None:
        found = dg.AssetCheckEvaluation(
            dg.AssetKey(asset), name, passed=False, metadata={}, blocking=True, partition="v1"
        )
        context.log_event(found)  # type: ignore[arg-type]

    @dg.job(executor_def=dg.in_process_executor)
    def failing() -> None:
        fail()

    with world.instance() as instance:
        failing.execute_in_process(instance=instance)
    return world


def moved(world: World, drawn: random.Random) -> World:
    base = world.home.parent
    base.rename(base.with_name(f"moved_{drawn.randint(0, 10**9)}"))
    (there,) = (path for path in base.parent.iterdir() if path.name.startswith("moved_"))
    return World(there / "home", there / "scenes", auto_start="data")


EVENTS: tuple[Event, ...] = (made, another_photograph, emptied, deleted, another_split, failed, blocked, moved)


def rows(world: World, monkeypatch: pytest.MonkeyPatch, *command: str) -> Any:
    return json_of(invoke(monkeypatch, world, *command, "--exp", "v1", "--json"))


def all_say_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said = rows(world, monkeypatch, "status")
    assert rows(world, monkeypatch, "run", "--dry-run") == said
    state = {(row["asset"], row["cell"]): row["state"] for row in said}
    for mode, states in (("--missing", {"missing", "damaged", "failed"}), ("--stale", {"stale"})):
        planned = rows(world, monkeypatch, "backfill", mode, "--dry-run")
        asked = {(cell["asset"], cell["cell"]) for cell in planned["cells"] if not cell["why"].startswith("follows")}
        assert {state[pair] for pair in asked} <= states, (mode, state)
        left_out = {pair for pair in state if state[pair] in states} - asked
        assert all(cell in planned["waiting"] for _, cell in left_out), (mode, left_out, planned["waiting"])
    with world.instance() as instance:
        plan = Plan(world.platform, instance, ReadyScenes(world.platform, time.time()))
        work = {str(each.cell) for each in plan.of_experiment("v1") if plan.is_next(each)}
        asked_by_sensors = asked_of(world, instance)
    assert asked_by_sensors <= work


def asked_of(world: World, instance: dg.DagsterInstance) -> set[str]:
    """The cells of the data that the sensors would ask for; nothing is made."""
    ticks = Ticks(world, instance)
    ticks.only_looks = True
    ticks.tick("new_scenes", "stale_data")
    cells: set[str] = set()
    for request in ticks.asked:
        assert request.job_name in (EXPORT.job, PREPARE.job)
        first, _, last = cell_of(request).partition("..")
        level = next(level for level in LEVELS if level.job == request.job_name)
        names = [f"v1|{name}" for name in SCENES] if level is EXPORT else ["v1"]
        cells |= {name for name in names if first <= name <= (last or first)}
    return cells


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 40))])
def test_all_say_the_same_of_every_cell_and_a_run_ends_where_an_undisturbed_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    drawn = random.Random(seed)
    world = tiny_world(tmp_path / "place" / "first")
    for name in SCENES:
        add_scene(world, name)
    world.write(experiment("v1"))
    assert world.run("v1", until="difix_data").exit_code == 0
    told = []
    for event in drawn.choices(EVENTS, k=N_EVENTS):
        told.append(event.__name__)
        try:
            world = event(world, drawn)
        except IndexError:  # there is no sample left to lose
            continue
    all_say_the_same(world, monkeypatch)
    for _ in range(3):
        report = world.run("v1", until="difix_data")
        if report.exit_code == 0 and not report.outcomes:
            break
    assert report.exit_code == 0, (told, report.stopped, report.outcomes)
    assert report.outcomes == [], told
    all_say_the_same(world, monkeypatch)
    once = World(tmp_path / "once", world.scene_home)
    once.write(world.platform.experiments.read("v1").model_dump(mode="json", exclude_unset=True))
    shutil.copytree(world.settings.renders_root, once.settings.renders_root)
    assert once.run("v1", until="difix_data").exit_code == 0
    assert state_of(world, "v1") == state_of(once, "v1"), told
