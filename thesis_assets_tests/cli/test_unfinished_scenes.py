"""`thesis-assets run` and a scene that is still being copied."""

import copy
import shutil
import time
from pathlib import Path

import pytest

from thesis_assets.errors import InvalidScene
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.ready_scenes import ReadyScenes, unfinished_scenes
from thesis_assets.scenes.listing import newest_change
from thesis_assets_tests.worlds import SMALL, World

SCENE = "studio_pair00_dance"


@pytest.fixture
def world(tmp_path: Path, scene_home: Path) -> World:
    """One scene, whose last Gaussians, and the word that it is finished, are still to come."""
    for root in ("canonical_gt", "preprocessing"):
        shutil.copytree(scene_home / root / SCENE, tmp_path / "copied" / root / SCENE)
    shutil.copytree(scene_home / "scenes", tmp_path / "copied" / "scenes")
    for name in ("misc/preprocess_info.txt", "gaussians/000002.ply"):
        (tmp_path / "copied" / "preprocessing" / SCENE / name).unlink()
    made = World(tmp_path / "home", tmp_path / "copied")
    made.write(SMALL)
    return made


def unfinished(world: World) -> dict[str, str]:
    return unfinished_scenes(world.platform, world.platform.experiments.read("small"), [SCENE])


def test_half_a_scene_is_exported_where_it_is_named_and_not_because_a_glob_matches(world: World) -> None:
    with pytest.raises(InvalidScene, match=f"(?s)still being copied.*{SCENE}: gaussians: 1 of 3.*--scenes {SCENE}"):
        world.run(until="scene_samples")
    assert not world.platform.difix(world.cell()).samples_dir.exists()

    assert world.run(until="scene_samples", scenes=[SCENE]).exit_code == 0
    # It is current now, and nobody has to name it again.
    assert world.run(until="scene_samples").exit_code == 0


def test_the_scenes_own_word_counts(world: World) -> None:
    info = world.scene_home / "preprocessing" / SCENE / "misc" / "preprocess_info.txt"
    info.write_text("status: running\n")
    assert "status: running" in unfinished(world)[SCENE]
    info.write_text("status: success\n")
    assert unfinished(world) == {}, "what is missing then is missing for good"


def test_a_scene_that_the_file_names_is_taken_as_it_is(world: World) -> None:
    experiment = copy.deepcopy(SMALL)
    experiment["generation"]["scenes"] = [SCENE]
    world.write(experiment)
    assert unfinished(world) == {}


def test_a_scene_that_waits_for_a_part_says_that_it_lacks_it(world: World) -> None:
    shutil.rmtree(world.scene_home / "preprocessing" / SCENE / "gaussians")
    ready = ReadyScenes(world.platform, time.time() + 1e6)
    why = ready.why_not(world.platform.experiments.read("small"), SCENE)
    assert why is not None
    assert why.startswith("it lacks Gaussians (")


def test_a_finished_scene_that_changed_just_now_says_how_long_it_has_to_rest(world: World) -> None:
    info = world.scene_home / "preprocessing" / SCENE / "misc" / "preprocess_info.txt"
    info.write_text("status: success\n")
    settings = world.platform.settings.model_copy(update={"quiet_seconds": 120})
    changed = newest_change(world.platform.roots.tree(SCENE))
    spec = world.platform.experiments.read("small")
    why = ReadyScenes(Platform(settings), changed + 18).why_not(spec, SCENE)
    assert why == "it changed 18 s ago: it is taken once it has rested for 30 s"
    rested = ReadyScenes(Platform(settings), changed + 31).why_not(spec, SCENE)
    assert rested is None or "rested" not in rested
