"""Faults planted into real trees: the right check fails and names them, and what is downstream does not run or refuses."""

import contextlib
import copy
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.definitions import build_defs
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.check_history import check_rows
from thesis_assets.graph.checks import CHECKS, remedy_of
from thesis_assets.graph.nodes import LEVELS
from thesis_assets.images.codecs import read_rgb
from thesis_assets.operations.execution import RunOutcome, Work, execute, make_checks
from thesis_assets.operations.report_pages import write_pages
from thesis_assets.storage import cell_lock
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.worlds import SMALL, TINY_RUN, World, failed_checks

pytestmark = pytest.mark.long

LEVEL = {level.job: level for level in LEVELS}


def again(world: World, job: str, assets: tuple[str, ...], cell: Cell) -> RunOutcome:
    """Make some assets of one level once more, whether or not they are current."""
    with world.instance() as instance:
        return execute(
            build_defs(settings=world.settings, echo=world.lines.append), instance, Work(LEVEL[job], assets, (cell,))
        )


def check(world: World, asset: str, cell: Cell) -> dict[str, str]:
    """Make the checks of one asset alone: name to message of those that fail."""
    with world.instance() as instance:
        definitions = build_defs(settings=world.settings, echo=world.lines.append)
        result = make_checks(definitions, instance, asset, cell, CHECKS[asset])
    return {each.check_name: str(each.description) for each in result.get_asset_check_evaluations() if not each.passed}


def mend(monkeypatch: pytest.MonkeyPatch, world: World, failed: str, cell: Cell, *more: str) -> None:
    """Give the commands that stand beside a failed check, `<asset>.<check>`, as a person would; `more` narrows them."""
    asset, _, name = failed.partition(".")
    for command in remedy_of(asset, name, cell.key).commands:
        done = invoke(monkeypatch, world, *shlex.split(command)[1:], *more)
        assert done.exit_code == 0, (command, done.output, done.stderr)


@contextlib.contextmanager
def put_back(path: Path) -> Iterator[Path]:
    """Let a test change a file of a shared world."""
    keep = path.with_name(path.name + ".kept")
    shutil.copy2(path, keep)
    path.unlink()
    shutil.copy2(keep, path)  # a file of its own: the original may be a hard link of several trees
    try:
        yield path
    finally:
        keep.replace(path)


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Let a test change a folder of a shared world."""
    copy_of_it = folder.with_name(folder.name + ".kept")
    shutil.copytree(folder, copy_of_it)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        copy_of_it.replace(folder)


def test_a_missing_sample_file_fails_its_check_stops_what_follows_and_is_made_again_by_the_command_beside_it(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    assert world.run(until="scene_samples").exit_code == 0
    tree = world.platform.difix(Cell("small"))
    sample = sorted(tree.samples_dir.iterdir())[0]
    (sample / "ref_image.jpg").unlink()
    outcome = again(world, "prepare_data", LEVEL["prepare_data"].assets, Cell("small"))
    assert not outcome.success
    assert any("every_sample_complete" in line for line in outcome.failed_checks)
    assert not tree.split_train.exists()
    assert not tree.data_json.exists()
    (sample / "target_image.jpg").write_bytes(b"not whole")
    mend(monkeypatch, world, "sample_set.every_sample_complete", Cell("small"), "--until", "difix_data")
    assert (sample / "ref_image.jpg").is_file()
    assert read_rgb(sample / "target_image.jpg").size
    assert tree.data_json.is_file()


def test_rot_that_kept_size_and_time_is_found_by_the_checks_and_mended_by_the_command_beside_them(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    assert world.run(until="difix_data").exit_code == 0
    path = sorted(world.platform.difix(Cell("small")).samples_dir.glob("*/image.png"))[3]
    before, stat = path.read_bytes(), path.stat()
    time.sleep(0.02)
    path.write_bytes(before[: len(before) // 2] + bytes(len(before) - len(before) // 2))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = invoke(monkeypatch, world, "checks", "samples", "--exp", "small")
    assert found.exit_code == 3
    assert "next: `thesis-assets run --exp small --until scene_samples`" in found.output
    mend(monkeypatch, world, "sample_set.every_sample_complete", Cell("small"), "--until", "difix_data")
    assert path.read_bytes() == before


def test_a_leaked_pair_fails_its_check_and_a_trainer_refuses_in_another_run(new_world: Callable[..., World]) -> None:
    world = new_world()
    assert world.run(until="difix_data").exit_code == 0
    cell = Cell("small")
    tree = world.platform.difix(cell)
    test_rows = tree.split_test.read_text().splitlines(keepends=True)
    leaked = next(line for line in test_rows if "pair02" in line)
    train = sorted([*tree.split_train.read_text().splitlines(keepends=True), leaked])
    tree.split_train.write_text("".join(train))
    failed = check(world, "split_manifests", cell)
    assert "group_non_leakage" in failed
    assert "pair02" in " ".join(failed.values())
    outcome = again(world, "tune", ("tuned_checkpoint",), world.cell())
    assert not outcome.success
    assert not (tree.tuning_run("r1").logs_dir / "progress.jsonl").exists()
    assert "pair02" in " ".join(outcome.errors) or "split_train" in " ".join(outcome.errors)


def test_a_corrupted_checkpoint_fails_its_check_and_the_evaluation_refuses_it(finished_world_to_change: World) -> None:
    world = finished_world_to_change
    run = world.platform.difix(world.cell()).tuning_run("r1")
    with put_back(run.checkpoint(4)) as path:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
        failed = check(world, "tuned_checkpoint", world.cell())
        assert "checkpoint_loads" in failed
        assert "model_4.pkl" in failed["checkpoint_loads"]
        tree = next(iter(world.platform.evaluation_trees(world.cell()).values()))
        with kept(tree.base):
            shutil.rmtree(tree.task(1, "nvs").inputs_dir)
            outcome = again(world, "evaluate", ("predictions",), world.cell())
        assert not outcome.success
        assert "model_4.pkl" in " ".join(outcome.errors)
    assert check(world, "tuned_checkpoint", world.cell()) == {}, "put back, and refused still"


def test_a_missing_metrics_file_fails_the_right_check_only(finished_world_to_change: World) -> None:
    world = finished_world_to_change
    tree = next(iter(world.platform.evaluation_trees(world.cell()).values()))
    with put_back(tree.task(1, "nvs").nvs_per_camera) as path:
        path.unlink()
        failed = check(world, "nvs", world.cell())
        assert set(failed) - {"lpips_present"} == {"nvs_required_files"}  # a warning where there are no weights
        assert "metrics_avg_per_camera.csv" in failed["nvs_required_files"]
        assert check(world, "pose_smplx", world.cell()) == {}
    assert set(check(world, "nvs", world.cell())) <= {"lpips_present"}, "put back, and refused still"


def test_a_missing_metrics_file_and_a_changed_image_are_mended_by_the_command_beside_their_checks(
    finished_world_to_change: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, cell = finished_world_to_change, finished_world_to_change.cell()
    tree = next(iter(world.platform.evaluation_trees(cell).values()))
    task = tree.task(1, "nvs")
    table = task.nvs_per_camera.read_bytes()
    task.nvs_per_camera.unlink()
    assert "nvs_required_files" in check(world, "nvs", cell)
    mend(monkeypatch, world, "nvs.nvs_required_files", cell, "--until", "evaluation_manifest")
    assert task.nvs_per_camera.read_bytes() == table
    for image in task.pred_dir.rglob("*.png"):
        other = next(task.gt_inputs_dir.rglob("*.png")).read_bytes()
        image.unlink()
        image.write_bytes(other)
    assert "metrics_recompute" in check(world, "evaluation_manifest", cell)
    for folder in (task.metrics_dir, task.pred_dir, task.gt_inputs_dir):  # what a person does first
        shutil.rmtree(folder)
    mend(monkeypatch, world, "evaluation_manifest.metrics_recompute", cell, "--until", "evaluation_manifest")
    assert task.nvs_per_camera.read_bytes() == table
    assert check(world, "evaluation_manifest", cell) == {}


def test_a_damaged_checkpoint_is_made_again_by_the_command_beside_its_check(
    finished_world_to_change: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, cell = finished_world_to_change, finished_world_to_change.cell()
    run = world.platform.difix(cell).tuning_run("r1")
    whole = run.checkpoint(4).read_bytes()
    run.checkpoint(4).unlink()
    run.checkpoint(4).write_bytes(whole[: len(whole) // 2])
    assert "checkpoint_loads" in check(world, "tuned_checkpoint", cell)
    run.checkpoint(4).unlink()  # what a person does first
    run.checkpoint_info(4).unlink()
    mend(monkeypatch, world, "tuned_checkpoint.checkpoint_loads", cell, "--until", "tuned_checkpoint")
    assert run.checkpoint(4).read_bytes() == whole
    assert check(world, "tuned_checkpoint", cell) == {}
    config = run.train_config.read_bytes()
    run.train_config.unlink()
    run.train_config.write_bytes(config.replace(b'"flags"', b'"flagged"'))
    assert "train_config_complete" in check(world, "tuned_checkpoint", cell)
    run.train_config.unlink()
    mend(monkeypatch, world, "tuned_checkpoint.train_config_complete", cell, "--until", "tuned_checkpoint")
    assert check(world, "tuned_checkpoint", cell) == {}


def test_a_second_evaluation_of_a_cell_says_who_is_at_work_on_it(finished_world_to_change: World) -> None:
    cell = finished_world_to_change.cell()
    with cell_lock(finished_world_to_change.platform.difix(cell).lock("evaluation-r1"), "the evaluation"):
        refused = again(finished_world_to_change, "evaluate", ("evaluation_manifest",), cell)

    assert not refused.success
    assert any("another process works on the evaluation of small|r1" in error for error in refused.errors)
    assert any(str(os.getpid()) in error for error in refused.errors)
    assert again(finished_world_to_change, "evaluate", ("evaluation_manifest",), cell).success


def test_selecting_on_the_people_one_reports_on_is_refused_also_when_asked_again(
    new_world: Callable[..., World],
) -> None:
    experiment = copy.deepcopy(SMALL)
    experiment["runs"]["r1"]["selection"] = {"rule": "best_psnr", "groups": ["pair03"]}
    world = new_world(experiment)
    report = world.run(until="selected_checkpoint")
    assert report.exit_code == 3
    said = " ".join(error for outcome in report.outcomes for error in outcome.errors + outcome.failed_checks)
    assert "pair03" in said
    assert "selection" in said
    # What the check refused is made and current: the same command again must not go on past it.
    report = world.run(until="input_data")
    assert report.exit_code == 3
    assert failed_checks(report) == ["selected_checkpoint.selection_disjoint_from_evaluation"]
    assert [outcome.work.assets for outcome in report.outcomes] == [("selected_checkpoint",)]
    world.write(SMALL)
    assert world.run(until="input_data").exit_code == 0, "mended, and refused still"


def test_a_cell_that_no_file_declares_fails_at_once_and_names_the_declared_ones(
    new_world: Callable[..., World],
) -> None:
    world = new_world(SMALL, SMALL | {"exp_name": "other", "runs": {"r9": TINY_RUN}})
    outcome = again(world, "tune", ("tuned_checkpoint",), Cell("small", run_name="r9"))
    assert not outcome.success
    assert "r1" in " ".join(outcome.errors)


def test_a_model_that_cannot_be_had_is_refused_before_anything_is_trained(new_world: Callable[..., World]) -> None:
    experiment = copy.deepcopy(SMALL)
    no_features = {"lambda_lpips": 0, "lambda_gram": 0}
    experiment["runs"]["r1"] |= {"backend": "difix", "model": "/no/such/model", **no_features}
    world = new_world(experiment)
    report = world.run(until="tuned_checkpoint")
    assert report.exit_code == 1
    assert any("/no/such/model" in error for outcome in report.outcomes for error in outcome.errors)
    assert not world.platform.difix(world.cell()).tuning_run("r1").checkpoints_dir.exists()
    assert failed_checks(report) == []


def test_a_training_that_fails_is_told_with_its_step_and_not_tried_again(new_world: Callable[..., World]) -> None:
    """A loss that is not finite, a sample that cannot be read, other settings under a name that has trained."""
    experiment = copy.deepcopy(SMALL)
    experiment["runs"] = {
        "hot": TINY_RUN | {"learning_rate": 1e30, "max_grad_norm": 0, "checkpointing_steps": 1},
        "r1": copy.deepcopy(TINY_RUN),  # YAML would write a second mention as an alias
    }
    experiment["runs"]["hot"]["selection"] = {"rule": "last"}
    world = new_world(experiment)
    assert world.run(until="difix_data").exit_code == 0
    hot, r1 = (world.cell(name) for name in ("hot", "r1"))
    outcomes = [again(world, "tune", ("tuned_checkpoint",), hot)]
    checkpoint = world.platform.difix(hot).tuning_run("hot").checkpoint(1)
    assert checkpoint.is_file()
    changed = copy.deepcopy(experiment)
    changed["runs"]["hot"]["learning_rate"] = 1e-3
    world.write(changed)
    outcomes.append(again(world, "tune", ("tuned_checkpoint",), hot))
    for image in world.platform.difix(r1).samples_dir.glob("*/image.png"):
        start = image.read_bytes()[:100]
        image.unlink()
        image.write_bytes(start)
    outcomes.append(again(world, "tune", ("tuned_checkpoint",), r1))

    for outcome, told in zip(
        outcomes, ("not finite at step 2", "key: learning_rate", "not the ones that were exported"), strict=True
    ):
        assert not outcome.success
        said = " ".join(outcome.errors)
        assert told in said, said
        assert "remedy: " in said
    assert checkpoint.is_file()
    with world.instance() as instance:
        events = [entry.dagster_event for outcome in outcomes for entry in instance.all_logs(outcome.run_id)]
        assert sum(event.is_step_failure for event in events if event) == 3
        assert not [event for event in events if event and (event.is_step_up_for_retry or event.is_step_restarted)]
        assert {run.run_id for run in instance.get_runs()} >= {outcome.run_id for outcome in outcomes}


def test_another_generation_section_is_refused_with_its_keys_unless_it_is_forced(
    new_world: Callable[..., World],
) -> None:
    world = new_world()
    assert world.run(until="scene_samples").exit_code == 0
    experiment = copy.deepcopy(SMALL)
    experiment["generation"]["frames"] = {"stride": 2}
    world.write(experiment)
    refused = world.run(until="scene_samples")
    assert refused.exit_code == 1
    assert "generation.frames.stride" in refused.stopped[0].why
    assert refused.stopped[0].mend == "thesis-assets run --exp small --force scene_samples"
    replaced = world.run(until="sample_set", force=["scene_samples"])
    assert replaced.exit_code == 0, replaced.to_json()
    tree = world.platform.difix(Cell("small"))
    frames = {json.loads(line)["target_fname"] for line in tree.all_samples.read_text().splitlines()}
    assert frames == {"000000", "000002"}


def test_checks_are_made_again_by_a_command_that_makes_nothing_else(
    finished_world_to_change: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, sample_set = finished_world_to_change, dg.AssetKey("sample_set")
    folder = sorted(world.platform.difix(world.cell()).samples_dir.iterdir())[0]
    with world.instance() as instance:
        before = len(instance.fetch_materializations(sample_set, limit=100).records)
    with put_back(folder / "image.png") as image:
        image.unlink()
        spoiled = invoke(monkeypatch, world, "checks", "run", "--exp", "small", "every_sample_complete", "--json")
    assert spoiled.exit_code == 3
    (row,) = json.loads(spoiled.stdout)["checks"]
    assert (row["partition"], row["status"]) == ("small", "failed")
    assert folder.name in row["found"]
    rows = json_of(invoke(monkeypatch, world, "checks", "run", "--exp", "small", "sample_set", "input_data", "--json"))
    assert {row["check"] for row in rows["checks"]} == {
        *(f"sample_set.{name}" for name in CHECKS["sample_set"]),
        *(f"input_data.{name}" for name in CHECKS["input_data"]),
    }
    assert {row["status"] for row in rows["checks"]} == {"passed"}
    of_run = json_of(
        invoke(
            monkeypatch,
            world,
            "checks",
            "run",
            "--exp",
            "small",
            "--run",
            "r1",
            "tuned_checkpoint",
            "sample_set",
            "--json",
        )
    )
    assert {row["partition"] for row in of_run["checks"]} == {"small|r1"}
    with world.instance() as instance:
        assert len(instance.fetch_materializations(sample_set, limit=100).records) == before
        jobs = {run.job_name for run in instance.get_runs(limit=4)}
    assert jobs == {"sample_set_checks", "input_data_checks", "tuned_checkpoint_checks"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["no_such_check"], "no check 'no_such_check'"),
        (["--run", "r9"], "wanted: r1"),
        (["--scenes", "studio_pair03_dance"], "nothing of small has such a check"),
    ],
)
def test_checks_that_are_not_there_are_wrong_use(
    finished_world_to_change: World, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    done = invoke(monkeypatch, finished_world_to_change, "checks", "run", "--exp", "small", *words)
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_test_pair_copied_under_another_name_is_shown_side_by_side_trains_nothing_and_is_mended_by_the_words_beside_it(
    tmp_path: Path, scene_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in ("canonical_gt", "preprocessing", "scenes"):
        shutil.copytree(scene_home / root, tmp_path / "scenes" / root)
    for root in ("canonical_gt", "preprocessing"):
        folder = tmp_path / "scenes" / root
        shutil.copytree(folder / "studio_pair02_hug", folder / "studio_pair07_hug")
    entry = (tmp_path / "scenes" / "scenes" / "studio_pair02_hug.json").read_text()
    (tmp_path / "scenes" / "scenes" / "studio_pair07_hug.json").write_text(entry.replace("pair02", "pair07"))
    world = World(tmp_path / "home", tmp_path / "scenes")
    experiment = copy.deepcopy(SMALL) | {"split": {"test_groups": {"studio": ["pair02"]}}, "evaluation": {}}
    experiment["generation"] |= {"scenes": ["studio_pair0[027]_*"], "frames": {"max_samples_per_camera": 1}}
    world.write(experiment)

    report = world.run()

    assert report.exit_code == 3
    assert failed_checks(report) == ["split_manifests.photographs_across_splits"]
    assert not world.platform.difix(world.cell()).tuning_run("r1").base.exists()
    with world.instance() as instance:
        write_pages(world.platform, instance)
        rows = {row.check: row for row in check_rows(instance) if row.asset == "split_manifests"}
    page = world.settings.reports.checks.read_text()
    for name, status in (("photographs_across_splits", "failed"), ("near_duplicates_across_splits", "warning")):
        assert rows[name].status == status
        assert "studio_pair07_hug" in rows[name].offenders
        assert f'src="{rows[name].picture}"' in page
        assert rows[name].picture.startswith("data:image/jpeg;base64,")
    assert "`split.test_groups` of small.yaml" in rows["photographs_across_splits"].remedy.first

    experiment["split"]["test_groups"]["studio"].append("pair07")  # what a person does first
    world.write(experiment)
    mend(monkeypatch, world, "split_manifests.photographs_across_splits", Cell("small"), "--until", "difix_data")
    assert check(world, "split_manifests", Cell("small")) == {}
