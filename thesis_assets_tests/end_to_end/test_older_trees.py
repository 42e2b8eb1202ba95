"""What a version without made-from records left works at once, is read in full once, and nothing of it is made again."""

import shutil
from pathlib import Path

import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES
from thesis_assets.graph.states import Plan
from thesis_assets.provenance import take_over
from thesis_assets_tests.older_trees import as_the_version_before
from thesis_assets_tests.splits.snapshots import contents_of
from thesis_assets_tests.worlds import SCENES, World


@pytest.fixture
def world(finished_world: World, tmp_path: Path) -> World:
    """An older world of one's own, copied without its times."""
    shutil.copytree(finished_world.home, tmp_path / "home", copy_function=shutil.copyfile)
    older = World(tmp_path / "home", finished_world.scene_home)
    as_the_version_before(older)
    return older


def states(world: World) -> dict[str, set[str]]:
    """State to details, of every cell."""
    found: dict[str, set[str]] = {}
    with world.instance() as instance:
        for each in Plan(world.platform, instance).of_experiment("small"):
            found.setdefault(each.state, set()).update(line.split(": ")[-1] for line in each.why.split("; ") if line)
    return found


def data_of(world: World) -> dict[str, bytes]:
    """Everything that took work, by name: not the records, and not the files that hold paths."""
    found = contents_of(world.home / "difix_tuning_data") | contents_of(world.settings.results_root)
    held = ("made_from.json", "data.json", "pipeline_overrides.yaml", "selected_checkpoint.json", "frozen.json")
    return {name: content for name, content in found.items() if not name.endswith((*held, ".lock"))}


def test_it_works_until_it_is_verified_and_is_then_recorded_without_being_made_again(world: World) -> None:
    assert states(world) == {"made": {"not verified yet"}}
    before = data_of(world)
    made = [asset for outcome in world.run().outcomes for asset in outcome.work.assets]
    assert set(made) <= {"leaderboard", "check_report"}
    after = data_of(world)
    assert {name for name in before if after.get(name) != before[name]} == set()
    assert states(world).keys() == {"made"}
    assert "not verified yet" not in states(world)["made"]
    assert world.run().outcomes == []


def test_taking_over_goes_on_where_it_was_ended(world: World) -> None:
    platform, first = world.platform, Cell("small", scene_name=SCENES[0])
    (unit,) = NODES["scene_samples"].units(platform, first)
    assert take_over(unit) is not None
    record = unit.place.record.read_bytes()
    world.run()
    assert unit.place.record.read_bytes() == record
    assert states(world).keys() == {"made"}


def test_an_option_that_was_changed_since_makes_it_stale_also_before_it_is_verified(world: World) -> None:
    from thesis_assets_tests.worlds import SMALL

    world.write({**SMALL, "evaluation": {**SMALL["evaluation"], "nvs": {"region": "mask"}}})
    world.run(until="predictions")
    assert "stale" in states(world)
