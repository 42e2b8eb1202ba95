"""The whole graph on small demo scenes: everything is made, nothing is made twice, and the figures are real."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from thesis_assets.cli.demo import asset_rows, gain_rows
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES, look_at
from thesis_assets.graph.states import Plan
from thesis_assets.layout import TASKS, SampleId
from thesis_assets.samples import triplet_export
from thesis_assets.samples.triplet_export import render_frame
from thesis_assets.schemas.samples import SAMPLE_FILES
from thesis_assets_tests.evaluation.from_saved_files import assert_task_is_reproduced
from thesis_assets_tests.worlds import SCENES, SMALL, World, read_json

pytestmark = pytest.mark.long


def test_every_declared_cell_is_done_and_a_second_run_makes_nothing(finished_world: World) -> None:
    with finished_world.instance() as instance:
        states = Plan(finished_world.platform, instance).of_experiment("small")
    assert {state.state for state in states} == {"made"}
    assert {state.asset for state in states} == set(NODES) - {
        "scene_catalog",
        "published_recordings",
        "leaderboard",
        "check_report",
    }
    assert look_at(finished_world.platform, "leaderboard", Cell()).in_words == "made"
    again = finished_world.run()
    assert again.outcomes == []


def test_the_data_tree_has_exactly_the_documents_files(finished_world: World) -> None:
    tree = finished_world.platform.difix(finished_world.cell())
    samples = sorted(path.name for path in tree.samples_dir.iterdir())
    assert len(samples) == len(SCENES) * 3 * 3  # three target cameras, three frames
    for name in samples:
        SampleId.parse(name)
        assert sorted(path.name for path in (tree.samples_dir / name).iterdir()) == sorted(SAMPLE_FILES)
    assert {path.name for path in tree.manifests_dir.iterdir()} == {
        "all_samples.jsonl",
        "split_train.jsonl",
        "split_test.jsonl",
        "split_summary.json",
    }
    assert {"generation_config.yaml", "generation_stats.json", "dropped_samples.csv"} <= {
        path.name for path in tree.meta_dir.iterdir()
    }
    run = tree.tuning_run("r1")
    assert {"model_2.pkl", "model_4.pkl"} <= {path.name for path in run.checkpoints_dir.iterdir()}
    assert run.train_config.is_file()
    assert any(run.eval_dir.glob("*.csv"))


def test_the_evaluation_tree_has_the_documents_folders_and_required_files(finished_world: World) -> None:
    (tree,) = finished_world.platform.evaluation_trees(finished_world.cell()).values()
    manifest = read_json(tree.manifest)
    assert manifest["tasks"] == ["nvs", "pose_smplx", "pose_smpl"]
    assert manifest["eval_epochs"] == ["epoch_0000", "epoch_0001"]
    for epoch in (0, 1):
        for name in manifest["tasks"]:
            task = tree.task(epoch, name)
            assert {path.name for path in task.base.iterdir()} >= {"inputs", "pred", "gt_inputs", "metrics", "viz"}
            assert all(path.stat().st_size > 0 for path in task.required_files)
        assert tree.evaluation_recording(epoch).stat().st_size > 0
    assert tree.input_data_recording.stat().st_size > 0
    for folder in ("images", "seg", "all_cameras", "smplx", "depths", "misc/nv_generation"):
        assert (tree.input_data("train").base / folder).is_dir()
    for folder in ("images", "seg", "all_cameras", "smpl", "smplx"):
        assert (tree.input_data("test").base / folder).is_dir()


def test_every_number_of_the_evaluation_comes_out_of_its_saved_files_again(finished_world: World) -> None:
    (tree,) = finished_world.platform.evaluation_trees(finished_world.cell()).values()
    counts = [assert_task_is_reproduced(tree.task(epoch, task).base) for epoch in (0, 1) for task in TASKS]
    assert min(counts) > 30


def test_no_person_of_the_evaluation_is_in_training(finished_world: World) -> None:
    from thesis_assets.samples.sample_rows import read_rows

    tree = finished_world.platform.difix(finished_world.cell())
    groups = {row.group_id for row in read_rows(tree.split_train)}
    assert groups == {"pair00", "pair01"}


def test_the_summary_counts_what_is_on_disk(finished_world: World) -> None:
    with finished_world.instance() as instance:
        rows = {row[1]: row for row in asset_rows(finished_world.platform, instance, "small")}
    tree = finished_world.platform.difix(finished_world.cell())
    n_sample_files = sum(1 for path in tree.samples_dir.rglob("*") if path.is_file())
    n_shard_files = sum(1 for path in tree.scene_runs_dir.rglob("*") if path.is_file() and "made_from" not in path.name)
    assert rows["scene_samples"][3] == n_sample_files + n_shard_files
    assert rows["split_manifests"][6] == "8 of 8"


def test_a_learning_rate_of_zero_shows_no_gain(new_world: Callable[..., World]) -> None:
    experiment = copy.deepcopy(SMALL)
    experiment["runs"]["r1"]["learning_rate"] = 0.0
    world = new_world(experiment)
    report = world.run(until="nvs")
    assert report.exit_code == 0, report.to_json()
    gains = gain_rows(world.platform, "small")
    assert gains
    assert all(gain == 0.0 for *_, gain in gains)


def test_changing_the_hold_out_renders_nothing(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []

    def counted(renderer: Any, scene: Any, fname: str, cam_ids: Sequence[int]) -> Any:
        rendered.extend(f"{scene.name} {fname} {cam_id}" for cam_id in cam_ids)
        return render_frame(renderer, scene, fname, cam_ids)

    monkeypatch.setattr(triplet_export, "render_frame", counted)
    world = new_world()
    assert world.run(until="difix_data").exit_code == 0
    tree = world.platform.difix(world.cell())
    assert len(rendered) == len(set(rendered)) == len(list(tree.samples_dir.iterdir()))
    rendered.clear()
    experiment = copy.deepcopy(SMALL)
    experiment["split"]["test_groups"]["studio"] = ["pair01", "pair02", "pair03"]
    world.write(experiment)
    report = world.run(until="difix_data")
    assert [outcome.work.level.job for outcome in report.outcomes] == ["prepare_data"]
    assert rendered == []
    assert read_json(tree.split_summary)["train_group_ids"] == ["studio/pair00"]


def test_the_check_page_stands_after_the_last_level(finished_world: World) -> None:
    page = finished_world.settings.reports.checks.read_text(encoding="utf-8")
    assert "recording_follows_contract" in page
    assert "small|r1" in page


def test_a_run_has_its_compare_page_without_being_asked_for(finished_world: World) -> None:
    page = finished_world.settings.reports.comparison("small", "r1", "unrefined")
    assert "against</span> unrefined" in page.read_text(encoding="utf-8")
