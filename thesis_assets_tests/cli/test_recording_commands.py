"""`thesis-assets rerun ...` and `publish`: what they do, say and answer, over a finished world."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest

os.environ["HF_HUB_DISABLE_XET"] = "1"

from thesis_assets.graph.nodes import latest_metadata
from thesis_assets_tests.services.graphics import require_graphics
from thesis_assets_tests.services.hub import TOKEN, Hub, serve_hub
from thesis_assets_tests.worlds import SMALL, World, read_json, thesis_assets

CELL = ("--exp", "small", "--run", "r1")
SCENE = "studio_pair03_dance"
REPO = "someone/recordings"


@pytest.fixture
def world(finished_world: World) -> Iterator[World]:
    """The finished world; what publishing leaves in it is taken away again."""
    yield finished_world
    tree = finished_world.platform.difix(finished_world.cell()).tuning_run("r1")
    tree.publication.unlink(missing_ok=True)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as running:
        yield running


def command(world: World, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `thesis_assets`, with more environment, and never with this machine's own token."""
    base = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_RERUN_REPO_ID")}
    return subprocess.run(
        [sys.executable, "-m", "thesis_assets.cli.main", *arguments],
        env={**base, **world.environment, "HF_HOME": str(world.home / "no_login"), **environment},
        cwd=world.home,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_exporting_names_files_and_what_is_absent(world: World) -> None:
    made = answer(thesis_assets(world, "rerun", "export-all", *CELL, "--json"))
    assert [Path(one["file"]).name for one in made] == [
        *("input_data.rrd", "evaluation_epoch_0000.rrd", "evaluation_epoch_0001.rrd")
    ]
    assert all(one["bytes"] > 1000 for one in made)


def test_the_scripts_flags_are_the_commands_flags(world: World, tmp_path: Path) -> None:
    tree = world.platform.tree(world.cell(), SCENE)
    shutil.copytree(tree.base, tmp_path / "small")
    options = ("--exp-dir", str(tmp_path / "small"), "--epochs", "latest", "--tasks", "nvs")
    made = answer(
        thesis_assets(world, "rerun", "export-evaluation", *options, "--max-frames-per-camera", "1", "--json")
    )
    assert [Path(one["file"]).relative_to(tmp_path) for one in made] == [
        tree.evaluation_recording(1).relative_to(tree.output_dir)
    ]
    assert made[0]["bytes"] < tree.evaluation_recording(1).stat().st_size


@pytest.mark.parametrize(
    "wrong",
    [
        ("rerun", "export-all"),
        ("rerun", "export-all", *CELL, "--exp-dir", "x"),
        ("rerun", "export-evaluation", *CELL, "--epochs", "first"),
        ("rerun", "export-evaluation", *CELL, "--tasks", "sing"),
        ("rerun", "export-all", *CELL, "--scene", "nobody"),
        ("rerun", "preview", "no-such-file.rrd"),
        ("rerun", "open"),
        ("publish", *CELL, "--repo", REPO),
        ("publish", *CELL, "--repo", REPO, "--dry-run", "--yes"),
        ("publish", *CELL, "--dry-run"),
    ],
    ids=" ".join,
)
def test_wrong_use_has_exit_code_2_and_says_what_is_right(
    world: World, wrong: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from thesis_assets.cli.main import app

    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_RERUN_REPO_ID", raising=False)
    done = CliRunner().invoke(app, list(wrong))
    assert done.exit_code == 2
    assert "error:" in done.output + capsys.readouterr().err


def test_a_view_with_a_fault_is_named_and_ends_with_status_3(world: World, tmp_path: Path) -> None:
    require_graphics()
    import rerun as rr

    path = tmp_path / "broken.rrd"
    stream = rr.RecordingStream("broken")
    stream.save(path)
    stream.set_time("frame", sequence=0)
    stream.log("picture", rr.EncodedImage(contents=b"no picture", media_type="image/jpeg"))
    stream.flush()
    stream.disconnect()

    done = thesis_assets(world, "rerun", "preview", str(path), "--json")

    assert done.returncode == 3, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["faults"]


def test_in_a_browser_recordings_are_served_on_loopback_alone(world: World) -> None:
    command = [sys.executable, "-m", "thesis_assets.cli.main", "rerun", "open", *CELL, "--web", "--port", "0"]
    viewer = subprocess.Popen(
        command,
        env={**os.environ, **world.environment},
        cwd=world.home,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert viewer.stderr is not None
        ours = viewer.stderr.readline()
        assert "the whole address that follows, after `connect at`" in ours
        assert "Ctrl-C ends it" in ours
        # Not the address of the data, `rerun+http://`: which of both comes first is chance.
        url = next(
            found[1] for line in viewer.stderr if (found := re.search(r"web-viewer at (http://127\.0\.0\.1:\d+)", line))
        )
        page = urllib.request.urlopen(url, timeout=30).read()
        (program,) = psutil.Process(viewer.pid).children()
        listening = [each for each in program.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    finally:
        os.killpg(viewer.pid, signal.SIGKILL)
        viewer.communicate()
    assert b"<canvas" in page
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}


def test_without_a_screen_the_viewer_says_how_to_look_all_the_same(world: World) -> None:
    done = command(world, "rerun", "open", *CELL, DISPLAY="", WAYLAND_DISPLAY="", WAYLAND_SOCKET="")
    assert done.returncode == 1
    assert "no screen" in done.stderr
    assert "--web" in done.stderr


def test_the_catalog_answers_for_a_metric(world: World) -> None:
    rows = answer(thesis_assets(world, "rerun", "catalog", "--metric", "psnr", "--camera", "28", "--json"))
    assert {(row["run_name"], row["scene_name"], row["camera"]) for row in rows} == {("r1", SCENE, 28)}
    assert {row["epoch"] for row in rows} == {0, 1}
    assert len(rows) == 2 * 3


def test_previews_are_made_and_named(world: World) -> None:
    from thesis_assets_tests.services.graphics import require_graphics

    require_graphics()
    triplets = world.platform.difix(world.cell()).tuning_run("r1").triplet_recording
    made = answer(thesis_assets(world, "rerun", "preview", str(triplets), "--json"))
    assert made[0]["faults"] == []
    assert [picture["position"] for picture in made[0]["pictures"]] == [2, 3, 4]


def test_a_dry_run_needs_no_token_and_prints_the_equivalent_commands(world: World) -> None:
    plan = answer(command(world, "publish", *CELL, "--repo", REPO, "--dry-run", "--json"))
    places = [file["path"] for file in plan["files"]]
    assert places == [
        "small/r1/rerun/triplets.rrd",
        f"small/r1/{SCENE}/rerun/evaluation_epoch_0000.rrd",
        f"small/r1/{SCENE}/rerun/evaluation_epoch_0001.rrd",
        f"small/r1/{SCENE}/rerun/input_data.rrd",
    ]
    assert plan["commands"][0].startswith(f"hf upload {REPO} ")
    assert plan["licences"] == {"studio": "synthetic, drawn by thesis_assets"}


def test_publishing_sends_once_remembers_and_keeps_the_token_to_itself(world: World, hub: Hub) -> None:
    secret = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    first = command(world, "publish", *CELL, "--repo", REPO, "--yes", "--json", **secret)
    record = answer(first)
    assert len(record["sent"]) == 4
    assert record["revision"] == hub.repos[REPO].head
    second = command(world, "publish", *CELL, "--repo", REPO, "--yes", **secret)
    assert second.returncode == 0, second.stderr
    assert "nothing to send" in second.stderr
    assert len(hub.repos[REPO].commits) == 2

    kept = world.platform.difix(world.cell()).tuning_run("r1").publication
    assert read_json(kept)["revision"] == record["revision"]
    with world.instance() as instance:
        metadata = latest_metadata(instance, "published_recordings", world.cell())
    assert metadata is not None
    assert metadata["revision"] == record["revision"]
    said = "".join([first.stdout, first.stderr, second.stdout, second.stderr, str(metadata)])
    assert TOKEN not in said
    written = [path for path in world.home.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_the_ui_has_links_to_what_was_recorded_and_published(world: World, hub: Hub) -> None:
    secret = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_RERUN_PUBLIC": "true"}
    answer(command(world, "publish", *CELL, "--repo", REPO, "--yes", "--json", **secret))
    with world.instance() as instance:
        recorded = latest_metadata(instance, "evaluation_recordings", world.cell())
        published = latest_metadata(instance, "published_recordings", world.cell())
    assert recorded is not None
    assert published is not None
    assert Path(recorded["last recording"]).name == "evaluation_epoch_0001.rrd"
    assert Path(recorded["last recording"]).is_file()
    assert recorded["open"] == "thesis-assets rerun open --exp small --run r1"
    assert published["page"] == f"{hub.url}/datasets/{REPO}"
    in_repo = f"/datasets/{REPO}/resolve/main/small/r1/{SCENE}/rerun/evaluation_epoch_0001.rrd"
    assert unquote(published["open in the web viewer"]).endswith(in_repo)


def test_without_a_token_publishing_says_where_it_comes_from(world: World, hub: Hub) -> None:
    done = command(world, "publish", *CELL, "--repo", REPO, "--yes", HF_ENDPOINT=hub.url)
    assert done.returncode == 1
    assert "hf auth login" in done.stderr
    assert hub.requests == []


def test_the_asset_publishes_what_may_be_passed_on_and_its_events_hold_no_token(
    world: World, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as configured:
        configured.setenv("HF_RERUN_REPO_ID", REPO)
        configured.setenv("HF_TOKEN", TOKEN)
        configured.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        _refused_at_first(world, hub)
        assert world.run().exit_code == 0
        with world.instance() as instance:
            metadata = latest_metadata(instance, "published_recordings", world.cell())
            runs = [record.dagster_run.run_id for record in instance.get_run_records(limit=3)]
            events = "".join(str(record) for run in runs for record in instance.all_logs(run))
        assert metadata is not None
        assert metadata["revision"] == hub.repos[REPO].head
        assert str(metadata["repo"]) == f"{REPO} (private)"
        assert "published_recordings" in events
        assert TOKEN not in events + "".join(world.lines)
    assert world.run().exit_code == 0  # off again, as the other tests of this world know it


def _refused_at_first(world: World, hub: Hub) -> None:
    world.write({**SMALL, "datasets": {"studio": {"redistribution": False}}})
    try:
        report = world.run()
    finally:
        world.write(SMALL)
    assert report.exit_code != 0
    said = "".join(error for outcome in report.outcomes for error in outcome.errors)
    assert "forbids passing them on" in said
    assert "datasets: {studio: {redistribution: true}}" in said
    assert hub.requests == []
