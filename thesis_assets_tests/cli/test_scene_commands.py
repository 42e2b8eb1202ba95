"""`thesis-assets scene init` and `scene check` as a person and a script use them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from thesis_assets.cli.main import app
from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.rendering.gaussians import from_colors, write_ply
from thesis_assets_tests.scenes.importers.small_captures import Row, colmap_binary, nerfstudio, photograph

FRAMES = [{"file_path": "images/one.jpg"}, {"file_path": "images/two.png"}]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("THESIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THESIS_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def listing(home: Path) -> Path:
    photograph(home / "capture" / "images" / "one.jpg")
    photograph(home / "capture" / "images" / "two.png")
    return nerfstudio(home / "capture", FRAMES)


def scene(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["scene", *map(str, arguments)])


def splat(path: Path, centre: tuple[float, float, float]) -> Path:
    means = np.array([centre]) + 0.01 * np.arange(9).reshape(3, 3)
    write_ply(path, from_colors(means, np.full((3, 3), 0.5), 0.01))
    return path


def test_init_makes_a_scene_and_says_how_its_images_came_and_what_is_missing(home: Path, listing: Path) -> None:
    result = scene("init", "--nerfstudio", listing, "--name", "garden_bench")
    assert result.exit_code == 0, result.output
    for words in ("1 hard-linked", "1 converted to JPEG, quality 95", "registry entry", "group_rules"):
        assert words in result.stdout, words
    assert (home / "data/canonical_gt/garden_bench/images/1/000000.jpg").is_file()


def test_init_as_json_is_one_value(home: Path, listing: Path) -> None:
    gaussians = splat(home / "splat.ply", (2, 2.5, 1))
    result = scene(
        *("init", "--nerfstudio", listing.parent, "--name", "middlebury_x", "--source-camera", "images/two.png"),
        *("--gaussians", gaussians, "--copy", "--json"),
    )
    value = json.loads(result.stdout)
    assert value["cameras"] == {"0": "images/one.jpg", "1": "images/two.png"}
    assert value["images"] == {"copy": 1, "jpeg_q95": 1}
    assert (value["missing"]["export"], value["notes"]) == ([], [])
    assert json.loads(Path(value["registry"]).read_text()) == {
        "seq_name": "middlebury_x",
        "cam_id": 1,
        "ref_frame_idx": 0,
    }
    assert not Path(value["gaussians"]).samefile(gaussians)


def test_a_dry_run_shows_the_camera_ids_and_writes_nothing(home: Path, listing: Path) -> None:
    result = scene("init", "--nerfstudio", listing, "--name", "garden_bench", "--dry-run")
    assert result.exit_code == 0
    assert "images/two.png" in result.stdout
    assert not (home / "data").exists()


def test_frames_come_from_a_pattern(home: Path) -> None:
    rows = [Row(f"cam{cam}/{frame}.jpg", 10 * cam + frame) for cam in (1, 2) for frame in (1, 2, 3)]
    for row in rows:
        photograph(home / "p" / "images" / row.name)
    colmap_binary(home / "p" / "sparse" / "0", rows)
    pattern = r"cam(?P<cam>\d+)/(?P<frame>\d+)"
    result = scene("init", "--colmap", home / "p", "--name", "hi4d_pair99_x", "--frames-from", pattern, "--json")
    value = json.loads(result.stdout)
    assert (value["n_frames"], value["cameras"]) == (3, {"1": "1", "2": "2"})


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--nerfstudio", "capture", "--colmap", "capture"),
        ("--nerfstudio", "not there"),
        ("--nerfstudio", "capture", "--one-frame", "--frames-from", r"(?P<frame>\d)"),
        ("--nerfstudio", "capture", "--frames-from", "("),
        ("--nerfstudio", "capture", "--frames-from", r"\d+"),
    ],
)
def test_wrong_use_has_exit_code_2(listing: Path, arguments: tuple[str, ...]) -> None:
    assert scene("init", "--name", "garden_bench", *arguments).exit_code == 2


def test_a_second_init_is_refused(listing: Path) -> None:
    assert scene("init", "--nerfstudio", listing, "--name", "garden_bench").exit_code == 0
    result = scene("init", "--nerfstudio", listing, "--name", "garden_bench")
    assert isinstance(result.exception, InvalidScene)


def test_gaussians_of_another_world_are_noted_and_a_file_that_is_none_is_refused(home: Path, listing: Path) -> None:
    arguments = ("init", "--nerfstudio", listing, "--name", "garden_bench", "--gaussians")
    elsewhere = splat(home / "elsewhere.ply", (500, 0, 0))
    assert "another world" in scene(*arguments, elsewhere, "--dry-run").stdout
    (home / "none.ply").write_bytes(b"ply\n")
    assert isinstance(scene(*arguments, home / "none.ply").exception, InvalidFile)
    assert not (home / "data").exists()


def test_check_has_exit_code_3_until_nothing_is_missing_for_what_is_asked(home: Path, listing: Path) -> None:
    scene("init", "--nerfstudio", listing, "--name", "middlebury_x", "--source-camera", 0)
    lacking = scene("check", "middlebury_x")
    assert lacking.exit_code == 3
    assert "Gaussians" in lacking.stdout
    splat(home / "data/preprocessing/middlebury_x/gaussians/static.ply", (2, 2.5, 1))
    assert scene("check", "middlebury_x").exit_code == 0
    assert scene("check", "middlebury_x", "--for", "nvs", "--for", "pose_smpl").exit_code == 3
    assert scene("check", "middlebury_x", "--for", "poses").exit_code == 2
    value = json.loads(scene("check", "middlebury_x", "--json").stdout)
    assert value["enough_for"] == {"export": True, "nvs": True, "pose_smplx": False, "pose_smpl": False}
    # both images have the one known camera
    assert [finding["place"] for finding in value["findings"]] == ["all_cameras"]


def test_check_takes_a_folder_in_or_out_of_the_root_and_finds_what_is_broken(
    home: Path, listing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene("init", "--nerfstudio", listing, "--name", "middlebury_x", "--copy")
    folder = home / "data/canonical_gt/middlebury_x"
    (folder / "images/0/000000.jpg").write_bytes(b"\xff\xd8\xff")
    for place in (folder, f"{folder}/", "data/canonical_gt/../canonical_gt/middlebury_x"):
        value = json.loads(scene("check", place, "--json").stdout)
        assert (value["scene"], value["passed"]) == ("middlebury_x", False)
        assert any(finding["place"] == "images/0" for finding in value["findings"])
    folder.rename(home / "elsewhere_x")
    monkeypatch.chdir(home / "elsewhere_x")
    assert json.loads(scene("check", ".", "--json").stdout)["scene"] == "elsewhere_x"
    assert isinstance(scene("check", "no_scene").exception, InvalidScene)


def test_broken_gaussians_are_found(home: Path, listing: Path) -> None:
    scene("init", "--nerfstudio", listing, "--name", "middlebury_x", "--source-camera", 0)
    path = home / "data/preprocessing/middlebury_x/gaussians/static.ply"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a ply")
    value = json.loads(scene("check", "middlebury_x", "--json").stdout)
    assert ("gaussians", "error") in [(each["place"], each["severity"]) for each in value["findings"]]


def test_canonical_gaussians_are_refused_by_name_with_the_way_to_render_them(home: Path, listing: Path) -> None:
    scene("init", "--nerfstudio", listing, "--name", "middlebury_x", "--source-camera", 0)
    path = home / "data/preprocessing/middlebury_x/canon_3dgs_lhm/union/gs.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    listed = CliRunner().invoke(app, ["scenes", "--json"]).stdout
    assert json.loads(listed)[0]["warnings"] == [
        "canon_3dgs_lhm/union/gs.pt: there, but not read: Gaussians in a canonical pose are posed and rendered by the pipeline "
        "that made them (`generation.renders.source: command`)"
    ]
    check = scene("check", "middlebury_x")
    assert check.exit_code == 3
    assert "canon_3dgs_lhm/union/gs.pt: there, but not read" in check.stdout
    assert scene("check", "middlebury_x", "--renders", "command").exit_code == 0


def test_an_error_is_a_message_and_exit_code_1(home: Path) -> None:
    nerfstudio(home / "capture", FRAMES)
    result = subprocess.run(
        [sys.executable, "-m", "thesis_assets.cli.main", "scene", "init", "--nerfstudio", "capture", "--name", "a_b"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert "images/one.jpg" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_list_of_no_scene_names_the_folder_and_what_makes_one(home: Path) -> None:
    result = CliRunner().invoke(app, ["scenes"])
    assert str(home / "data" / "canonical_gt") in result.stdout
    assert "thesis-assets scene init" in result.stdout


def test_the_list_says_once_what_a_scene_lacks_and_leaves_the_places_to_its_check(home: Path, listing: Path) -> None:
    scene("init", "--nerfstudio", listing, "--name", "garden_bench", "--source-camera", "0")
    listed = " ".join(CliRunner().invoke(app, ["scenes"]).stdout.replace("│", " ").split())
    assert listed.count("Gaussians or renders") == 1
    assert str(home / "data" / "preprocessing") not in listed
    assert "thesis-assets scene check" in listed
    assert str(home / "data" / "preprocessing") in scene("check", "garden_bench").stdout
