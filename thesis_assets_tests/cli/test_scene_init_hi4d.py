"""`thesis-assets scene init --hi4d` as a person and a script use it: many actions at once, again after a kill, up to an export."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from thesis_assets import storage
from thesis_assets.cli.main import app
from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.images.codecs import read_rgb
from thesis_assets.layout import DifixTree
from thesis_assets.rendering.gaussians import from_colors, write_ply
from thesis_assets.samples.export import ShardWork, export_shard
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.scenes.catalog import list_scenes
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.matching import group_id
from thesis_assets_tests.samples.tiny_scenes import generation
from thesis_assets_tests.scenes.hi4d_form import LENS, START, people_at, rig, write_action

PAGE = Path(__file__).parents[2] / "docs" / "your_own_scenes.md"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("THESIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THESIS_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("THESIS_WORKERS", "1")
    return tmp_path


def roots_of(home: Path) -> SceneRoots:
    data = home / "data"
    return SceneRoots(data / "canonical_gt", data / "preprocessing", data / "scenes", data / "renders")


def scene(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["scene", *map(str, arguments)])


def init(*arguments: object) -> Any:
    result = scene("init", "--hi4d", "hi4d", *arguments, "--json")
    return json.loads(result.stdout)


def test_several_pairs_are_made_side_by_side_and_a_bad_action_stops_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THESIS_WORKERS", "2")
    write_action(home / "hi4d/pair15_1/pair15/fight15")
    write_action(home / "hi4d/pair16/jump16", lens=LENS)
    bad = write_action(home / "hi4d/pair17/dance17")
    bad.change("cameras/rgb_cameras.npz", extrinsics=None)
    result = scene("init", "--hi4d", "hi4d", "--all")
    assert result.exit_code == 1
    last = result.stdout.splitlines()[-8:]
    assert any("refused: hi4d/pair17/dance17" in line and "extrinsics" in line for line in last)
    assert "3 actions: 2 made, 1 refused" in result.stdout
    assert "hi4d_pair16_jump: made (" in result.stderr
    assert list_scenes(roots_of(home)) == ["hi4d_pair15_fight", "hi4d_pair16_jump"]
    write_action(bad.folder)
    again = init("--all")
    assert {each["scene"]: each["state"] for each in again["scenes"]} == {
        "hi4d_pair15_fight": "there already",
        "hi4d_pair16_jump": "there already",
        "hi4d_pair17_dance": "made",
    }
    assert again["refused"] == []
    assert scene("init", "--hi4d", "hi4d", "--all").stdout.endswith("next: `thesis-assets scenes`\n")


def test_json_says_of_each_action_what_became_of_it(home: Path) -> None:
    write_action(home / "hi4d/pair15/fight15")
    (value,) = init()["scenes"]
    assert value == {
        "scene": "hi4d_pair15_fight",
        "source": "hi4d/pair15/fight15",
        "state": "made",
        "cameras": [4, 16],
        "source_camera": 16,
        "n_frames": 2,
        "n_images": 4,
        "directory": str(home / "data/canonical_gt/hi4d_pair15_fight"),
        "images": {"hard_link": 4},
        "n_masks": 4,
        "missing": value["missing"],
        "notes": [],
    }
    assert "Gaussians" in value["missing"]["export"][0]


def test_two_actions_that_would_be_one_scene_are_refused_and_both_are_named(home: Path) -> None:
    for archive in ("pair15_1", "pair15_2"):
        write_action(home / "hi4d" / archive / "pair15/fight15")
    write_action(home / "hi4d/pair16/jump16")
    value = init("--all")
    assert [each["scene"] for each in value["scenes"]] == ["hi4d_pair16_jump"]
    assert [each["source"] for each in value["refused"]] == [
        f"hi4d/{archive}/pair15/fight15" for archive in ("pair15_1", "pair15_2")
    ]
    assert all("pair15_1" in each["reason"] and "pair15_2" in each["reason"] for each in value["refused"])
    assert scene("init", "--hi4d", "hi4d/pair15_1").exit_code == 0


def test_a_dry_run_has_the_same_refusals_and_writes_nothing(home: Path) -> None:
    write_action(home / "hi4d/pair15/fight15")
    bad = write_action(home / "hi4d/pair16/jump16")
    path = bad.folder / f"images/4/{START:06d}.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    dry = init("--all", "--dry-run")
    assert not (home / "data").exists()
    assert [(each["scene"], each["state"]) for each in dry["scenes"]] == [("hi4d_pair15_fight", "would be made")]
    assert dry["refused"] == init("--all")["refused"]
    assert "cut short" in dry["refused"][0]["reason"]


def test_a_single_action_that_is_refused_is_an_error(home: Path) -> None:
    form = write_action(home / "hi4d/pair15/fight15")
    form.change("meta.npz", genders=None)
    error = scene("init", "--hi4d", "hi4d").exception
    assert isinstance(error, InvalidFile)
    assert error.key == "genders"
    write_action(home / "hi4d/pair16/jump16")
    assert isinstance(scene("init", "--hi4d", "hi4d").exception, InvalidScene)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--colmap", "hi4d"),
        ("--images", "hi4d"),
        ("--one-frame",),
        ("--pairs", "x"),
        ("--without", "images"),
        ("fight15", "--all"),
        ("fight15", "--name", "fight16"),
    ],
)
def test_wrong_use_has_exit_code_2(home: Path, arguments: tuple[str, ...]) -> None:
    write_action(home / "hi4d/pair15/fight15")
    assert scene("init", "--hi4d", "hi4d", *arguments).exit_code == 2


def test_options_of_hi4d_are_wrong_use_with_a_listing(home: Path) -> None:
    (home / "capture").mkdir()
    assert scene("init", "--nerfstudio", "capture", "--name", "a_b", "--all").exit_code == 2
    assert scene("init", "--nerfstudio", "capture").exit_code == 2


def _commands() -> list[str]:
    section = PAGE.read_text().partition("## From Hi4D\n")[2].partition("\n## ")[0]
    return re.findall(r"^thesis-assets (scene init --hi4d [^#\n]*)", section, re.MULTILINE)


def test_the_commands_of_the_page_do_what_the_page_says(home: Path) -> None:
    for place in ("pair15/fight15", "pair16/jump16", "pair17/dance17", "pair19_1/pair19/piggyback19", "pair00/dance00"):
        write_action(home / "hi4d" / place, n_frames=1)
    there = []
    for command in _commands():
        if "--without" in command:  # the other way to begin
            shutil.rmtree(home / "data")
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, command
        there.append(list_scenes(roots_of(home)))
    pairs = ["hi4d_pair15_fight", "hi4d_pair16_jump", "hi4d_pair17_dance", "hi4d_pair19_piggyback"]
    assert there == [[], pairs[:1], pairs[:2], pairs, ["hi4d_pair00_dance", *pairs], ["hi4d_pair00_dance", *pairs]]


def test_an_imported_scene_is_enough_for_every_smpl_task_and_becomes_triplets_of_its_pair(home: Path) -> None:
    form = write_action(home / "hi4d/pair15/fight15")
    assert init()["scenes"][0]["state"] == "made"
    roots = roots_of(home)
    tree = roots.tree("hi4d_pair15_fight")
    shutil.copytree(tree.ground_truth.bodies_dir("smpl"), tree.estimated.bodies_dir("smpl"))
    means = people_at(START).repeat(3, axis=0) + 0.05 * np.arange(6)[:, None]
    tree.estimated.gaussians_dir.mkdir(parents=True)
    write_ply(tree.estimated.static_gaussians, from_colors(means, np.full((6, 3), 0.5), 0.1))
    check = scene("check", "hi4d_pair15_fight", "--for", "export", "--for", "nvs", "--for", "pose_smpl", "--json")
    assert check.exit_code == 0, check.output
    assert json.loads(check.stdout)["findings"] == []
    shard = ShardWork(
        tree=DifixTree(home / "difix", "v1"),
        roots=roots,
        scene_name="hi4d_pair15_fight",
        generation=generation(renders={"source": "gaussians"}, filtering={"apply_mask": True}),
        group_id=group_id("hi4d_pair15_fight", {}),
        threads=1,
    )
    record = export_shard(shard)
    assert (record.stats.n_saved, record.stats.n_dropped) == (2, 0)
    rows = read_rows(shard.tree.scene_run("hi4d_pair15_fight").all_samples)
    assert {row.group_id for row in rows} == {"pair15"}
    image = read_rgb(shard.tree.base / rows[0].target_image_path)
    assert image.shape[:2] == (form.cameras[0].height, form.cameras[0].width)


@pytest.mark.long
def test_a_killed_import_leaves_no_half_scene_and_the_same_command_ends_it(home: Path) -> None:
    write_action(home / "hi4d/pair15/fight15", rig((4, 16, 28, 40), size=(192, 144)), n_frames=12, lens=LENS)
    write_action(home / "hi4d/pair16/jump16", n_frames=1)
    command = [sys.executable, "-m", "thesis_assets.cli.main", "scene", "init", "--hi4d", "hi4d", "--all", "--json"]
    root = home / "data" / "canonical_gt"
    killed = 0
    for wait in (0.0, 0.1, 0.3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list(root.glob(".tmp-*/images")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        killed += process.returncode == -signal.SIGKILL
        assert "hi4d_pair15_fight" not in list_scenes(roots_of(home))
    assert killed == 3
    assert len(list(root.glob(".tmp-hi4d_pair15_fight.*"))) == 1
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert {each["state"] for each in json.loads(done.stdout)["scenes"]} == {"made"}
    assert list(root.glob(".tmp-*")) == []
    record = storage.read_json_value(root / "hi4d_pair15_fight" / "misc" / "import_record.json")
    assert len(record["images"]) == 48
    for image in record["images"]:
        read_rgb(root / "hi4d_pair15_fight" / "images" / str(image["cam_id"]) / f"{image['fname']}.jpg")
