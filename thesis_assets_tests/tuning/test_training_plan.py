"""What a training will be, before it starts: by its settings and by trainings of the same ones, refused where it cannot fit."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from thesis_assets.errors import DiskFull
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning import training_plan, tuning_run
from thesis_assets.tuning.trainer_start import Reported
from thesis_assets.tuning.training_plan import TrainingPlan, plan_of_run, refinement_ceiling
from thesis_assets.tuning.tuning_run import tune
from thesis_assets_tests.tuning.snapshots import (
    SPLIT,
    arguments,
    make_run,
    stopping_at,
    train,
    train_run,
    write_snapshot,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    """Eight training samples of 32 x 32, and the finished run `past`."""
    tree = write_snapshot(tmp_path_factory.mktemp("snapshot"))
    train_run(tree, "past")
    return tree


def plan(tree: DifixTree, **changes: Any) -> TrainingPlan:
    return plan_of_run(tree, "new", make_run(**changes), "cpu", reported=Reported(downscale_factor=1))


def line(plan: TrainingPlan, subject: str) -> str:
    return next(line for line in plan.lines if line.startswith(f"{subject}: "))


def test_steps_are_told_as_passes_over_the_data(tree: DifixTree) -> None:
    assert line(plan(tree, max_train_steps=3), "samples") == "samples: 3 steps of 2 see 6: 75% of one pass over 8"
    assert "see 160: 20.0 passes" in line(plan(tree, max_train_steps=20, gradient_accumulation_steps=4), "samples")


def test_hours_and_memory_are_those_of_past_runs_with_the_same_settings(tree: DifixTree) -> None:
    known = plan(tree, max_train_steps=20_000)
    assert "about " in line(known, "time")
    assert "for 20000 steps, by " in line(known, "time")
    assert "GB at most in past runs" in line(known, "memory")
    other = plan(tree, resolution=64)
    assert "not known, as no run with these settings" in line(other, "time")
    assert line(other, "memory") == "memory: not known"


def test_keys_of_ours_that_are_set_and_those_without_effect_are_named(tree: DifixTree) -> None:
    assert not any(each.startswith("keys: ") for each in plan(tree).lines)
    asked = plan(tree, ema_decay=0.99, keep_last=2, lora_rank_unet=8, allow_tf32=True, extra_args=("--lr_power=2",))
    assert line(asked, "keys") == "keys: lora_rank_unet 8, ema_decay 0.99, keep_last 2"
    said = [each for each in asked.lines if "no effect" in each]
    assert [each.partition(" = ")[0] for each in said] == ["allow_tf32", "lora_rank_unet", "lr_power"]


def test_the_disk_that_checkpoints_take_depends_on_what_is_kept(tree: DifixTree) -> None:
    wanted = {
        name: plan(tree, max_train_steps=100, checkpointing_steps=10, **changes).wanted_bytes or 0
        for name, changes in {
            "all": {}, "averaged": {"ema_decay": 0.9}, "few": {"keep_last": 1}, "light": {"save_optimizer": False},
        }.items()
    }  # fmt: skip
    one = tree.tuning_run("past").checkpoint(20).stat().st_size
    assert wanted["all"] == 10 * one
    assert wanted["all"] < wanted["averaged"] < 1.4 * wanted["all"]
    assert wanted["few"] == 2 * one, "a checkpoint is whole before another makes room for it"
    assert wanted["few"] < wanted["light"] < 0.6 * wanted["all"]


def test_checkpoints_that_are_there_make_room_for_the_next(tree: DifixTree, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = arguments(tree, "half", max_train_steps=20, checkpointing_steps=2, eval_freq=20, keep_last=3)
    with monkeypatch.context() as patch:
        stopping_at(patch, 10)
        assert train(flags) == 0
    run = make_run(max_train_steps=20, checkpointing_steps=2, keep_last=3)
    found = plan_of_run(tree, "half", run, "cpu", reported=Reported(downscale_factor=1))
    assert found.wanted_bytes == tree.tuning_run("past").checkpoint(20).stat().st_size


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_training_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_snapshot(tmp_path)
    monkeypatch.setattr(tuning_run, "run_job", lambda *_, **__: pytest.fail("a job was started"))
    monkeypatch.setattr(training_plan.shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**6))
    with pytest.raises(DiskFull, match=r"(?s)do not fit.*0\.0 GB free.*save_optimizer: false"):
        tune(tree, "r", make_run(), split=SPLIT, device="cpu", launcher=LocalLauncher())
    assert not tree.frozen.exists()
    assert not tree.tuning_run("r").train_config.exists()


def test_refining_below_the_size_that_is_compared_at_is_warned_with_its_ceiling(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path, size=64)
    told: list[str] = []
    run = make_run(resolution=32, max_train_steps=1, checkpointing_steps=1, eval_freq=1)
    result = tune(
        tree,
        "small",
        run,
        split=SPLIT,
        device="cpu",
        launcher=LocalLauncher(),
        reported=Reported(downscale_factor=1),
        on_plan=told.append,
    )
    assert tuple(told) == result.plan
    assert "size: refines 64x64 at 32x32, compared at 64x64" in told
    warning = told[-1]
    assert warning.startswith("warning: resolution 32 is below the 64")
    assert "a perfect refiner would reach" in warning
    assert warning in read_json(tree.tuning_run("small").train_config, TrainConfig).notes
    assert plan_of_run(tree, "n", make_run(resolution=64), "cpu", reported=Reported(downscale_factor=1)).warnings == ()


def test_the_ceiling_is_what_resizing_leaves_of_the_target(tmp_path: Path) -> None:
    """Of stripes of one pixel half the size leaves grey: 6 dB from black and white. A render that has them keeps them."""
    tree = write_snapshot(tmp_path, size=64)
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), 32)[None, :, None].repeat(64, axis=0).repeat(3, axis=2)
    for folder in tree.samples_dir.iterdir():
        Image.fromarray(stripes).save(folder / "image.png")
        Image.fromarray(stripes).save(folder / "target_image.jpg", format="PNG")
    assert refinement_ceiling(tree, 32, 1, adds=False) == pytest.approx(6.0, abs=0.5)
    assert refinement_ceiling(tree, 64, 1, adds=False) > 100
    assert refinement_ceiling(tree, 32, 1, adds=True) > 100


def test_a_run_that_goes_on_plans_what_is_left(tree: DifixTree, tmp_path: Path) -> None:
    shutil.copytree(tree.root, tmp_path / "copy")
    there = DifixTree(tmp_path / "copy", tree.exp_name)
    there.tuning_run("past").checkpoint(20).unlink()
    left = plan_of_run(there, "past", make_run(max_train_steps=20, checkpointing_steps=10), "cpu")
    assert "for 10 steps" in line(left, "time")
