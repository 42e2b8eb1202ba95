"""`thesis-assets adopt`, as a person gives it: older trees in, nothing of them touched, everything checked and registered."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.states import Plan
from thesis_assets.reports.leaderboard import build_leaderboard
from thesis_assets.reports.leaderboard_tables import score_tables
from thesis_assets.schemas.evaluation import PredictionRecord
from thesis_assets.schemas.samples import SampleMeta
from thesis_assets.storage import read_json, write_json
from thesis_assets_tests.adoption.older_trees import (
    EVALUATED,
    SCORES,
    STEPS,
    state_of,
    write_old_paths,
    write_old_scores,
    write_old_snapshot,
)
from thesis_assets_tests.adoption.script_trees import february, head
from thesis_assets_tests.evaluation.tiny_cell import write_png
from thesis_assets_tests.reports.compared_trees import true_picture, write_run
from thesis_assets_tests.worlds import SCENES, SMALL, World, thesis_assets


@pytest.fixture
def old(tmp_path: Path, scene_home: Path) -> Path:
    root = tmp_path / "old"
    write_old_snapshot(root / "difix_tuning_data")
    write_old_scores(root / "results")
    write_old_paths(root / "configs" / "paths.yaml", scene_home)
    return root


def test_older_trees_are_taken_in_checked_and_registered_and_stay_as_they_were(
    new_world: Callable[..., World], old: Path
) -> None:
    world, before = new_world(), state_of(old)
    planned = json.loads(thesis_assets(world, "adopt", str(old), "--dry-run", "--json").stdout)
    assert [found["experiment"] for found in planned["found"]] == ["v0", "w1"]
    assert not (world.home / ".env").exists()
    done = thesis_assets(world, "adopt", str(old), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert set(report["experiments"]) == {"v0", "w1"}
    assert state_of(old) == before
    assert "THESIS_CONDA_ENV=difix" in (world.home / ".env").read_text()
    assert "THESIS_RESULTS_ROOT_DIR" not in (world.home / ".env").read_text()

    _check_snapshot(world)
    _check_history(world)
    _check_leaderboard(world)

    # Given again, it finds everything done, and changes nothing.
    made = {path: path.stat().st_mtime_ns for path in world.home.rglob("*.jso*") if "dagster_home" not in path.parts}
    again = thesis_assets(world, "adopt", str(old), "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(json.loads(again.stdout)["experiments"]) == {"v0", "w1"}
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert state_of(old) == before


def _check_snapshot(world: World) -> None:
    tree = world.platform.difix(Cell("v0"))
    folders = sorted(tree.samples_dir.iterdir())
    assert len(folders) == 8
    meta = read_json(folders[0] / "meta.json", SampleMeta)
    assert meta.sample_id == folders[0].name
    assert "adopted from" in meta.provenance.renderer
    assert (folders[0] / "image.png").stat().st_nlink == 2  # a link, no copy
    assert tree.frozen.is_file()
    assert [tree.tuning_run("lr2e5").checkpoint_info(step).is_file() for step in STEPS] == [True, True]


def _check_history(world: World) -> None:
    with world.instance() as instance:
        states = {
            (state.asset, str(state.cell)): state.state for state in Plan(world.platform, instance).of_experiment("v0")
        }
        outcomes = {(row.asset, row.check, row.cell): row.status for row in check_rows(instance)}
        alone = {state.asset: state.state for state in Plan(world.platform, instance).of_experiment("w1")}
    for asset, cell in (
        ("scene_samples", "v0|studio_pair00_dance"),
        ("sample_set", "v0"),
        ("split_manifests", "v0"),
        ("difix_data", "v0"),
        ("tuned_checkpoint", "v0|lr2e5"),
    ):
        assert states[asset, cell] == "made", (asset, cell, states)
    assert outcomes["split_manifests", "group_non_leakage", "v0"] == "passed"
    assert outcomes["sample_set", "every_sample_complete", "v0"] == "passed"
    assert outcomes["tuned_checkpoint", "checkpoint_loads", "v0|lr2e5"] == "passed"
    assert outcomes["nvs", "nvs_required_files", "w1|adopted"] == "passed"
    assert alone["nvs"] == alone["evaluation_manifest"] == "made"
    assert alone.keys().isdisjoint(
        {"tuned_checkpoint", "triplet_recording"}
    )  # an experiment of evaluated trees alone has nothing to tune


def _check_leaderboard(world: World) -> None:
    board = build_leaderboard(world.platform.evaluated_trees())
    found = {(row.epoch, row.metric): row for row in board.rows if row.scene_name == EVALUATED}
    assert {row.exp_name for row in board.rows} == {"w1"}
    for epoch, psnr in SCORES.items():
        assert found[epoch, "psnr"].value is None
        assert found[epoch, "psnr_channel_sum"].value == pytest.approx(psnr)
    assert found[30, "psnr_channel_sum"].difference_to_unrefined == pytest.approx(0.25)
    assert [table.stated for table in score_tables(board)] == [False]


def test_what_is_wrong_in_a_snapshot_fails_its_checks_and_is_named(new_world: Callable[..., World], old: Path) -> None:
    world = new_world()
    sample = next((old / "difix_tuning_data" / "v0" / "samples").iterdir())
    (sample / "ref_image.jpg").write_bytes(b"\xff\xd8 cut short")
    (old / "difix_tuning_data" / "v0" / "tuning_runs" / "lr2e5" / "checkpoints" / "model_3.pkl").write_bytes(b"no zip")
    done = thesis_assets(world, "adopt", str(old / "difix_tuning_data"))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "every_sample_complete" in done.stdout
    assert sample.name.replace("rcam", "rccam") in done.stdout
    assert "checkpoint_loads" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_experiment_of_the_same_name_is_never_overwritten(new_world: Callable[..., World], old: Path) -> None:
    world = new_world()
    mine = world.settings.experiments_dir / "w1.yaml"
    text = (world.settings.experiments_dir / "small.yaml").read_text().replace("exp_name: small", "exp_name: w1")
    mine.write_text(text)
    done = json.loads(thesis_assets(world, "adopt", str(old / "results"), "--json").stdout)
    assert list(done["experiments"]) == ["w1-adopted"]
    assert mine.read_text() == text


def test_trees_of_a_snapshot_are_taken_in_though_a_run_of_it_has_none(
    new_world: Callable[..., World], tmp_path: Path
) -> None:
    world = new_world()
    write_old_snapshot(tmp_path / "old" / "difix_tuning_data")
    write_old_scores(tmp_path / "old" / "results", exp_name="v0")
    done = thesis_assets(world, "adopt", str(tmp_path / "old"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [each["runs"] for each in found["found"]] == ["adopted, lr2e5"]
    board = build_leaderboard(world.platform.evaluated_trees())
    assert {(row.exp_name, row.run_name) for row in board.rows} == {("v0", "adopted")}


@pytest.mark.parametrize("write", [february, head])
def test_what_was_mended_is_taken_in_by_the_next_adoption(
    new_world: Callable[..., World], tmp_path: Path, write: Callable[..., Path]
) -> None:
    world, results = new_world(), tmp_path / "old" / "results"
    (path,) = (write(results, EVALUATED, "w2") / "evaluation" / "epoch_0030").rglob("novel_view_results.txt")
    write(results, SCENES[0], "w2")
    whole = path.read_text()
    path.write_text("psnr: 99.0\n")
    first = thesis_assets(world, "adopt", str(tmp_path / "old"))
    assert first.returncode == 3, first.stdout + first.stderr
    assert {("w2", EVALUATED, "pose_smplx"), ("w2", SCENES[0], "nvs")} <= measured(world)
    assert ("w2", EVALUATED, "nvs") not in measured(world)
    board = build_leaderboard(world.platform.evaluated_trees())
    empty = [row for row in board.rows if (row.scene_name, row.task) == (EVALUATED, "nvs")]
    assert empty
    assert {"novel_view_results.txt" in row.damaged for row in empty} == {True}
    (table,) = [each for each in score_tables(board) if each.task == "nvs"]
    shown = thesis_assets(world, "leaderboard").stdout
    assert str(path) in shown.replace("\n", ""), shown
    assert {mean for scores in table.runs["w2", "adopted"] for mean in scores.means.values()} == {None}
    path.unlink()  # as editors do: another file under the name
    path.write_text(whole)
    again = thesis_assets(world, "adopt", str(tmp_path / "old"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert {("w2", scene, "nvs") for scene in (EVALUATED, SCENES[0])} <= measured(world)


def measured(world: World) -> set[tuple[str, str, str]]:
    rows = build_leaderboard(world.platform.evaluated_trees()).rows
    return {(row.exp_name, row.scene_name, row.task) for row in rows if row.value is not None}


def test_an_experiment_whose_scenes_are_gone_leaves_the_others_their_numbers(new_world: Callable[..., World]) -> None:
    gone = SMALL | {"exp_name": "gone", "evaluation": {"scenes": ["studio_moved_away"], "epochs": [0, 1]}}
    world = new_world(SMALL, gone)
    platform = world.platform
    assert platform.evaluated_trees() == []
    assert any("gone is left out" in line for line in world.lines)


def test_a_tree_of_the_output_document_is_read_where_it_lies_and_stays_as_it_was(
    new_world: Callable[..., World], tmp_path: Path
) -> None:
    """Its own records were once written through the links of those that took it over."""
    world, old = new_world(), tmp_path / "old"
    (tree,) = write_run(old, "tuned", {EVALUATED: 20.0}, cameras=(4,)).values()
    task = tree.task(30, "nvs")
    write_png(task.input_render(4, "000000"), true_picture(EVALUATED, 4, "000000"))
    record = PredictionRecord(
        prediction_source="command",
        epoch=30,
        step=None,
        checkpoint_sha256=None,
        n_images=1,
        input_digest="0" * 64,
        renderer="theirs",
    )
    write_json(task.prediction_record, record)
    before = state_of(old)
    thesis_assets(world, "adopt", str(old), "--json")
    taken = world.platform.tree(Cell("demo", run_name="tuned"), EVALUATED).task(30, "nvs")
    assert taken.prediction_record.is_file()
    assert state_of(old) == before
