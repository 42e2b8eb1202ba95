"""Keys of a run that are off by default: what each does, that a resumed run is as one in one go, and what older runs are."""

import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.experiments.spec import OURS_ALONE, RunSpec
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.schemas.tuning import EarlyStop, SelectedCheckpoint
from thesis_assets.storage import read_json, sha256_file, sha256_value
from thesis_assets.tuning import training_loop, tuning_run
from thesis_assets.tuning.checkpoints import (
    handed_off,
    kept_steps,
    list_checkpoints,
    load_checkpoint,
    pruned_steps,
    resume_source,
    verify_checkpoint,
)
from thesis_assets.tuning.progress_file import ProgressReader, read_curves
from thesis_assets.tuning.refine import load_refiner
from thesis_assets.tuning.run_config import LATER, TrainerFlags, hyperparameters
from thesis_assets.tuning.run_record import prune
from thesis_assets.tuning.scoring import from_data_json, score_samples
from thesis_assets.tuning.selection import select_checkpoint
from thesis_assets.tuning.trainer_start import Reported, pretrained_start, resolve_flags
from thesis_assets.tuning.triplets import SampleOrder, Triplet, read_data_json
from thesis_assets.tuning.tuning_run import tune
from thesis_assets_tests.tuning.snapshots import (
    SPLIT,
    arguments,
    equal,
    make_run,
    same_state,
    stopping_at,
    train,
    train_run,
    write_snapshot,
)

EIGHT = {"max_train_steps": 8, "checkpointing_steps": 4, "eval_freq": 4}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DifixTree:
    return write_snapshot(tmp_path_factory.mktemp("snapshot"))


def stopped_and_resumed(tree: DifixTree, run_name: str, step: int, *switches: str, **flags: Any) -> TuningRunTree:
    with pytest.MonkeyPatch.context() as patch:
        stopping_at(patch, step)
        assert train([*arguments(tree, run_name, **flags), *switches]) == 0
    torch.manual_seed(1)  # another process's state
    assert train([*arguments(tree, run_name, **flags), *switches]) == 0
    return tree.tuning_run(run_name)


# --- older runs ------------------------------------------------------------------------------------------------------


def test_keys_that_came_later_change_no_digest_until_they_are_set() -> None:
    flags = TrainerFlags("/d.json", "/r", "r")
    then = {name: value for name, value in flags.hyperparameters().items() if name not in LATER}
    assert flags.hyperparameter_digest() == sha256_value(hyperparameters(then)) == sha256_value(then)
    assert flags.hyperparameter_digest() != replace(flags, mirror=False).hyperparameter_digest()
    assert replace(flags, crop=64).hyperparameter_digest() != replace(flags, crop=32).hyperparameter_digest()


def test_a_run_that_was_begun_without_a_key_goes_on_and_refuses_it_changed(
    tree: DifixTree, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(tree, "older", max_train_steps=10)
    config = tree.tuning_run("older").train_config
    import json

    value = json.loads(config.read_text())
    value["flags"] = {name: each for name, each in value["flags"].items() if name not in (*LATER, "keep_last")}
    config.write_text(json.dumps(value))
    flags = arguments(tree, "older", max_train_steps=10, checkpointing_steps=10, num_processes=1)
    assert train(flags) == 0
    assert train([*flags, "--crop", "16"]) == 1
    assert "found: crop: 0" in capsys.readouterr().err


def test_a_record_without_the_keys_is_stale_for_a_change_alone(tmp_path: Path) -> None:
    import json

    from thesis_assets.provenance import Contents
    from thesis_assets.tuning.run_record import checkpoint_unit

    tree = write_snapshot(tmp_path)
    tune(tree, "r", make_run(resolution=16), split=SPLIT, device="cpu", launcher=LocalLauncher())
    record = tree.tuning_run("r").made_from("tuned_checkpoint")
    value = json.loads(record.read_text())
    options = value["options"]["runs"]["r"]
    value["options"]["runs"]["r"] = {name: one for name, one in options.items() if name not in OURS_ALONE}
    value["identity"] = sha256_value(
        [value["step"], value["code_version"], value["options"], value["tools"], value["inputs"]]
    )
    record.write_text(json.dumps(value))

    def reasons(**changes: Any) -> str:
        run = make_run(**{"resolution": 16, **changes})
        return checkpoint_unit(tree, "r", run).look(Contents()).in_words

    for same in ({}, {"mirror": True}, {"ema_decay": 0.0}, {"resolution": "auto"}, {"keep_last": 2}):
        assert reasons(**same).startswith("made"), same
    assert "crop" in reasons(crop=16)
    assert "mirror" in reasons(mirror=False)


# --- which samples are shown, and how much of each -------------------------------------------------------------------


def test_without_mirroring_the_same_samples_come_in_the_same_order() -> None:
    with_it, without = ([SampleOrder(50, 1, mirror).draw(i) for i in range(50)] for mirror in (True, False))
    assert [draw.index for draw in with_it] == [draw.index for draw in without]
    assert any(draw.mirrored for draw in with_it)
    assert not any(draw.mirrored for draw in without)


def test_a_window_is_the_same_of_all_three_images_and_reaches_every_edge() -> None:
    image = torch.arange(3 * 48 * 70).reshape(3, 48, 70)
    whole = Triplet("s", image, image + 1, image + 2)
    for top, left in ((0.0, 0.0), (0.999999, 0.999999), (0.4, 0.7)):
        cut = whole.window(32, top, left)
        assert cut.render.shape == (3, 32, 32)
        assert torch.equal(cut.render + 1, cut.target)
        assert torch.equal(cut.render + 2, cut.reference)
    assert whole.window(32, 0.0, 0.0).render[0, 0, 0] == image[0, 0, 0]
    assert whole.window(32, 0.999999, 0.999999).render[2, -1, -1] == image[2, -1, -1]
    assert whole.window(64, 0.5, 0.5).render.shape == (3, 48, 64)


def test_a_run_on_windows_sees_other_windows_each_epoch_and_resumes_to_the_bit(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: set[tuple[int, ...]] = set()
    seen: dict[str, set[bytes]] = {}
    losses = training_loop.TrainingStep._losses

    def noting(self: Any, micro_batch: Any, step: int) -> Any:
        for batch in micro_batch:
            shapes.add(tuple(batch.renders.shape))
            for name, render in zip(batch.sample_ids, batch.renders, strict=True):
                seen.setdefault(name, set()).add(render.numpy().tobytes())
        return losses(self, micro_batch, step)

    flags = [*arguments(tree, "windows", **EIGHT, crop=16, resolution=32), "--no-mirror"]
    with monkeypatch.context() as patch:
        patch.setattr(training_loop.TrainingStep, "_losses", noting)
        assert train(flags) == 0
    assert shapes == {(2, 3, 16, 16)}
    # Two epochs: each sample is seen twice, by a window of its own each time.
    assert [len(windows) for windows in seen.values()] == [2] * 8
    assert same_state(
        tree.tuning_run("windows"), stopped_and_resumed(tree, "windows2", 6, "--no-mirror", **EIGHT, crop=16), 8
    )
    assert load_refiner(tree.tuning_run("windows").checkpoint(8)).resolution == 32


# --- averaged weights ------------------------------------------------------------------------------------------------


def test_averaged_weights_are_their_formula_evaluated_chosen_and_handed_off(tree: DifixTree) -> None:
    flags = {"max_train_steps": 6, "checkpointing_steps": 1, "eval_freq": 3, "num_processes": 1, "ema_decay": 0.6}
    train_run(tree, "averaged", **flags)
    run = tree.tuning_run("averaged")
    torch.manual_seed(42)
    from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner

    mean = {name: value.double() for name, value in TinyRefiner(TinyArchitecture()).state_dict().items()}
    for step in range(1, 7):
        weights = load_checkpoint(run.checkpoint(step))["state_dict_unet"]
        decay = min(0.6, (1 + step) / (10 + step))
        mean = {name: decay * value + (1 - decay) * weights[name].double() for name, value in mean.items()}
    there = load_checkpoint(run.averaged.checkpoint(6))
    assert there["ema_decay"] == 0.6
    for name, value in there["state_dict_unet"].items():
        assert torch.allclose(value.double(), mean[name], atol=1e-6), name

    rows = {row["sample_id"]: row["psnr_refined"] for row in csv.DictReader(run.eval_metrics(6).open())}
    samples = from_data_json(tree.data_json, read_data_json(tree.data_json).test)
    for score in score_samples({6: load_refiner(run.averaged.checkpoint(6))}, samples)[6]:
        assert rows[score.sample_id] == f"{score.psnr_refined:.6f}"

    asked = make_run(max_train_steps=6, checkpointing_steps=1, selection={"rule": "best_psnr"})
    selected = select_checkpoint(tree, "averaged", asked, evaluation_groups={"studio/pair03"}, device="cpu")
    assert selected.weights == "averaged"
    assert selected.path == str(run.averaged.checkpoint(selected.step).absolute())
    assert selected.sha256 == sha256_file(run.averaged.checkpoint(selected.step))
    overrides = run.pipeline_overrides.read_text()
    assert "averaged weights (EMA)" in overrides
    assert selected.path in overrides
    # The published trainer goes on from any `.pkl` of `checkpoints/`: the averaged ones are not among them.
    assert resume_source(str(run.checkpoints_dir), "tiny").path == run.checkpoint(6)  # type: ignore[union-attr]


def test_averaged_weights_are_what_an_evaluation_and_a_later_run_take(tree: DifixTree) -> None:
    from types import SimpleNamespace

    from thesis_assets.evaluation.refined_predictions import Refinement
    from thesis_assets.tuning.take_pretrained import find_source

    assert train(arguments(tree, "taken", **EIGHT, ema_decay=0.5)) == 0
    run = tree.tuning_run("taken")
    assert handed_off(run, 8) == run.averaged
    refiner = Refinement(SimpleNamespace(tuning_run=run, device="cpu"), 8).refiner  # type: ignore[arg-type]
    render, reference = torch.rand(2, 1, 3, 32, 32)
    refined = refiner.refine(render, reference)
    assert torch.equal(refined, load_refiner(run.averaged.checkpoint(8)).refine(render, reference))
    assert not torch.equal(refined, load_refiner(run.checkpoint(8)).refine(render, reference))
    assert find_source(str(run.base)).checkpoint == run.averaged.checkpoint(8)


def test_a_run_without_averages_says_that_its_weights_are_as_trained(tree: DifixTree) -> None:
    train_run(tree, "plain", max_train_steps=10)
    run = tree.tuning_run("plain")
    assert not run.averaged.checkpoints_dir.exists()
    select_checkpoint(
        tree, "plain", make_run(max_train_steps=10, checkpointing_steps=10), evaluation_groups=set(), device="cpu"
    )
    assert read_json(run.selected_checkpoint, SelectedCheckpoint).weights == "trained"
    assert "weights as trained" in run.pipeline_overrides.read_text()


def test_averages_go_on_to_the_bit_and_change_nothing_of_the_training(tree: DifixTree) -> None:
    assert train(arguments(tree, "ema", **EIGHT, ema_decay=0.9)) == 0
    assert train(arguments(tree, "no_ema", **EIGHT)) == 0
    halves = stopped_and_resumed(tree, "ema_halves", 6, **EIGHT, ema_decay=0.9)
    whole = tree.tuning_run("ema")
    assert same_state(whole.averaged, halves.averaged, 8)
    assert same_state(whole, halves, 8)
    assert same_state(whole, tree.tuning_run("no_ema"), 8)


def test_a_checkpoint_without_its_averages_is_passed_over(tree: DifixTree) -> None:
    assert train(arguments(tree, "lost_average", **EIGHT, ema_decay=0.9)) == 0
    run = tree.tuning_run("lost_average")
    before = load_checkpoint(run.averaged.checkpoint(8))
    for path in (run.averaged.checkpoint(8), run.eval_metrics(8)):
        path.unlink()
    assert train(arguments(tree, "lost_average", **EIGHT, ema_decay=0.9)) == 0
    assert equal(load_checkpoint(run.averaged.checkpoint(8)), before)


@pytest.mark.parametrize(("crop", "said"), [(16, False), (32, True), (512, True)])
def test_windows_that_are_no_smaller_than_the_images_are_told(tree: DifixTree, crop: int, said: bool) -> None:
    _, notes = resolve_flags(tree, "r", make_run(crop=crop), "cpu")
    assert (f"crop = {crop}: no effect, the images are 32x32 and shown whole" in notes) == said


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_checkpoints_of_weights_alone_are_small_and_the_run_resumes_to_the_bit(tree: DifixTree) -> None:
    assert train(arguments(tree, "full", **EIGHT)) == 0
    light = stopped_and_resumed(tree, "light", 6, "--no-save_optimizer", **EIGHT)
    assert list_checkpoints(light) == [4, 6, 8]
    assert list_checkpoints(light.resume) == [8]
    assert same_state(tree.tuning_run("full"), light.resume, 8)
    assert light.checkpoint(8).stat().st_size < 0.4 * tree.tuning_run("full").checkpoint(8).stat().st_size
    assert load_refiner(light.checkpoint(4)).step == 4
    with pytest.raises(InvalidFile, match="without the optimizer's state"):
        resume_source(str(light.checkpoint(8)), "tiny")


def test_a_run_of_weights_alone_whose_state_is_damaged_does_not_begin_anew(
    tree: DifixTree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*arguments(tree, "torn", **EIGHT), "--no-save_optimizer"]
    with monkeypatch.context() as patch:
        stopping_at(patch, 6)
        assert train(flags) == 0
    tree.tuning_run("torn").resume.checkpoint(6).write_bytes(b"torn")
    assert train(flags) == 1
    assert "hold weights alone" in capsys.readouterr().err


@pytest.mark.parametrize("stop_at", [6, 8])
def test_weights_that_were_damaged_beside_their_whole_state_are_written_again(
    tree: DifixTree, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"mended_{stop_at}"
    flags, run = [*arguments(tree, name, **EIGHT), "--no-save_optimizer"], tree.tuning_run(name)
    with monkeypatch.context() as patch:
        if stop_at < 8:
            stopping_at(patch, stop_at)
        assert train(flags) == 0
    before = run.checkpoint(stop_at).read_bytes()
    run.checkpoint(stop_at).write_bytes(before[:-9])
    assert train(flags) == 0
    assert run.checkpoint(stop_at).read_bytes() == before
    assert verify_checkpoint(run, 8).step == 8
    assert f"model_{stop_at}.pkl was written again" in run.progress.read_text()


def begun_with_weights_alone(tree: DifixTree, run_name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stopped at the sixth of eight steps. Returns its flags with whole checkpoints from then on."""
    flags = arguments(tree, run_name, **EIGHT)
    with monkeypatch.context() as patch:
        stopping_at(patch, 6)
        assert train([*flags, "--no-save_optimizer"]) == 0
    return flags


def test_weights_alone_are_not_trained_over_where_checkpoints_are_whole_from_now_on(
    tree: DifixTree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, run = begun_with_weights_alone(tree, "whole_now", monkeypatch), tree.tuning_run("whole_now")
    before = {step: run.checkpoint(step).read_bytes() for step in list_checkpoints(run)}
    run.resume.checkpoint(6).write_bytes(b"torn")
    assert train(flags) == 1
    assert "hold weights alone" in capsys.readouterr().err
    assert {step: run.checkpoint(step).read_bytes() for step in list_checkpoints(run)} == before


def test_the_state_beside_weights_goes_once_a_checkpoint_is_whole(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, run = begun_with_weights_alone(tree, "state_goes", monkeypatch), tree.tuning_run("state_goes")
    assert list_checkpoints(run.resume) == [6]
    assert train(flags) == 0
    assert list_checkpoints(run.resume) == []
    assert not run.resume.checkpoint(6).exists()
    assert resume_source(str(run.checkpoint(8)), "tiny") is not None
    assert train(arguments(tree, "never_stopped", **EIGHT)) == 0
    assert same_state(tree.tuning_run("never_stopped"), run, 8)


def test_the_state_of_a_run_of_weights_alone_is_gone_on_from_with_its_average(tree: DifixTree) -> None:
    assert train([*arguments(tree, "averaged_light", **EIGHT, ema_decay=0.9), "--no-save_optimizer"]) == 0
    there = tree.tuning_run("averaged_light")
    longer = {**EIGHT, "max_train_steps": 10, "ema_decay": 0.9}
    assert train(arguments(tree, "from_its_state", **longer, resume=there.resume.checkpoints_dir)) == 0
    assert "begins anew" not in tree.tuning_run("from_its_state").progress.read_text()


def test_of_a_run_only_the_last_checkpoints_stay_and_those_of_evaluation_epochs(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    run = make_run(max_train_steps=6, checkpointing_steps=1, keep_last=2, ema_decay=0.9)
    result = tune(
        tree, "few", run, split=SPLIT, device="cpu", launcher=LocalLauncher(), reported=Reported(steps=(3, 6))
    )
    there = tree.tuning_run("few")
    assert result.steps == [3, 5, 6]
    assert [list_checkpoints(where) for where in (there, there.averaged)] == [[3, 5, 6], [3, 5, 6]]
    assert pruned_steps(there) == dict.fromkeys((1, 2, 4), "by keep_last: 2")
    with pytest.raises(InvalidFile, match="keep_last: 2"):
        verify_checkpoint(there, 4)
    # Asked for once more, nothing is missed.
    assert tune(tree, "few", run, split=SPLIT, device="cpu", launcher=LocalLauncher()).steps == [3, 5, 6]


def test_pruning_takes_averages_and_what_a_finished_run_would_go_on_from(tree: DifixTree) -> None:
    train_run(tree, "pruned", max_train_steps=20, ema_decay=0.5, eval_freq=20)
    run = tree.tuning_run("pruned")
    run.resume.checkpoints_dir.mkdir()
    plan = prune(tree, "pruned", make_run(max_train_steps=20, checkpointing_steps=10), epoch_steps={0: None, 15: 20})
    assert [planned.step for planned in plan if not planned.kept_for] == [10]
    assert plan[0].bytes > run.checkpoint(20).stat().st_size
    assert [list_checkpoints(where) for where in (run, run.averaged)] == [[20], [20]]
    assert not run.resume.checkpoints_dir.exists()


def test_few_kept_checkpoints_and_a_rule_that_scores_all_are_refused() -> None:
    with pytest.raises(ValueError, match="every checkpoint is a candidate"):
        make_run(keep_last=2, selection={"rule": "best_psnr"})


@pytest.mark.parametrize("name", OURS_ALONE)
def test_a_key_of_our_trainers_is_refused_for_the_users_own_script(name: str) -> None:
    value = {"mirror": False, "save_optimizer": False, "channels_last": True, "ema_decay": 0.9}.get(name, 16)
    with pytest.raises(ValueError, match=f"`{name}` is the platform's own"):
        RunSpec.model_validate({"backend": "external", "external": {"script": "s.py"}, name: value})


# --- ending early ----------------------------------------------------------------------------------------------------


def test_a_run_ends_when_no_evaluation_is_better_for_long_enough(tmp_path: Path) -> None:
    """A learning rate of nought: the first evaluation is never surpassed."""
    tree = write_snapshot(tmp_path)
    run = make_run(max_train_steps=40, checkpointing_steps=10, eval_freq=2, patience=2, learning_rate=0.0)
    asked = {"split": SPLIT, "device": "cpu", "launcher": LocalLauncher()}
    reported = Reported(groups=frozenset({"studio/pair03"}))
    result = tune(tree, "early", run, reported=reported, **asked)  # type: ignore[arg-type]
    there = tree.tuning_run("early")
    assert result.steps == list_checkpoints(there) == kept_steps(there, run.saved_steps()) == [6]
    stop = read_json(there.early_stop, EarlyStop)
    assert (stop.step, stop.best_step, stop.patience) == (6, 2, 2)
    lines = list(ProgressReader(there.progress).new_lines())
    assert "no evaluation was better for 2 in a row" in lines[-1].message
    assert "of studio/pair02" in next(line.message for line in lines if line.event == "eval")
    # It is finished: asked for again nothing is trained, and its last checkpoint is the one that it ended with.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning_run, "run_job", lambda *_, **__: pytest.fail("a job was started"))
        assert tune(tree, "early", run, reported=reported, **asked).steps == [6]  # type: ignore[arg-type]
    assert select_checkpoint(tree, "early", run, evaluation_groups=set(), device="cpu").step == 6


def test_a_run_that_was_stopped_while_it_waited_ends_where_it_would_have(tree: DifixTree) -> None:
    flags = {
        "max_train_steps": 40, "checkpointing_steps": 10, "eval_freq": 2, "patience": 2,
        "learning_rate": 0, "validation_groups": "studio/pair02",
    }  # fmt: skip
    there = stopped_and_resumed(tree, "waited", 5, **flags)
    assert list_checkpoints(there) == [5, 6]
    assert train(arguments(tree, "waited", **flags)) == 0
    assert list_checkpoints(there) == [5, 6]


def test_a_run_is_not_ended_by_the_people_one_reports_on(tree: DifixTree, capsys: pytest.CaptureFixture[str]) -> None:
    everyone = Reported(groups=frozenset({"studio/pair02", "studio/pair03"}))
    with pytest.raises(InvalidExperiment, match="there are none"):
        resolve_flags(tree, "r", make_run(patience=2), "cpu", reported=everyone)
    assert train(arguments(tree, "nobody", patience=2)) == 1
    assert "validation groups, and there are none" in capsys.readouterr().err


def test_an_evaluation_on_reported_people_says_that_nothing_may_be_chosen_by_it(tree: DifixTree) -> None:
    assert train(arguments(tree, "marked")) == 0
    lines = [line for line in ProgressReader(tree.tuning_run("marked").progress).new_lines() if line.event == "eval"]
    assert all("reported people; nothing may be chosen by it" in line.message for line in lines)


# --- curves ----------------------------------------------------------------------------------------------------------


def test_the_peak_of_memory_is_the_trainers_own_and_not_that_of_whoever_started_it() -> None:
    program = "import torch\nfrom thesis_assets.tuning.training_loop import peak_memory\nprint(peak_memory(torch.device('cpu')))"
    large = np.ones(1_000_000_000, np.uint8)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 1e8 < float(done.stdout) < large.nbytes


def test_gradient_norm_skipped_steps_and_memory_are_curves_and_columns(tree: DifixTree) -> None:
    assert train(arguments(tree, "curves", max_grad_norm=0)) == 0
    run = tree.tuning_run("curves")
    curves = read_curves(run.progress)
    for name in ("gradient_norm", "skipped_steps", "peak_memory_gb"):
        assert len(curves[name]) == 6, name
    assert all(value > 0 for value in (*curves["gradient_norm"], *curves["peak_memory_gb"]))
    rows = list(csv.DictReader(run.curves.open()))
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    assert float(rows[3]["gradient_norm"]) == pytest.approx(curves["gradient_norm"][3])
    assert [bool(row["psnr_refined"]) for row in rows] == [False, False, True, False, False, True]


# --- memory and speed ------------------------------------------------------------------------------------------------


def test_another_layout_in_memory_gives_the_same_training(tree: DifixTree) -> None:
    assert train(arguments(tree, "rows", **EIGHT)) == 0
    assert train([*arguments(tree, "channels", **EIGHT), "--channels_last"]) == 0
    losses = [read_curves(tree.tuning_run(name).progress)["loss"] for name in ("rows", "channels")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    halves = stopped_and_resumed(tree, "channels_halves", 6, "--channels_last", **EIGHT)
    assert same_state(tree.tuning_run("channels"), halves, 8)
    weights = load_checkpoint(tree.tuning_run("channels").checkpoint(8))["state_dict_unet"]
    assert weights["encode_eighth.conv_in.weight"].is_contiguous(memory_format=torch.channels_last)


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_a_run_refines_at_the_size_that_is_evaluated_unless_it_was_begun_otherwise(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path, size=100)
    asked = {"resolution": "auto"}

    def side(run_name: str = "new", factor: int = 2, **changes: Any) -> int:
        run = tuning_run.kept_run(tree.tuning_run(run_name), make_run(**asked, **changes))
        return resolve_flags(tree, run_name, run, "cpu", reported=Reported(downscale_factor=factor))[0].resolution

    assert side() == 64  # 50, and never below it
    assert side(factor=1) == 112
    assert side(crop=32) == 112  # windows are of full resolution, and so is what refines
    train_run(tree, "begun", resolution=32)
    assert side("begun") == 32
    assert "resolution" not in make_run(**asked).model_fields_set
    with pytest.raises(ValueError, match="resolution"):
        RunSpec.model_validate({"resolution": "big"})


def test_published_weights_are_refined_at_what_they_were_trained_at(tree: DifixTree, tmp_path: Path) -> None:
    from thesis_assets.storage import write_json
    from thesis_assets_tests.tuning.snapshots import make_config_file

    def side(model: Path, **changes: Any) -> object:
        run = RunSpec.model_validate({"backend": "pretrained", "model": str(model), **changes})
        return pretrained_start(tree, "p", run, "cpu").flags.values()["resolution"]

    bare = tmp_path / "published.pkl"
    bare.write_bytes(b"x")
    assert side(bare) is None  # as all published weights: 1024
    assert side(bare, resolution=576) == 576
    there = TuningRunTree(tmp_path / "run")
    there.checkpoints_dir.mkdir(parents=True)
    there.checkpoint(1).write_bytes(b"x")
    write_json(there.train_config, make_config_file({"resolution": 320}))
    assert side(there.checkpoint(1)) == 320


def test_a_kill_within_the_first_save_of_weights_alone_leaves_a_run_that_begins(
    tree: DifixTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*arguments(tree, "first_save", **EIGHT), "--no-save_optimizer"]
    with monkeypatch.context() as patch:
        stopping_at(patch, 2)
        assert train(flags) == 0
    shutil.rmtree(tree.tuning_run("first_save").resume.checkpoints_dir)  # as a kill between the two files leaves it
    (step,) = list_checkpoints(tree.tuning_run("first_save"))
    assert step == 2
    assert train(flags) == 0
    assert same_state(tree.tuning_run("full"), tree.tuning_run("first_save").resume, 8)
