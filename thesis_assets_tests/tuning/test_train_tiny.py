"""The trainer program: what it writes, that it resumes to the bit, and how it stops."""

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import EVAL_COLUMNS, CheckpointInfo
from thesis_assets.storage import read_json
from thesis_assets.tuning.checkpoints import list_checkpoints, verify_checkpoint
from thesis_assets.tuning.progress_file import ProgressReader, TrainerReport, read_curves
from thesis_assets.tuning.refine import load_refiner
from thesis_assets_tests.services.small_disk import mounted, resize
from thesis_assets_tests.tuning.snapshots import SIZE, arguments, same_state, train, write_snapshot


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """One snapshot for all; every test has a run of its own."""
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


@pytest.fixture(scope="module")
def trained(tree: DifixTree) -> DifixTree:
    """With the run `whole`: six steps of two accumulated batches, never interrupted."""
    assert train(arguments(tree, "whole", gradient_accumulation_steps=2)) == 0
    return tree


def last_message(tree: DifixTree, run_name: str) -> str:
    return list(ProgressReader(tree.tuning_run(run_name).progress).new_lines())[-1].message


def test_a_run_leaves_checkpoints_evaluations_and_progress(trained: DifixTree) -> None:
    run = trained.tuning_run("whole")
    assert list_checkpoints(run) == [3, 6]
    info = read_json(run.checkpoint_info(6), CheckpointInfo)
    assert {"loss", "psnr_render", "psnr_refined"} <= set(info.metrics)
    rows = list(csv.reader(run.eval_metrics(6).open()))
    assert tuple(rows[0]) == EVAL_COLUMNS
    assert len(rows) == 1 + 8
    assert {row[1] for row in rows[1:]} == {"studio/pair02", "studio/pair03"}
    assert run.eval_contact_sheet(6).read_bytes().startswith(b"\x89PNG")
    lines = list(ProgressReader(run.progress).new_lines())
    third = ["step", "step", "step", "checkpoint", "eval"]
    assert [line.event for line in lines] == ["start", *third, *third, "done"]
    assert "flags have no effect" in lines[0].message
    assert lines[3].seconds_left == pytest.approx(lines[3].seconds, abs=60)


def test_the_loss_falls_and_the_refined_is_nearer_to_the_target(tree: DifixTree) -> None:
    assert train(arguments(tree, "longer", max_train_steps=40, checkpointing_steps=40, eval_freq=40)) == 0
    curves = read_curves(tree.tuning_run("longer").progress)
    assert curves["loss"][-1] < 0.5 * curves["loss"][0]
    assert curves["psnr_refined"][-1] > curves["psnr_render"][-1] + 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_saves_ends_well_and_loses_nothing(
    trained: DifixTree, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_name = f"signalled-{number.name}"
    report = TrainerReport.update

    def interrupted(self: TrainerReport, step: int, **numbers: float) -> None:
        report(self, step, **numbers)  # type: ignore[arg-type]
        if step == 4:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainerReport, "update", interrupted)
        assert train(arguments(trained, run_name, gradient_accumulation_steps=2)) == 0
    run = trained.tuning_run(run_name)
    assert list_checkpoints(run) == [3, 4]
    assert last_message(trained, run_name) == f"asked by {number.name}"
    assert train(arguments(trained, run_name, gradient_accumulation_steps=2)) == 0
    assert same_state(trained.tuning_run("whole"), run, 6)


def test_an_evaluation_that_a_kill_left_out_is_made_by_the_next_start(tree: DifixTree) -> None:
    assert train(arguments(tree, "unevaluated")) == 0
    path = tree.tuning_run("unevaluated").eval_metrics(6)
    before = path.read_bytes()
    path.unlink()
    assert train(arguments(tree, "unevaluated")) == 0
    assert path.read_bytes() == before


def test_a_learning_rate_of_zero_leaves_every_render_as_it_is(tree: DifixTree) -> None:
    assert train(arguments(tree, "still", learning_rate=0)) == 0
    run = tree.tuning_run("still")
    refiner = load_refiner(run.checkpoint(6))
    renders = torch.randint(0, 256, (2, 3, 50, 70)) / 255
    assert torch.equal(refiner.refine(renders, renders.flip(0)), renders)
    for row in csv.DictReader(run.eval_metrics(6).open()):
        assert row["psnr_render"] == row["psnr_refined"]


def test_a_loss_that_is_not_finite_names_step_and_samples_and_spares_the_checkpoints(tree: DifixTree) -> None:
    assert train(arguments(tree, "hot", learning_rate=1e30, max_grad_norm=0, checkpointing_steps=1)) == 1
    message = last_message(tree, "hot")
    assert "not finite at step 2" in message
    assert "studio_pair0" in message
    run = tree.tuning_run("hot")
    for step in list_checkpoints(run):
        verify_checkpoint(run, step)


def test_an_unreadable_image_names_step_and_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = write_snapshot(tmp_path)
    bad = sorted(tree.samples_dir.glob("studio_pair00*"))[1] / "target_image.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    assert train(arguments(tree, "r")) == 1
    for told in (last_message(tree, "r"), capsys.readouterr().err):
        assert bad.parent.name in told
        assert "at step 1" in told
        assert str(bad) in told


def test_a_full_disk_names_step_and_space_and_leaves_the_last_checkpoint(tree: DifixTree, tmp_path: Path) -> None:
    """6 MB hold one checkpoint of 4 MB."""
    with mounted(tmp_path / "small_disk", "6m") as disk:
        flags = arguments(tree, "full", output_dir=disk / "run")
        run = TuningRunTree(disk / "run")
        assert train(flags) == 1
        message = list(ProgressReader(run.progress).new_lines())[-1].message
        assert "checkpoint of step 6 could not be written" in message
        assert "No space left on device; " in message
        assert "about 4.0 MB" in message
        assert "make space" in message
        assert [path.name for path in sorted(run.checkpoints_dir.iterdir())] == ["model_3.json", "model_3.pkl"]
        verify_checkpoint(run, 3)
        resize(disk, "32m")
        assert train(flags) == 0
        assert list_checkpoints(run) == [3, 6]


def test_a_disk_too_full_for_a_line_of_progress_is_told_in_the_log(
    tree: DifixTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "small_disk", "16k") as disk:
        assert (
            train(arguments(tree, "full", output_dir=disk / "run", max_train_steps=200, checkpointing_steps=200)) == 1
        )
    told = capsys.readouterr().err
    assert "no space left to write in (at step " in told
    assert "make space" in told


def test_checkpoints_of_other_data_or_hyperparameters_are_not_resumed(tree: DifixTree) -> None:
    assert train(arguments(tree, "locked", max_train_steps=3)) == 0
    assert train(arguments(tree, "locked", max_train_steps=3, learning_rate=5e-4)) == 1
    message = last_message(tree, "locked")
    assert "found: learning_rate: 0.001" in message
    assert "wanted: learning_rate: 0.0005" in message
    tree.tuning_run("locked").train_config.unlink()
    assert train(arguments(tree, "locked", max_train_steps=3, learning_rate=5e-4)) == 1
    assert "hyperparameter_digest" in last_message(tree, "locked")
    tree.tuning_run("locked").train_config.unlink()
    other = tree.data_json.parent / "other.json"
    other.write_bytes(tree.data_json.read_bytes() + b"\n")
    assert train(arguments(tree, "locked", max_train_steps=3, dataset_path=other)) == 1
    assert "data_json_sha256" in last_message(tree, "locked")


def test_images_of_several_sizes_train_in_one_batch(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    for folder in sorted(tree.samples_dir.iterdir())[::2]:
        for name in ("image.png", "target_image.jpg", "ref_image.jpg"):
            with Image.open(folder / name) as image:
                image.resize((SIZE * 2, SIZE)).save(folder / name)
    assert train(arguments(tree, "mixed", max_train_steps=3, train_batch_size=4)) == 0
    assert np.isfinite(read_curves(tree.tuning_run("mixed").progress)["loss"]).all()


def test_without_test_samples_nothing_is_evaluated_and_it_says_so(tmp_path: Path) -> None:
    from thesis_assets.experiments.spec import SplitSpec

    tree = write_snapshot(tmp_path, split=SplitSpec(train_only=True), scenes=["studio_pair00_dance"])
    assert train(arguments(tree, "r", max_train_steps=3)) == 0
    run = tree.tuning_run("r")
    assert not run.eval_dir.exists()
    assert "nothing is evaluated" in next(iter(ProgressReader(run.progress).new_lines())).message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"no_such_flag": 1}, "no_such_flag"),
        ({"lr_scheduler": "piecewise_constant"}, "piecewise_constant"),
        ({"resume": "/elsewhere/model_3.pkl"}, "elsewhere"),
    ],
)
def test_what_the_trainer_cannot_do_is_refused(
    tree: DifixTree, changes: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(arguments(tree, "refused", **changes)) == 1
    assert told in capsys.readouterr().err
    assert list_checkpoints(tree.tuning_run("refused")) == []
