"""A frozen experiment and its fork over real scenes: what is shared is linked, what is new is rendered, the first stays."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thesis_assets.samples import triplet_export
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.kept_worlds import KeptFolder
from thesis_assets_tests.worlds import SMALL, World

pytestmark = pytest.mark.long

LATE = "studio_pair01_fight"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and not path.name.endswith(".stats.json")
    }


@pytest.fixture
def world(kept: KeptFolder, scene_home: Path) -> Iterator[World]:
    """Scenes of its own, one of which comes late; the data of the others is made."""

    def make(base: Path) -> None:
        shutil.copytree(scene_home, base / "scenes")
        (base / "scenes" / "canonical_gt" / LATE).rename(base / LATE)
        world = World(base / "home", base / "scenes")
        world.write({**SMALL, "exp_name": "v1", "runs": {}})
        assert world.run("v1", until="difix_data").exit_code == 0

    base = kept.make_once("one_scene_comes_late", make)
    yield World(base / "home", base / "scenes")
    kept.bring_back(base.name)


def let_it_come(world: World) -> None:
    (world.scene_home.parent / LATE).rename(world.scene_home / "canonical_gt" / LATE)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scene of every frame that is rendered."""
    names: list[str] = []
    render: Callable[..., Any] = triplet_export.render_frame

    def counts(renderer: Any, scene: Any, fname: str, cam_ids: Any) -> Any:
        names.append(scene.name)
        return render(renderer, scene, fname, cam_ids)

    monkeypatch.setattr(triplet_export, "render_frame", counts)
    return names


def test_a_fork_with_one_scene_more_renders_that_one_and_links_the_others(
    world: World, rendered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.platform.difix(world.cell(exp_name="v1"))
    freeze(first, "test")
    before = contents(first.base)
    let_it_come(world)
    rendered.clear()

    told = json_of(invoke(monkeypatch, world, "fork", "--exp", "v1", "--as", "v2", "--json"))
    assert told["new_scenes"] == [LATE]
    assert world.run("v2", until="difix_data").exit_code == 0

    assert set(rendered) == {LATE}
    fork = world.platform.difix(world.cell(exp_name="v2"))
    assert sorted(path.name for path in fork.scene_runs_dir.iterdir()) == sorted([*told["shared_scenes"], LATE])
    shared = sorted(first.samples_dir.glob("*/*"))
    assert len(shared) > 0
    for path in shared:
        assert (fork.samples_dir / path.relative_to(first.samples_dir)).samefile(path)
    assert contents(first.base) == before


def test_a_frozen_experiment_goes_on_without_the_scenes_that_came_later(world: World, rendered: list[str]) -> None:
    first = world.platform.difix(world.cell(exp_name="v1"))
    before = contents(first.base)
    freeze(first, "test")
    let_it_come(world)
    rendered.clear()

    report = world.run("v1", until="difix_data")
    assert report.exit_code == 0
    assert rendered == []
    frozen = contents(first.base)
    assert {name: frozen[name] for name in before} == before

    named = {**SMALL, "exp_name": "v1", "runs": {}, "generation": {"scenes": ["studio_*", LATE]}}
    world.write(named)
    refused = world.run("v1", until="scene_samples")
    assert refused.exit_code == 1
    assert "fork" in json.dumps(refused.to_json())


@pytest.mark.parametrize("by_itself", [True, False])
def test_sync_forks_a_frozen_experiment_for_a_late_scene_once_or_names_the_command(
    world: World, monkeypatch: pytest.MonkeyPatch, by_itself: bool
) -> None:
    generation = {"scenes": ["studio_*"], "auto_fork": by_itself}
    world.write({**SMALL, "exp_name": "v1", "runs": {}, "generation": generation})
    freeze(world.platform.difix(world.cell(exp_name="v1")), "test")
    fork = world.platform.experiments.path("v1-fork1")

    def synced(*options: str) -> Any:
        return json_of(invoke(monkeypatch, world, "sync", "--json", *options))

    assert (synced()["forked"], fork.exists()) == ({}, False), "nothing came late"
    let_it_come(world)
    assert synced("--dry-run")["late_scenes"] == {"v1": [LATE]}
    assert not fork.exists()

    first = synced()
    if by_itself:
        assert first["forked"] == {"v1": "v1-fork1"}
        assert LATE in first["cells"]["v1-fork1"]["scenes"]
        assert LATE not in first["cells"]["v1"]["scenes"]
        again = synced()
        assert (again["forked"], again["late_scenes"]) == ({}, {})
    else:
        assert (first["forked"], first["late_scenes"], fork.exists()) == ({}, {"v1": [LATE]}, False)
        assert "thesis-assets fork --exp v1 --as v1-fork1" in invoke(monkeypatch, world, "sync").output
