"""From a cell of the leaderboard down to the scenes: each file that is spoiled breaks the chain at its own link."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thesis_assets.cli.main import app
from thesis_assets.cli.results import _lineage
from thesis_assets.graph.states import Plan
from thesis_assets.schemas.lineage import LineageLink
from thesis_assets_tests.worlds import SCENES, World

SCENE = "studio_pair03_dance"


def kinds(link: LineageLink) -> list[str]:
    """The kinds on the way to the first leaf below each last link."""
    return [link.kind, *(kinds(link.made_from[-1]) if link.made_from else [])]


def links(link: LineageLink) -> Iterator[LineageLink]:
    yield link
    for below in link.made_from:
        yield from links(below)


@contextmanager
def spoiled(path: Path, old: bytes, new: bytes) -> Iterator[None]:
    """The file with `old` replaced by `new`, for a while; its times are put back too."""
    kept = path.with_name(path.name + ".kept")
    shutil.copy2(path, kept)
    content = path.read_bytes()
    assert old in content
    path.unlink()  # a hard link's other names keep their bytes
    path.write_bytes(content.replace(old, new, 1))
    try:
        yield
    finally:
        kept.replace(path)


def test_a_cell_of_the_leaderboard_leads_down_to_the_scenes(finished_world: World) -> None:
    link = _lineage(finished_world.platform, f"small/r1/{SCENE}/1/nvs")
    assert list(link.breaks()) == []
    assert kinds(link) == [
        *("evaluation", "epoch", "predictions", "checkpoint", "configuration", "data", "manifest", "shard", "scene"),
    ]
    scenes = [each for each in links(link) if each.kind == "scene"]
    assert [scene.name for scene in scenes] == sorted(SCENES)
    assert all(scene.state == "verified" and scene.digest for scene in scenes)


def test_every_epoch_is_told_and_the_chain_below_the_checkpoint_once(finished_world: World) -> None:
    link = _lineage(finished_world.platform, f"small/r1/{SCENE}")
    assert [epoch.name for epoch in link.made_from] == ["epoch_0000", "epoch_0001"]
    assert sum(each.kind == "data" for each in links(link)) == 1


def test_any_file_of_the_trees_has_its_lineage(finished_world: World) -> None:
    platform, cell = finished_world.platform, finished_world.cell()
    difix, tree = platform.difix(cell), platform.tree(cell, SCENE)
    run = difix.tuning_run("r1")
    sample = next(difix.samples_dir.iterdir())
    for path, first in (
        (run.checkpoint(4), ["checkpoint", "configuration", "data"]),
        (run.checkpoint_info(2), ["checkpoint", "configuration", "data"]),
        (run.selected_checkpoint, ["selection", "checkpoint", "configuration"]),
        (run.pipeline_overrides, ["selection", "checkpoint", "configuration"]),
        (run.eval_metrics(4), ["configuration", "data", "manifest"]),
        (difix.data_json, ["data", "manifest", "shard"]),
        (sample / "image.png", ["sample", "shard", "scene"]),
        (tree.task(1, "nvs").nvs_per_frame, ["evaluation", "epoch", "predictions"]),
        (tree.evaluation_recording(1), ["evaluation", "epoch", "predictions"]),
    ):
        link = _lineage(platform, str(path))
        assert [kind for kind in kinds(link) if kind != "file"][:3] == first, path
        assert list(link.breaks()) == [], path
    assert kinds(_lineage(platform, "small/r1"))[0] == "selection"
    assert kinds(_lineage(platform, "small"))[0] == "data"
    (of_tree,) = _lineage(platform, str(tree.evaluation_recording(1))).made_from
    assert len(of_tree.made_from) == 1


@pytest.mark.parametrize(
    ("spoil", "kind", "told"),
    [
        ("checkpoint", "checkpoint", "its side file names"),
        ("config", "checkpoint", "train_config.json names"),
        ("data.json", "data", "trained on"),
        ("manifest", "manifest", "split_summary.json names"),
        ("shard", "shard", "run_stats.json names"),
        ("sample", "shard", "meta.json"),
        ("image", "shard", "image.png"),
        ("photograph", "scene", "images/4/000000.jpg changed since it was exported"),
        ("predictions", "checkpoint", "what was made from it names"),
        ("selected", "checkpoint", "what was made from it names"),
        ("generation", "shard", "generation_config.yaml: `generation.frames.stride`"),
    ],
)
def test_a_spoiled_file_breaks_the_chain_where_it_stands(
    finished_world: World, spoil: str, kind: str, told: str
) -> None:
    platform, cell = finished_world.platform, finished_world.cell()
    difix = platform.difix(cell)
    run, predictions = difix.tuning_run("r1"), platform.tree(cell, SCENE).task(1, "nvs").prediction_record
    sample = sorted(difix.samples_dir.iterdir())[0]
    digest = json.loads(run.checkpoint_info(4).read_text())["sha256"].encode()
    config = json.loads(run.train_config.read_text())["hyperparameter_digest"].encode()
    identity = json.loads((sample / "meta.json").read_text())["provenance"]["identity"].encode()
    photograph = platform.roots.tree(SCENES[0]).ground_truth.image(4, "000000")
    chosen = json.loads(run.selected_checkpoint.read_text())["sha256"].encode()
    path, old, new = {
        "checkpoint": (run.checkpoint(4), b"PK", b"QK"),
        "config": (run.train_config, config, config[::-1]),
        "data.json": (difix.data_json, b"image.png", b"image.pnG"),
        "manifest": (difix.split_train, b"\n", b" \n"),
        "shard": (difix.scene_run(SCENES[0]).all_samples, b"\n", b" \n"),
        "sample": (sample / "meta.json", identity, identity[::-1]),
        "image": (sample / "image.png", b"PNG", b"PNg"),
        "photograph": (photograph, b"JFIF", b"JFIG"),
        "predictions": (predictions, digest, digest[::-1]),
        "selected": (run.selected_checkpoint, chosen, chosen[::-1]),
        "generation": (difix.generation_config, b"stride: 1", b"stride: 2"),
    }[spoil]
    target = str(run.selected_checkpoint) if spoil == "selected" else f"small/r1/{SCENE}/1"
    with spoiled(path, old, new):
        broken = list(_lineage(platform, target).breaks())
    assert any(each.kind == kind and told in each.note for each in broken), broken
    assert list(_lineage(platform, target).breaks()) == []


def test_a_scene_that_is_gone_is_known_by_its_record_and_breaks_no_chain(finished_world: World, tmp_path: Path) -> None:
    from dataclasses import replace

    from thesis_assets.tuning.lineage import checkpoint_lineage

    platform, cell = finished_world.platform, finished_world.cell()
    roots = replace(platform.roots, canonical_gt=tmp_path)
    link = checkpoint_lineage(platform.difix(cell), "r1", 4, roots)
    assert list(link.breaks()) == []
    scenes = [each for each in links(link) if each.kind == "scene"]
    assert {each.state for each in scenes} == {"recorded"}
    assert all("are gone" in each.note for each in scenes)


def command(world: World, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_the_command_shows_the_chain_and_fails_where_it_breaks(
    finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = command(finished_world, monkeypatch, "lineage", f"small/r1/{SCENE}/1/nvs")
    assert code == 0
    assert "the chain holds" in text
    for word in ("model_4.pkl", "difix/data.json", "studio_pair00_dance"):
        assert word in text
    path = finished_world.platform.difix(finished_world.cell()).data_json
    with spoiled(path, b"image.png", b"image.pnG"):
        code, text = command(finished_world, monkeypatch, "lineage", "small/r1", "--json")
        assert code == 3
        assert json.loads(text)["whole"] is False
        code, text = command(finished_world, monkeypatch, "lineage", "small/r1")
        assert "the chain breaks at data difix/data.json" in text


def test_after_pruning_the_graph_is_current_and_the_lineage_knows_what_is_gone(
    finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, cell = finished_world.platform, finished_world.cell()
    run = platform.difix(cell).tuning_run("r1")
    taken, kept = 2, 4  # epoch 1 is step 4
    assert json.loads(run.selected_checkpoint.read_text())["step"] == kept
    copy = run.base / "kept.pkl"
    shutil.copy2(run.checkpoint(taken), copy)
    try:
        code, text = command(finished_world, monkeypatch, "prune", "--exp", "small")
        assert code == 0
        assert "next: the same command with --yes" in text
        assert run.checkpoint(taken).is_file()
        code, text = command(finished_world, monkeypatch, "prune", "--exp", "small", "--run", "r1", "--yes", "--json")
        assert json.loads(text)["removed"] is True
        assert not run.checkpoint(taken).exists()
        assert run.checkpoint(kept).is_file()
        with finished_world.instance() as instance:
            for asset in ("tuned_checkpoint", "selected_checkpoint", "predictions", "triplet_recording"):
                assert Plan(platform, instance).state(asset, cell).state == "made", asset
        (gone,) = _lineage(platform, str(run.checkpoint_info(taken))).made_from
        assert (gone.state, list(gone.breaks())) == ("recorded", [])
        assert "removed on request" in gone.note
    finally:
        copy.replace(run.checkpoint(taken))
        run.pruned.unlink(missing_ok=True)
    assert command(finished_world, monkeypatch, "prune", "--exp", "small", "--dry-run", "--yes")[0] == 2
