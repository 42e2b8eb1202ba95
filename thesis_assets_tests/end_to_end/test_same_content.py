"""What a finished experiment was made from is content: places and times may change, and an edit is seen wherever it was made."""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import look_at
from thesis_assets.graph.ready_scenes import ReadyScenes
from thesis_assets.graph.states import CellState, Plan
from thesis_assets.operations.backfill_plan import plan_backfill
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.services.small_disk import make_read_only, mounted, mounted_ext4
from thesis_assets_tests.worlds import SCENES, World

pytestmark = pytest.mark.long

SCENE = SCENES[0]


def states(world: World) -> dict[tuple[str, str], CellState]:
    with world.instance() as instance:
        found = Plan(world.platform, instance).of_experiment("small")
    return {(each.asset, str(each.cell)): each for each in found}


def differing(world: World) -> dict[str, str]:
    """Every cell that is not done: asset and cell to state and reason."""
    return {
        f"{asset} of {cell}": f"{each.state}: {each.why}"
        for (asset, cell), each in states(world).items()
        if each.state != "made"
    }


def reports_of(world: World) -> bytes:
    return world.settings.reports.leaderboard_csv.read_bytes()


def copied(source: World, tmp_path: Path, copy: Callable[[str, str], object]) -> World:
    """A world and its scenes at another place."""
    shutil.copytree(source.home, tmp_path / "elsewhere" / "home", copy_function=copy)
    shutil.copytree(source.scene_home, tmp_path / "elsewhere" / "scenes", copy_function=copy)
    return World(tmp_path / "elsewhere" / "home", tmp_path / "elsewhere" / "scenes")


@pytest.fixture
def world(finished_world: World, tmp_path: Path) -> World:
    """A finished experiment of one's own."""
    return copied(finished_world, tmp_path, shutil.copy2)


@pytest.mark.parametrize("copy", [shutil.copyfile, shutil.copy2], ids=["without times", "with times"])
def test_a_copied_data_home_is_as_it_was(
    finished_world: World, tmp_path: Path, copy: Callable[[str, str], object]
) -> None:
    world = copied(finished_world, tmp_path, copy)
    assert differing(world) == {}
    before = reports_of(world)
    assert world.run().outcomes == []
    assert reports_of(world) == before
    data_json = world.platform.difix(Cell("small")).data_json.read_text()
    assert str(world.home) in data_json
    assert str(finished_world.home) not in data_json


@pytest.mark.parametrize(
    "mount", [mounted_ext4, lambda folder, size: mounted(folder, f"{size}m")], ids=["ext4", "tmpfs"]
)
def test_a_data_home_on_another_file_system_is_as_it_was_and_may_be_read_where_nobody_may_write(
    finished_world: World, tmp_path: Path, mount: Callable[[Path, int], AbstractContextManager[Path]]
) -> None:
    with mount(tmp_path / "disk", 400) as disk:
        there = copied(finished_world, disk, shutil.copyfile)
        assert differing(there) == {}
        assert there.run().outcomes == []
        made_again = there.platform.tree(there.cell(), SCENES[3]).task(1, "nvs").nvs_per_camera
        before = made_again.read_bytes()
        made_again.unlink()
        assert there.run().exit_code == 0
        assert made_again.read_bytes() == before
        cells = states(there).values()
        make_read_only(disk)
        looks = {f"{each.asset} of {each.cell}": look_at(there.platform, each.asset, each.cell) for each in cells}
        assert {name: look.in_words for name, look in looks.items() if not look.is_made} == {}


def test_a_moved_data_home_goes_on_training_and_evaluating(world: World, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    shutil.move(world.home, tmp_path / "again" / "home")
    moved = World(tmp_path / "again" / "home", world.scene_home)
    assert moved.run().outcomes == []
    shutil.rmtree(moved.platform.tree(moved.cell(), SCENES[3]).task(1, "nvs").base)
    made = moved.run()
    assert made.exit_code == 0
    assert "tuned_checkpoint" not in {asset for outcome in made.outcomes for asset in outcome.work.assets}


def test_a_touched_photograph_makes_nothing(world: World) -> None:
    next((world.scene_home / "canonical_gt" / SCENE / "images").rglob("*.jpg")).touch()
    assert differing(world) == {}


def test_another_photograph_would_change_the_frozen_data_and_is_named(world: World) -> None:
    first, second, *_ = sorted((world.scene_home / "canonical_gt" / SCENE / "images").rglob("*.jpg"))
    content = second.read_bytes()
    first.unlink()
    first.write_bytes(content)
    found = states(world)["scene_samples", f"small|{SCENE}"]
    assert (found.state, found.work) == ("refused", "stale")
    assert first.relative_to(world.scene_home).as_posix() in found.why


def test_scenes_that_are_gone_make_nothing(world: World) -> None:
    shutil.rmtree(world.scene_home / "canonical_gt")
    shutil.rmtree(world.scene_home / "preprocessing")
    assert differing(world) == {}
    assert world.run().outcomes == []


def _cut(path: Path) -> None:
    path.unlink()  # a file of its own: several trees may share it
    path.write_bytes(b"")


def output_of(world: World, asset: str) -> Path:
    difix, tree = world.platform.difix(Cell("small")), world.platform.tree(world.cell(), SCENES[3])
    task = tree.task(1, "nvs")
    return {
        "nvs": task.nvs_per_camera,
        "scene_samples": sorted(difix.samples_dir.iterdir())[0] / "image.png",
        "evaluation_recordings": tree.evaluation_recording(1),
        "predictions": next(task.inputs_dir.rglob("*.png")),
        "tuned_checkpoint": difix.tuning_run("r1").checkpoint(4),
        "split_manifests": difix.split_train,
    }[asset]


@pytest.mark.parametrize(
    "asset", ["nvs", "scene_samples", "evaluation_recordings", "predictions", "tuned_checkpoint", "split_manifests"]
)
def test_an_emptied_output_is_damaged_and_named(world: World, asset: str) -> None:
    path = output_of(world, asset)
    _cut(path)
    damaged = {name: text for name, text in differing(world).items() if text.startswith("damaged")}
    assert [name.split(" of ")[0] for name in damaged] == [asset]
    assert path.name in next(iter(damaged.values()))


@pytest.mark.parametrize(
    ("asset", "lose"),
    [
        ("nvs", _cut),
        ("predictions", Path.unlink),
        ("scene_samples", Path.unlink),
        ("split_manifests", _cut),
        pytest.param("nvs", Path.unlink, marks=pytest.mark.soak),
        pytest.param("predictions", _cut, marks=pytest.mark.soak),
        pytest.param("scene_samples", _cut, marks=pytest.mark.soak),
        pytest.param("split_manifests", Path.unlink, marks=pytest.mark.soak),
    ],
)
def test_run_makes_an_emptied_or_deleted_output_again_as_it_was(
    world: World, asset: str, lose: Callable[[Path], None]
) -> None:
    path = output_of(world, asset)
    before = path.read_bytes()
    lose(path)
    assert world.run().exit_code == 0
    assert path.read_bytes() == before
    assert differing(world) == {}


@pytest.mark.parametrize("name", ["tuning_runs/r1/selected_checkpoint.json", "manifests/split_summary.json"])
def test_a_garbled_file_that_run_reads_before_its_first_step_is_mended_all_the_same(world: World, name: str) -> None:
    (world.platform.difix(Cell("small")).base / name).write_text("{")
    assert world.run().exit_code == 0
    assert differing(world) == {}


@pytest.mark.parametrize("lose", [_cut, pytest.param(Path.unlink, marks=pytest.mark.soak)], ids=["emptied", "deleted"])
def test_a_training_that_lost_a_checkpoint_is_trained_again_by_force_alone_and_moved_aside(
    world: World, lose: Callable[[Path], None]
) -> None:
    path = output_of(world, "tuned_checkpoint")
    run = world.platform.difix(Cell("small")).tuning_run("r1")
    first = run.checkpoint(2).read_bytes()
    lose(path)
    lost = states(world)["tuned_checkpoint", "small|r1"]
    assert (lost.state, lost.by_force, lost.is_work) == ("damaged", True, False)
    with world.instance() as instance:
        backfill = plan_backfill(world.platform, instance, "small", "missing", ReadyScenes(world.platform, time.time()))
    assert (backfill.cells, list(backfill.waiting)) == ((), ["small|r1"])
    assert lost.mend.endswith("--run r1 --until tuned_checkpoint --force tuned_checkpoint")
    table = output_of(world, "nvs")
    table.unlink()
    stopped = world.run()
    assert stopped.exit_code == 1
    assert [(state.asset, state.state) for state in stopped.stopped] == [("tuned_checkpoint", "damaged")]
    assert table.is_file(), "its predictions are there: it needs no checkpoint"
    assert run.checkpoint(2).read_bytes() == first, "it was trained"
    forced = world.run(force=["tuned_checkpoint"])
    assert forced.exit_code == 0, world.lines[-20:]
    assert any("is made anew: about" in line for line in world.lines)
    aside = world.platform.difix(Cell("small")).run_set_aside("r1", 1)
    assert (aside / "checkpoints" / run.checkpoint(2).name).read_bytes() == first
    assert f"tuned_checkpoint: the training that was there is moved to {aside}" in world.lines
    assert path.is_file()
    assert differing(world) == {}


@pytest.mark.parametrize(
    "asset",
    [
        "predictions",
        "selected_checkpoint",
        *(pytest.param(each, marks=pytest.mark.soak) for each in ("nvs", "evaluation_recordings", "split_manifests")),
    ],
)
def test_an_asset_is_made_anew_by_force_and_what_is_below_follows(world: World, asset: str) -> None:
    report = world.run(force=[asset])
    assert report.exit_code == 0, world.lines[-20:]
    assert asset in {name for outcome in report.outcomes for name in outcome.work.assets}
    assert differing(world) == {}


def test_a_cut_recording_is_recorded_again(world: World) -> None:
    path = output_of(world, "evaluation_recordings")
    _cut(path)
    assert world.run().exit_code == 0
    assert path.stat().st_size > 10_000
    assert differing(world) == {}


def test_an_edited_number_is_damaged(world: World) -> None:
    table = world.platform.tree(world.cell(), SCENES[3]).task(1, "nvs").nvs_per_frame
    before = table.stat()
    text = table.read_text()
    table.write_text(text.replace("0", "9", 1))
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert {name.split(" of ")[0]: text.split(":")[0] for name, text in differing(world).items()} == {"nvs": "damaged"}


def test_another_revision_of_the_renderer_is_noted_and_a_new_experiment_renders_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    from thesis_assets.rendering import gaussian_renderer

    before = world.platform.difix(Cell("small")).scene_run(SCENE).made_from.read_bytes()
    monkeypatch.setattr(gaussian_renderer, "TORCH_REVISION", 2)
    assert differing(world) == {}
    assert "here is" in states(world)["scene_samples", f"small|{SCENE}"].why
    spec = yaml.safe_load((world.settings.experiments_dir / "small.yaml").read_text())
    world.write({**spec, "exp_name": "other"})
    assert world.run("other", until="scene_samples").exit_code == 0
    own = world.platform.difix(Cell("other"))
    assert json.loads(own.scene_run(SCENE).made_from.read_text())["tools"] == {"torch rasteriser": "2"}
    ours, theirs = (
        sorted(tree.samples_dir.iterdir())[0] / "image.png" for tree in (own, world.platform.difix(Cell("small")))
    )
    assert not ours.samefile(theirs)
    assert world.platform.difix(Cell("small")).scene_run(SCENE).made_from.read_bytes() == before


def test_doctor_says_that_the_data_home_was_moved_and_what_was_written_anew(
    world: World, finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> str:
        found = json_of(invoke(monkeypatch, world, "doctor", "--json"))
        return next(each["found"] for each in found if each["what"] == "data home")

    assert (
        told()
        == f"small was moved here from {finished_world.platform.difix(Cell('small')).base}: data.json still has its paths"
    )
    lines = len(world.lines)
    world.run()
    assert sum("was moved here from" in line for line in world.lines[lines:]) == 2, (
        "data.json and the hand-off, a line each"
    )
    assert told().endswith("data.json was written anew")
