"""Whatever happens to the data or the evaluation of an experiment, all who are asked say the same of every cell, and `run` mends it
to what it would have been."""

import html
import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thesis_assets.errors import InvalidScene
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import LEVELS
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.states import CellState, Plan
from thesis_assets.layout import TASKS
from thesis_assets.operations.run_requests import EXPORT, PREPARE
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import Ticks, add_scene, cell_of, experiment, state_of, tiny_world
from thesis_assets_tests.end_to_end.equal_worlds import assert_equal
from thesis_assets_tests.graph.attempts import attempting
from thesis_assets_tests.worlds import World

pytestmark = pytest.mark.long

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


def rows(world: World, monkeypatch: pytest.MonkeyPatch, exp_name: str, *command: str) -> Any:
    return json_of(invoke(monkeypatch, world, *command, "--exp", exp_name, "--json"))


def all_say_the_same(world: World, monkeypatch: pytest.MonkeyPatch, exp_name: str = "v1") -> None:
    said = rows(world, monkeypatch, exp_name, "status")
    assert rows(world, monkeypatch, exp_name, "run", "--dry-run") == said
    assert on_the_check_page(world, monkeypatch) == [
        (row["state"], row["asset"], row["cell"], row["why"], row["mend"])
        for row in said
        if row["state"] not in ("made", "absent")
    ]
    state = {(row["asset"], row["cell"]): row["state"] for row in said}
    for mode, states in (("--missing", {"missing", "damaged", "failed"}), ("--stale", {"stale"})):
        planned = rows(world, monkeypatch, exp_name, "backfill", mode, "--dry-run")
        why = {(cell["asset"], cell["cell"]): cell["why"] for cell in planned["cells"]}
        asked = {pair for pair in why if not why[pair].startswith("follows")}
        # One that waits for what the same backfill makes is in question for what became of itself.
        of_itself = {why[pair] if state[pair] == "waiting" else state[pair] for pair in asked}
        assert of_itself <= states, (mode, state)
        left_out = {pair for pair in state if state[pair] in states} - asked
        assert all(cell in planned["waiting"] for _, cell in left_out), (mode, left_out, planned["waiting"])
    with world.instance() as instance:
        plan = Plan(world.platform, instance, ReadyScenes(world.platform, time.time()))
        states = plan.of_experiment(exp_name)
        work = {str(each.cell) for each in states if plan.is_next(each)}
        asked_by_sensors = asked_of(world, instance, exp_name)
    assert asked_by_sensors <= work
    lineage_says_the_same(world, monkeypatch, exp_name, states)


def on_the_check_page(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The rows of its table of what is not made."""
    assert invoke(monkeypatch, world, "checks", "report").exit_code in (0, 3)
    _, _, table = world.settings.reports.checks.read_text().partition('<section id="not-made">')
    found = re.findall(r"<tr><td>.*?</tr>", table.partition("</section>")[0], re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in found]
    plain = [tuple(html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row) for row in cells]
    return [(state, asset, cell.replace(" | ", "|"), why, mend) for state, asset, cell, why, mend in plain]


def lineage_says_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, exp_name: str, states: Sequence[CellState]
) -> None:
    """The chains of the data and of what is evaluated hold where each cell is made, and break where one is damaged or missing.

    A chain is of what lies there, and what that was made from: options that an experiment's file sets now are no part of it.
    """
    spec = world.platform.experiments.read(exp_name)
    evaluated = ("predictions", *TASKS, "evaluation_manifest")
    targets: dict[str, tuple[str, ...]] = {exp_name: ("scene_samples", *PREPARE.assets)}
    for run in spec.runs:
        for scene in world.platform.evaluation_trees(Cell(exp_name, run_name=run)):
            targets[f"{exp_name}/{run}/{scene}"] = evaluated
    for target, assets in targets.items():
        told = json.loads(invoke(monkeypatch, world, "lineage", target, "--json").stdout)
        of_target = [each for each in states if each.asset in assets]
        if all(each.state in ("made", "absent") for each in of_target):
            assert told["whole"], (target, told)
        if any(each.work in ("damaged", "missing") for each in of_target):
            assert not told["whole"], (target, [each.told for each in of_target])


def asked_of(world: World, instance: dg.DagsterInstance, exp_name: str) -> set[str]:
    """The cells of the data that the sensors would ask for; nothing is made."""
    ticks = Ticks(world, instance)
    ticks.only_looks = True
    ticks.tick("new_scenes", "stale_data")
    cells: set[str] = set()
    for request in ticks.asked:
        assert request.job_name in (EXPORT.job, PREPARE.job)
        first, _, last = cell_of(request).partition("..")
        level = next(level for level in LEVELS if level.job == request.job_name)
        spec = world.platform.experiments.read(exp_name)
        shards = [f"{exp_name}|{name}" for name in world.platform.scene_names(spec)]
        names = shards if level is EXPORT else [exp_name]
        cells |= {name for name in names if first <= name <= (last or first)}
    return cells


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 40))])
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


R1 = Cell("small", run_name="r1")


def of_evaluation(world: World, drawn: random.Random, pattern: str) -> Path:
    (tree,) = world.platform.evaluation_trees(R1).values()
    return drawn.choice(sorted(tree.base.glob(pattern)))


def emptied_numbers(world: World, drawn: random.Random) -> World:
    path = of_evaluation(world, drawn, drawn.choice(["**/metrics/*", "manifest.json", "**/pred/**/*.png"]))
    path.unlink()
    path.write_bytes(b"")
    return world


def edited_numbers(world: World, drawn: random.Random) -> World:
    path = of_evaluation(world, drawn, "**/metrics/*.csv")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content.replace(b"1", b"7", 1))
    return world


def deleted_numbers(world: World, drawn: random.Random) -> World:
    path = of_evaluation(world, drawn, drawn.choice(["**/metrics", "**/pred", "**/gt_inputs", "**/metrics/*.csv"]))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return world


def failed_evaluation(world: World, drawn: random.Random) -> World:
    asset = drawn.choice(["predictions", "nvs", "pose_smpl"])
    with pytest.raises(InvalidScene), attempting(world.platform, asset, [R1], "0123", lambda: False):
        raise InvalidScene("it could not be read")
    return world


EVALUATION_EVENTS: tuple[Event, ...] = (emptied_numbers, edited_numbers, deleted_numbers, failed_evaluation)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 20))])
def test_a_disturbed_evaluation_is_told_by_all_and_mended_to_what_it_was(
    finished_world_to_change: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    drawn, world = random.Random(seed), finished_world_to_change
    undisturbed = tmp_path / "undisturbed"
    subprocess.run(["cp", "-a", str(world.home), str(undisturbed)], check=True)
    told = []
    for event in drawn.choices(EVALUATION_EVENTS, k=3):
        told.append(event.__name__)
        try:
            world = event(world, drawn)
        except IndexError:  # there is none left to lose
            continue
    all_say_the_same(world, monkeypatch, "small")
    for _ in range(3):
        report = world.run()
        if report.exit_code == 0 and not report.outcomes:
            break
    assert (report.exit_code, report.outcomes) == (0, []), (told, report.stopped)
    all_say_the_same(world, monkeypatch, "small")
    assert_equal(world.home, undisturbed)
