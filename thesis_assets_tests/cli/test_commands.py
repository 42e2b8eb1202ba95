"""The command line as a person and a script use it: exit codes, JSON, messages without tracebacks."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets.cli.doctor import NETWORK_FILE_SYSTEMS, file_system_of
from thesis_assets.graph.cells import Cell
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.worlds import SMALL, World, thesis_assets


def test_doctor_says_what_it_found_and_never_a_tokens_value(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_made_up_value")
    world = new_world()
    world.home.mkdir(parents=True, exist_ok=True)
    result = thesis_assets(world, "doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert findings["Hub token"]["state"] == "ok"
    assert findings["canonical_gt_root"]["state"] in ("ok", "missing")
    assert "hf_a_made_up_value" not in result.stdout + result.stderr


def test_sync_registers_keys_and_a_dry_run_does_not(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    first = json_of(invoke(monkeypatch, world, "sync", "--dry-run", "--json"))
    second = json_of(invoke(monkeypatch, world, "sync", "--json"))
    third = json_of(invoke(monkeypatch, world, "sync", "--json"))
    assert first["added"] == second["added"]
    assert second["added"]["run_name"] == ["r1"]
    assert third["added"] == {"exp_name": [], "scene_name": [], "run_name": []}


def test_a_bad_experiment_file_is_refused_with_its_line_and_the_others_are_registered(
    new_world: Callable[..., World],
) -> None:
    world = new_world()
    bad = world.settings.experiments_dir / "bad.yaml"
    bad.write_text("exp_name: bad\ngeneration:\n  scenes: [a_b]\n  frames: {stride: 0}\nsplit: {train_only: true}\n")
    result = thesis_assets(world, "sync")
    assert result.returncode == 1
    assert "bad.yaml:4" in result.stdout
    assert "generation.frames.stride" in result.stdout
    assert "small" in result.stdout
    assert "Traceback" not in result.stderr


def test_an_unknown_experiment_asset_or_run_is_named_without_a_traceback(new_world: Callable[..., World]) -> None:
    world = new_world()
    unknown = thesis_assets(world, "run", "--exp", "nothing")
    assert unknown.returncode == 2
    assert "small" in unknown.stderr
    assert thesis_assets(world, "run", "--exp", "small", "--until", "nothing").returncode == 2
    undeclared = thesis_assets(world, "run", "--exp", "small", "--run", "r9")
    assert undeclared.returncode == 2
    assert "r1" in undeclared.stderr
    for result in (unknown, undeclared):
        assert "Traceback" not in result.stderr


def test_status_names_what_is_missing(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()
    states = json_of(invoke(monkeypatch, world, "status", "--json"))
    assert {state["state"] for state in states} == {"missing"}
    text = invoke(monkeypatch, world, "status").stdout
    assert "thesis-assets run" in text


def test_run_makes_what_is_asked_for_and_says_so_as_json(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    arguments = ("run", "--exp", "small", "--until", "scene_samples", "--json")
    report = json_of(invoke(monkeypatch, world, *arguments))
    assert report["exit_code"] == 0
    assert [run["job"] for run in report["runs"]] == ["observe_scenes", "export_scenes"]
    assert json_of(invoke(monkeypatch, world, *arguments))["runs"] == []


def test_set_declares_a_derived_run_and_leaves_the_first_as_it_was(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    path = world.settings.experiments_dir / "small.yaml"
    before = world.platform.experiments.read("small").runs["r1"]
    result = invoke(
        monkeypatch,
        world,
        "run",
        "--exp",
        "small",
        "--set",
        "runs.r1.learning_rate=0.001",
        "--until",
        "split_manifests",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    runs = world.platform.experiments.read("small").runs
    assert runs["r1"] == before
    assert runs["r1-learning_rate-0.001"] == before.model_copy(update={"learning_rate": 0.001})
    refused = invoke(monkeypatch, world, "run", "--exp", "small", "--set", "runs.r1.learning_rate=fast")
    assert refused.exit_code == 1
    assert "learning_rate" in str(refused.exception)
    assert "fast" not in path.read_text()


def test_a_network_file_system_is_recognised_by_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\n")
    assert file_system_of(tmp_path / "not" / "there", mounts) in NETWORK_FILE_SYSTEMS
    assert file_system_of(Path("/"), mounts) == "ext4"


def test_samples_of_a_scene_that_is_no_longer_named_are_shown_and_moved_only_on_request(
    new_world: Callable[..., World],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = new_world()
    assert world.run(until="scene_samples").exit_code == 0
    tree = world.platform.difix(Cell("small"))
    world.write(SMALL | {"generation": {"scenes": ["studio_*"], "exclude": ["studio_pair01_fight"]}})
    shown = json_of(invoke(monkeypatch, world, "set-aside", "--exp", "small", "--json"))
    assert shown == {"exp_name": "small", "moved": False, "samples": {"studio_pair01_fight": 9}}
    assert len(list(tree.samples_dir.glob("studio_pair01_fight*"))) == 9
    assert invoke(monkeypatch, world, "set-aside", "--exp", "small", "--yes").exit_code == 0
    assert list(tree.samples_dir.glob("studio_pair01_fight*")) == []
    assert len(list(tree.set_aside_dir.rglob("image.png"))) == 9


def test_every_image_is_decoded_on_request_and_a_damaged_one_named(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    assert world.run(until="sample_set").exit_code == 0
    lasting = [re.sub(r"[0-9]+ s\b", "N s", line) for line in world.lines if not line.startswith(" ")]
    assert lasting == [
        "small: the scenes on disk: N s",
        "small: triplets, a scene each (4 scenes): N s",
        "small: manifests, hold-out, data.json: N s; 4 checks passed",
    ]
    whole = json_of(invoke(monkeypatch, world, "checks", "samples", "--exp", "small", "--json"))
    assert whole["samples"] == 36
    assert whole["found"] == []
    folders = sorted(world.platform.difix(world.cell()).samples_dir.iterdir())
    image = folders[20] / "image.png"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 0xFF  # Header and end stay whole: only decoding shows it.
    image.unlink()
    image.write_bytes(content)
    damaged = invoke(monkeypatch, world, "checks", "samples", "--exp", "small")
    assert damaged.exit_code == 3
    assert f"{folders[20].name}/image.png" in damaged.stdout
    assert "1 damaged" in damaged.stdout


def test_an_interrupted_command_says_that_it_goes_on_where_it_was(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("thesis_assets.scenes.catalog.list_scenes", interrupted)
    result = invoke(monkeypatch, new_world(), "scenes")
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr
