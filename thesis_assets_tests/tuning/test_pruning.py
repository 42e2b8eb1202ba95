"""Pruning takes only checkpoints that nothing points to, and what it took is no loss to anything after it."""

from pathlib import Path

import pytest

from thesis_assets.errors import CellLocked, InvalidExperiment, InvalidFile
from thesis_assets.experiments.spec import EvaluationSpec
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.storage import cell_lock, sha256_file, write_json
from thesis_assets.tuning import run_checks
from thesis_assets.tuning.checkpoints import kept_steps, list_checkpoints, pruned_steps, verify_checkpoint
from thesis_assets.tuning.run_record import PlannedCheckpoint, plan_pruning, prune
from thesis_assets_tests.tuning.snapshots import make_run
from thesis_assets_tests.tuning.test_checkpoints import save

RUN = make_run(max_train_steps=50, checkpointing_steps=10, selection={"rule": "best_psnr"})
EPOCHS = {0: None, 7: 20}


@pytest.fixture
def tree(tmp_path: Path) -> DifixTree:
    """The run `r1` with the checkpoints 10 to 50, of which 30 was selected."""
    tree = DifixTree(tmp_path, "v1")
    for step in range(10, 60, 10):
        save(tree.tuning_run("r1"), step)
    select(tree, 30)
    return tree


def select(tree: DifixTree, step: int) -> None:
    run = tree.tuning_run("r1")
    selected = SelectedCheckpoint(
        exp_name="v1",
        run_name="r1",
        rule="best_psnr",
        step=step,
        path=str(run.checkpoint(step)),
        sha256=sha256_file(run.checkpoint(step)),
        scores=[],
        selection_groups=[],
        selection_sample_ids=[],
        data_json_sha256="data",
        manifest_sha256={},
        scene_names=[],
    )
    write_json(run.selected_checkpoint, selected)


def reasons(plan: list[PlannedCheckpoint]) -> dict[int, tuple[str, ...]]:
    return {planned.step: planned.kept_for for planned in plan}


def files(run: TuningRunTree) -> list[str]:
    return sorted(path.name for path in run.checkpoints_dir.glob("*.pkl"))


def test_a_plan_removes_nothing_and_says_why_each_checkpoint_stays(tree: DifixTree) -> None:
    plan = plan_pruning(tree, "r1", RUN, epoch_steps=EPOCHS, keep=[40])
    assert reasons(plan) == {10: (), 20: ("epoch 7",), 30: ("selected",), 40: ("asked for",), 50: ("last",)}
    assert all(planned.bytes > 0 for planned in plan)
    assert len(files(tree.tuning_run("r1"))) == 5
    assert not tree.tuning_run("r1").pruned.exists()


def test_an_evaluated_a_selected_and_the_last_step_are_never_taken(tree: DifixTree) -> None:
    run = tree.tuning_run("r1")
    prune(tree, "r1", RUN, epoch_steps=EPOCHS)
    assert files(run) == ["model_20.pkl", "model_30.pkl", "model_50.pkl"]
    # What serves several ends stays for each of them; and again, with nothing left to take.
    every = dict.fromkeys(range(1, 40))
    assert reasons(prune(tree, "r1", RUN, epoch_steps={**every, 1: 20, 2: 50, 3: 30}))[50] == ("epoch 2", "last")
    assert files(run) == ["model_20.pkl", "model_30.pkl", "model_50.pkl"]


def test_the_short_form_of_epochs_protects_what_it_snaps_to(tree: DifixTree) -> None:
    plan = plan_pruning(tree, "r1", RUN, epoch_steps=EvaluationSpec(epochs=(0, 15, 30)).epoch_steps(RUN))
    assert {step for step, why in reasons(plan).items() if not why} == {10, 20, 40}


def test_what_was_pruned_is_known_and_no_check_takes_it_for_a_loss(tree: DifixTree) -> None:
    run = tree.tuning_run("r1")
    prune(tree, "r1", RUN, epoch_steps=EPOCHS)
    assert list(pruned_steps(run)) == [10, 40]
    assert list_checkpoints(run) == kept_steps(run, RUN.saved_steps()) == [20, 30, 50]
    assert run.checkpoint_info(10).is_file()
    assert run_checks.checkpoint_loads(tree, "r1").passed
    with pytest.raises(InvalidFile, match="removed on request"):
        verify_checkpoint(run, 10)
    run.checkpoint(20).unlink()
    assert not run_checks.checkpoint_loads(tree, "r1").passed


def test_a_checkpoint_that_was_put_back_counts_again(tree: DifixTree) -> None:
    run = tree.tuning_run("r1")
    content = run.checkpoint(10).read_bytes()
    prune(tree, "r1", RUN, epoch_steps=EPOCHS)
    run.checkpoint(10).write_bytes(content)
    assert list(pruned_steps(run)) == [40]
    assert verify_checkpoint(run, 10).step == 10
    prune(tree, "r1", RUN, epoch_steps=EPOCHS)
    assert list(pruned_steps(run)) == [10, 40]


def test_candidates_are_not_pruned_before_the_rule_has_chosen(tree: DifixTree) -> None:
    tree.tuning_run("r1").selected_checkpoint.unlink()
    with pytest.raises(InvalidFile, match="not chosen yet"):
        prune(tree, "r1", RUN, epoch_steps=EPOCHS)
    assert len(files(tree.tuning_run("r1"))) == 5
    by_step = RUN.model_copy(update={"selection": RUN.selection.model_copy(update={"rule": "step", "step": 10})})
    assert reasons(plan_pruning(tree, "r1", by_step, epoch_steps={}))[10] == ("selected",)


def test_a_run_in_training_is_not_pruned(tree: DifixTree) -> None:
    with cell_lock(tree.lock("run-r1"), "the training"), pytest.raises(CellLocked):
        prune(tree, "r1", RUN, epoch_steps=EPOCHS)
    assert len(files(tree.tuning_run("r1"))) == 5


def test_a_step_without_a_checkpoint_cannot_be_kept(tree: DifixTree) -> None:
    with pytest.raises(InvalidExperiment, match="no checkpoint of a step"):
        plan_pruning(tree, "r1", RUN, epoch_steps=EPOCHS, keep=[15])
    with pytest.raises(InvalidFile, match="no finished checkpoint"):
        plan_pruning(tree, "r2", RUN, epoch_steps=EPOCHS)
