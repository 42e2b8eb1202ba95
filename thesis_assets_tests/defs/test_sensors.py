"""Sensors over many ticks: each complete scene once, nothing twice, and in the end what one run over everything would have made."""

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from thesis_assets.defs import automation
from thesis_assets.graph.states import Plan
from thesis_assets.operations import run_requests
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.operations.run_requests import Tick, declared_runs
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets_tests.defs.sensor_ticks import (
    Ticks,
    add_scene,
    cell_of,
    experiment,
    remove_scene,
    say,
    state_of,
    tiny_world,
)
from thesis_assets_tests.worlds import World

N_TICKS = 50


@pytest.fixture
def ticks(tmp_path: Path) -> Iterator[Ticks]:
    world = tiny_world(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(world, instance)


def makes_tables(request: dg.RunRequest) -> bool:
    """Whether it makes the sample table, the manifests and `data.json` in one run."""
    tables = {dg.AssetKey(name) for name in ("sample_set", "split_manifests", "difix_data")}
    return request.job_name == "prepare_data" or tables <= set(request.asset_selection or [])


def cells_asked(ticks: Ticks) -> list[str]:
    return [cell_of(request) for request in ticks.runs_of("export_scenes")]


def test_fifty_ticks_with_scenes_arriving_failing_and_being_mended_end_where_one_run_would(
    ticks: Ticks, tmp_path: Path
) -> None:
    """One scene lacks the camera that the experiment names, so its export fails until it is brought; one says that it failed
    upstream until it is made again; the others arrive one by one at ticks that are drawn."""
    world = ticks.world
    explicit = {"target_cameras": {"mode": "explicit", "ids": [16]}}
    world.write(experiment("v1", generation=explicit))
    names = [f"hi4d_pair{number:02d}_{action}" for number in range(3) for action in ("dance", "hug")]
    drawn = random.Random(7)
    # A tested and a trained pair first, and at once: fewer have no split.
    order = [names[0], names[2], *drawn.sample([name for name in names if name not in (names[0], names[2])], 4)]
    when = sorted(drawn.sample(range(2, 30), 5))
    arrivals = dict(zip(order, [when[0], *when], strict=True))
    broken, unfinished = order[3], order[4]
    there: set[str] = set()
    exported: set[str] = set()
    whole_moments = 0
    for tick in range(N_TICKS):
        for name in (name for name, when in arrivals.items() if when == tick):
            add_scene(world, name, cameras=(4, 28) if name == broken else (4, 16))
            there.add(name)
            if name == unfinished:
                say(world, name, "failed")
        if tick == 38:
            add_scene(world, broken, cameras=(4, 28, 16))
        if tick == 42:
            say(world, unfinished, "success")
        asked = [cell_of(request) for request in ticks.tick() if request.job_name == "export_scenes"]
        new = {name.removeprefix("v1|") for cell in asked for name in cell.split("..")}
        new -= set() if tick >= 38 else {broken}
        exported |= new
        whole_moments += bool(new) and exported == there

    # Once each, the two that came together in one run, and the broken one once more when it was mended.
    together = f"v1|{order[0]}..v1|{order[1]}"
    assert sorted(cells_asked(ticks)) == sorted([together, *(f"v1|{name}" for name in [*order[2:], broken])])
    assert ticks.failures == 1
    # What follows is made once at each moment at which the last missing shard came, and at no other, by whichever sensor sees it.
    followed = [request for request in ticks.asked if makes_tables(request)]
    assert len(followed) == whole_moments > 1
    assert len(ticks.asked) == len(cells_asked(ticks)) + whole_moments
    once = World(tmp_path / "once", world.scene_home)
    once.write(experiment("v1", generation=explicit))
    shutil.copytree(world.settings.renders_root, once.settings.renders_root)
    assert once.run("v1", until="difix_data").exit_code == 0
    assert state_of(world, "v1") == state_of(once, "v1")
    before = len(ticks.asked)
    ticks.tick()
    assert len(ticks.asked) == before


def test_scenes_that_are_complete_at_once_share_one_run(ticks: Ticks) -> None:
    ticks.world.write(experiment("v1"))
    for number in range(4):
        add_scene(ticks.world, f"hi4d_pair0{number}_hug")
    asked = ticks.tick("new_scenes")
    assert len(asked) == 1
    assert ticks.failures == 0
    assert len(list(ticks.world.platform.difix(ticks.world.cell(exp_name="v1")).scene_runs_dir.iterdir())) == 4
    assert len(ticks.tick("cheap_assets")) >= 1
    assert ticks.tick() == []


def test_a_scene_is_asked_for_by_exactly_the_open_experiments_whose_globs_match(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("all_of_them"))
    world.write(experiment("dances", generation={"scenes": ["hi4d_*_dance"]}))
    world.write(experiment("others", generation={"scenes": ["mmm_*"]}))
    world.write(experiment("without", generation={"exclude": ["*_hug"]}))
    add_scene(world, "hi4d_pair01_hug")
    ticks.tick("new_scenes")
    assert cells_asked(ticks) == ["all_of_them|hi4d_pair01_hug"]


def test_a_scene_that_is_still_being_copied_waits_and_says_why(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("v1"))
    add_scene(world, "hi4d_pair01_hug")
    world.platform.roots.tree("hi4d_pair01_hug").estimated.preprocess_info.unlink()
    add_scene(world, "hi4d_pair02_hug", cameras=(4,))
    asked = ticks.tick("new_scenes")
    assert [cell_of(request) for request in asked] == ["v1|hi4d_pair01_hug"], "quiet for 0 s is enough here"
    assert "two cameras" in ticks.said["new_scenes"] or "two cameras" in str(ticks.cursors["new_scenes"])
    add_scene(world, "hi4d_pair02_hug")
    assert [cell_of(request) for request in ticks.tick("new_scenes")] == ["v1|hi4d_pair02_hug"]


def test_a_frozen_experiment_is_offered_a_fork_or_forked_once_the_scene_is_complete(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("by_hand"))
    world.write(experiment("by_itself", generation={"auto_fork": True}))
    for number in range(2):
        add_scene(world, f"hi4d_pair0{number}_hug")
    ticks.tick()
    for name in ("by_hand", "by_itself"):
        freeze(world.platform.difix(world.cell(exp_name=name)), "test")
    add_scene(world, "hi4d_pair02_hug")
    say(world, "hi4d_pair02_hug", "failed")
    assert ticks.tick() == []
    assert not world.platform.experiments.path("by_itself-fork1").exists()
    say(world, "hi4d_pair02_hug", "success")
    ticks.tick()
    assert cells_asked(ticks)[-1] == "by_itself-fork1|hi4d_pair00_hug..by_itself-fork1|hi4d_pair02_hug"
    assert not world.platform.experiments.path("by_hand-fork1").exists()
    assert ticks.tick() == []
    assert "thesis-assets fork --exp by_hand --as by_hand-fork1" in ticks.said["new_scenes"]


def test_a_scene_that_moved_is_exported_again_and_what_is_cheap_follows(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("v1"))
    for number in range(2):
        add_scene(world, f"hi4d_pair0{number}_hug")
    ticks.tick()
    assert ticks.tick() == []
    time.sleep(0.01)  # file times are the identity
    add_scene(world, "hi4d_pair01_hug", frames=(0, 1, 2))
    moved = ticks.tick("stale_data")
    assert [cell_of(request) for request in moved] == ["v1|hi4d_pair01_hug"]
    ticks.tick("cheap_assets")
    assert len(state_of(world, "v1")["samples"]) == 2 + 3
    assert ticks.tick() == []


def test_a_change_of_the_split_makes_the_manifests_again_and_renders_nothing(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("v1"))
    for number in range(3):
        add_scene(world, f"hi4d_pair0{number}_hug")
    ticks.tick()
    world.write(experiment("v1") | {"split": {"test_groups": {"hi4d": ["pair01"]}}})
    asked = ticks.tick("stale_data")
    assert [(request.job_name, cell_of(request)) for request in asked] == [("prepare_data", "v1")]
    assert [key.to_user_string() for key in asked[0].asset_selection or []] == ["split_manifests", "difix_data"]
    assert ticks.tick() == []


def test_another_generation_section_is_refused_in_words_and_not_asked_for(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("v1"))
    add_scene(world, "hi4d_pair00_hug")
    add_scene(world, "hi4d_pair01_hug")
    ticks.tick()
    world.write(experiment("v1", generation={"frames": {"stride": 2}}))
    add_scene(world, "hi4d_pair02_hug")
    assert ticks.tick() == []
    assert "another generation section" in ticks.said["new_scenes"]
    assert "another generation section" in ticks.said["stale_data"]


def test_a_bad_file_is_refused_on_the_tick_with_its_line_and_the_others_go_on(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("good"))
    folder = world.settings.experiments_dir
    (folder / "bad.yaml").write_text(
        "exp_name: bad\ngeneration:\n  scenes: [a_b]\n  frames: {stride: 0}\nsplit: {train_only: true}\n"
    )
    (folder / "no key.yaml").write_text("exp_name: x\n")
    add_scene(world, "hi4d_pair00_hug")
    ticks.tick("experiment_files")
    said = ticks.said["experiment_files"]
    assert "bad.yaml:4" in said
    assert "generation.frames.stride" in said
    assert "no key.yaml" in said
    assert ticks.instance.get_dynamic_partitions("exp_name") == ["good"]


def test_a_withdrawn_experiments_keys_stay_until_they_are_asked_away(ticks: Ticks) -> None:
    from thesis_assets.operations.registration import plan_registration, remove_withdrawn

    world = ticks.world
    world.write(experiment("old", runs={"r1": {"max_train_steps": 10}}))
    world.write(experiment("new"))
    add_scene(world, "hi4d_pair00_hug")
    ticks.tick("experiment_files")
    world.platform.experiments.path("old").unlink()
    ticks.tick("experiment_files")
    assert set(ticks.instance.get_dynamic_partitions("exp_name")) == {"old", "new"}
    assert "old" in ticks.said["experiment_files"]

    (world.settings.experiments_dir / "bad.yaml").write_text("exp_name: 3\n")
    plan = plan_registration(world.platform, ticks.instance)
    assert plan.removable == {"exp_name": ["old"]}, "the refused file may be what declares r1"
    assert remove_withdrawn(ticks.instance, plan) == {"exp_name": ["old"]}
    world.platform.experiments.path("bad").unlink()
    assert remove_withdrawn(ticks.instance, plan_registration(world.platform, ticks.instance)) == {"run_name": ["r1"]}
    assert ticks.instance.get_dynamic_partitions("scene_name") == ["hi4d_pair00_hug"]


def test_an_experiment_with_data_and_no_file_keeps_its_partitions(ticks: Ticks) -> None:
    """The file of an experiment is moved or lost more easily than its data; its history must not go with it."""
    from thesis_assets.operations.registration import plan_registration, remove_withdrawn

    world = ticks.world
    world.write(experiment("old", runs={"r1": {"max_train_steps": 10}}))
    world.write(experiment("empty", generation={"scenes": ["hi4d_pair01_*"]}, runs={"r2": {"max_train_steps": 10}}))
    for number in range(2):
        add_scene(world, f"hi4d_pair0{number}_hug")
    ticks.tick("experiment_files")
    assert world.run("old", until="scene_samples").exit_code == 0
    world.platform.difix(world.cell(exp_name="old")).tuning_run("r1").base.mkdir(parents=True)
    for name in ("old", "empty"):
        world.platform.experiments.path(name).unlink()

    ticks.tick("experiment_files")
    assert "`thesis-assets experiment new old`" in ticks.said["experiment_files"]
    removed = remove_withdrawn(ticks.instance, plan_registration(world.platform, ticks.instance))
    assert removed == {"exp_name": ["empty"], "run_name": ["r2"]}
    ticks.instance.add_dynamic_partitions("exp_name", ["../out"])
    assert "../out" in plan_registration(world.platform, ticks.instance).withdrawn["exp_name"]


def test_a_scene_that_vanishes_asks_for_nothing_and_loses_nothing(ticks: Ticks) -> None:
    world = ticks.world
    world.write(experiment("v1"))
    for number in range(2):
        add_scene(world, f"hi4d_pair0{number}_hug")
    ticks.tick()
    for number in range(2):
        remove_scene(world, f"hi4d_pair0{number}_hug")
    assert ticks.tick() == []
    assert len(state_of(world, "v1")["samples"]) == 4


def test_a_declared_run_waits_for_whole_data_and_passed_checks_and_is_then_to_be_tuned(ticks: Ticks) -> None:
    """What the sensor `experiment_files` asks for with `THESIS_AUTO_START=everything`."""
    world = ticks.world
    world.write(experiment("v1", runs={"r1": {"max_train_steps": 10}}))
    for number in range(2):
        add_scene(world, f"hi4d_pair0{number}_hug")

    def declared() -> Tick:
        return declared_runs(Plan(world.platform, ticks.instance))

    [said] = declared().said
    assert said.startswith("v1|r1: tuned_checkpoint waits for scene_samples of v1|hi4d_pair00_hug")
    ticks.tick("new_scenes")
    assert "waits for sample_set" in declared().said[0]
    ticks.tick("cheap_assets")
    [(level, cells)] = declared().asked.items()
    assert (level.job, [(str(cell), assets[0]) for cell, assets in cells.items()]) == (
        "tune",
        [("v1|r1", "tuned_checkpoint")],
    )
    add_scene(world, "hi4d_pair02_hug")
    assert "hi4d_pair02_hug" in declared().said[0], "tuning would freeze the data without it"
    ticks.tick("new_scenes", "stale_data")  # a shard right after the tables were asked for: `stale_data` has them made
    assert len(declared().asked) == 1

    failed = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("split_manifests"),
        check_name="group_non_leakage",
        passed=False,
        blocking=True,
        partition="v1",
    )
    ticks.instance.report_runless_asset_event(failed)
    assert declared().asked == {}
    assert "blocked: blocking checks failed: split_manifests.group_non_leakage" in declared().said[0]


def test_what_is_asked_for_names_its_assets_also_where_it_is_all_that_the_job_makes(ticks: Ticks) -> None:
    """Dagster's conditions pass over an update by a run that makes what follows as well, and know that by these names alone."""
    ticks.world.write(experiment("v1"))
    for number in range(2):
        add_scene(ticks.world, f"hi4d_pair0{number}_hug")
    (asked,) = ticks.tick("new_scenes")
    assert (asked.job_name, asked.asset_selection) == ("export_scenes", [dg.AssetKey("scene_samples")])


def test_a_tick_of_what_follows_looks_at_what_it_has_time_for_and_goes_on_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at a cell is one at all files that it is made from; none is passed over for good, and none asked for twice."""
    world = tiny_world(tmp_path)
    add_scene(world, "hi4d_pair00_hug")
    add_scene(world, "hi4d_pair01_hug")
    for name in ("v1", "v2", "v3"):
        world.write(experiment(name))
        assert world.run(name, until="scene_samples").exit_code == 0
    monkeypatch.setattr(automation, "LOOK_SECONDS", -1.0)
    with world.instance() as instance:
        ticks = Ticks(world, instance)
        ticks.only_looks = True
        asked = [[cell_of(request) for request in ticks.tick("cheap_assets")] for _ in range(4)]
    assert asked == [["v1"], ["v2"], ["v3"], []]


def test_a_tick_asks_for_so_many_new_cells_at_most_with_as_many_questions_as_for_one(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others come in the next ticks; a question a cell would make a tick over thousands of cells take minutes."""
    monkeypatch.setattr(run_requests, "MOST_CELLS", 3)
    questions: list[str] = []

    def note(*call: object) -> None:
        questions.append(str(call[2]))

    event.listen(Engine, "before_cursor_execute", note)
    world = ticks.world
    world.write(experiment("v1"))
    asked: list[int] = []
    counts: list[int] = []
    for n_scenes in (1, 5):
        for number in range(n_scenes):
            add_scene(world, f"hi4d_pair{n_scenes}{number}_hug")
        register(ticks.instance, plan_registration(world.platform, ticks.instance))
        plan = Plan(world.platform, ticks.instance)
        tick = run_requests.new_shards(plan, seconds=60)
        questions.clear()
        (request,) = run_requests.run_requests(world.platform, ticks.instance, tick.asked, asked_by="a test")
        asked.append(len(tick.asked[run_requests.EXPORT]))
        counts.append(len(questions))
        assert request.job_name == "export_scenes"
    event.remove(Engine, "before_cursor_execute", note)
    assert asked == [1, 3]
    assert counts[0] == counts[1] > 0
    assert tick.said == ["v1|hi4d_pair52_hug, 3 cells of v1 from here on: the next tick looks at them"]
    ticks.tick("new_scenes")
    ticks.tick("new_scenes")
    assert len(list(world.platform.difix(world.cell(exp_name="v1")).scene_runs_dir.iterdir())) == 6
