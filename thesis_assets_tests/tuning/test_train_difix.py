"""The difix backend from its program to a checkpoint in use, on a base model of random weights: trained, resumed, chosen, applied."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.schemas.tuning import TrainConfig
from thesis_assets.storage import read_json
from thesis_assets.tuning.backends import DIFIX
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS, list_checkpoints, load_checkpoint, verify_checkpoint
from thesis_assets.tuning.progress_file import ProgressReader, read_curves
from thesis_assets.tuning.refine import load_refiner
from thesis_assets.tuning.trainer_program import main
from thesis_assets_tests.images.lpips_weights import write_lpips_weights
from thesis_assets_tests.tuning.difix_models import write_sd_turbo
from thesis_assets_tests.tuning.snapshots import SPLIT, arguments, make_run, same_state, write_snapshot


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a base model in `sd-turbo` and the files of LPIPS in `lpips`."""
    home = tmp_path_factory.mktemp("home")
    write_sd_turbo(home / "sd-turbo")
    write_lpips_weights(home / "lpips")
    return home


@pytest.fixture(scope="module")
def tree(home: Path) -> DifixTree:
    return write_snapshot(home / "data")


def train(tree: DifixTree, run_name: str, *switches: str, **changes: Any) -> int:
    home = tree.base.parents[1]
    flags = {
        "pretrained_model_name_or_path": home / "sd-turbo",
        "lpips_weights": home / "lpips",
        "gram_loss_warmup_steps": 4,
        "num_samples_eval": 3,
        "learning_rate": 2e-3,
        **changes,
    }
    return main([*arguments(tree, run_name, **flags), "--mv_unet", *switches], DIFIX)


@pytest.fixture(scope="module")
def trained(tree: DifixTree) -> DifixTree:
    """With the run `whole`: six steps, saved and evaluated at the third and the last."""
    assert train(tree, "whole") == 0
    return tree


def start_line(tree: DifixTree, run_name: str) -> str:
    return next(iter(ProgressReader(tree.tuning_run(run_name).progress).new_lines())).message


def test_a_run_leaves_checkpoints_with_the_published_keys_curves_and_evaluations(trained: DifixTree) -> None:
    run = trained.tuning_run("whole")
    assert list_checkpoints(run) == [3, 6]
    state = load_checkpoint(run.checkpoint(6))
    assert set(PUBLISHED_KEYS) | {"timestep", "mv_unet", "prompt", "base_model", "resolution", "step"} <= set(state)
    assert (state["timestep"], state["mv_unet"], state["prompt"]) == (199, True, "remove degradation")
    curves = read_curves(run.progress)
    assert {"loss_l2", "loss_lpips", "loss_gram", "psnr_refined"} <= set(curves)
    assert [value > 0 for value in curves["loss_gram"]] == [False] * 4 + [True] * 2
    assert run.eval_contact_sheet(6).read_bytes().startswith(b"\x89PNG")


def test_what_the_trainer_scored_is_what_its_checkpoint_makes(trained: DifixTree) -> None:
    from thesis_assets.tuning.scoring import from_data_json, score_samples
    from thesis_assets.tuning.triplets import read_data_json

    run = trained.tuning_run("whole")
    rows = {row["sample_id"]: row for row in csv.DictReader(run.eval_metrics(6).open())}
    samples = from_data_json(trained.data_json, read_data_json(trained.data_json).test)
    scored = [sample for sample in samples if sample.sample_id in rows]
    assert len(scored) == 3
    for score in score_samples({6: load_refiner(run.checkpoint(6))}, scored)[6]:
        assert rows[score.sample_id]["psnr_refined"] == f"{score.psnr_refined:.6f}"


def test_three_steps_and_three_more_equal_six_to_the_bit(trained: DifixTree) -> None:
    whole, halves = trained.tuning_run("whole"), trained.tuning_run("halves")
    shutil.copytree(whole.base, halves.base)
    for path in (halves.checkpoint(6), halves.checkpoint_info(6), halves.eval_metrics(6)):
        path.unlink()
    torch.manual_seed(1)  # another process's state
    assert train(trained, "halves") == 0
    assert same_state(whole, halves, 6)
    assert whole.eval_metrics(6).read_bytes() == halves.eval_metrics(6).read_bytes()


def test_a_run_does_not_go_on_from_a_base_model_that_changed(
    trained: DifixTree, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.tuning_run("whole").base, trained.tuning_run("changed").base)
    merges = home / "sd-turbo" / "tokenizer" / "merges.txt"
    before = merges.read_bytes()
    try:
        merges.write_bytes(b"#version: 0.3\n")
        assert train(trained, "changed") == 1
    finally:
        merges.write_bytes(before)
    assert "not the one that the checkpoint was trained on" in capsys.readouterr().err


def test_the_loss_falls_and_only_what_is_tuned_has_changed(trained: DifixTree, home: Path) -> None:
    from thesis_assets.tuning.difix.network import load_difix

    changes = {"max_train_steps": 30, "checkpointing_steps": 30, "eval_freq": 30, "lambda_lpips": 0, "lambda_gram": 0}
    assert train(trained, "longer", **changes) == 0
    losses = read_curves(trained.tuning_run("longer").progress)["loss"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    tuned = load_refiner(trained.tuning_run("longer").checkpoint(30)).network  # type: ignore[attr-defined]
    base = load_difix(home / "sd-turbo")
    before, after = base.state_dict(), tuned.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("unet.") for name in changed)
    assert {"vae.decoder.skip_conv_1.base_layer.weight", "vae.decoder.conv_out.lora_B.vae_skip.weight"} <= changed
    assert not [name for name in changed if name.startswith("vae.") and "lora" not in name and "skip" not in name]


@pytest.fixture
def any_precision() -> Iterator[None]:
    """accelerate knows one precision a process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("any_precision")
def test_half_precision_and_saved_memory_leave_the_weights_in_full_precision(tree: DifixTree) -> None:
    small = {"max_train_steps": 2, "eval_freq": 9, "num_samples_eval": 1, "train_batch_size": 1}
    # Not 32: torch's bfloat16 gradient of a strided convolution over a single place is at times unwritten memory on a CPU.
    small["resolution"] = 64
    assert train(tree, "half", "--gradient_checkpointing", mixed_precision="bf16", prompt="sharpen", **small) == 0
    state = load_checkpoint(tree.tuning_run("half").checkpoint(2))
    weights = [*state["state_dict_unet"].values(), *state["state_dict_vae"].values()]
    weights += [one for moments in state["optimizer"]["state"].values() for one in moments.values()]
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert state["prompt"] == "sharpen"


def test_adapters_of_the_unet_are_tuned_alone_resume_to_the_bit_and_are_in_the_published_weights(
    trained: DifixTree, home: Path
) -> None:
    from thesis_assets.tuning.difix.network import load_difix

    assert train(trained, "lora", lora_rank_unet=2, ema_decay=0.5) == 0
    whole, halves = trained.tuning_run("lora"), trained.tuning_run("lora_halves")
    shutil.copytree(whole.base, halves.base)
    for path in (halves.checkpoint(6), halves.checkpoint_info(6), halves.eval_metrics(6)):
        path.unlink()
    torch.manual_seed(1)
    assert train(trained, "lora_halves", lora_rank_unet=2, ema_decay=0.5) == 0
    assert same_state(whole, halves, 6)
    assert same_state(whole.averaged, halves.averaged, 6)

    state, base = load_checkpoint(whole.checkpoint(6)), load_difix(home / "sd-turbo").unet.state_dict()
    assert set(state["state_dict_unet"]) == set(base)
    changed = {name for name, weight in base.items() if not torch.equal(weight, state["state_dict_unet"][name])}
    assert changed
    assert all(".to_" in name for name in changed)
    # Whoever knows the published keys alone refines as the run did: the averaged weights, which it was evaluated by.
    rows = {row["sample_id"]: row["psnr_refined"] for row in csv.DictReader(whole.eval_metrics(6).open())}
    from thesis_assets.tuning.scoring import from_data_json, score_samples
    from thesis_assets.tuning.triplets import read_data_json

    averaged = load_checkpoint(whole.averaged.checkpoint(6))
    assert set(PUBLISHED_KEYS) <= set(averaged)
    assert averaged["optimizer"]["state"] == {}
    samples = from_data_json(trained.data_json, read_data_json(trained.data_json).test)
    scored = [sample for sample in samples if sample.sample_id in rows]
    for score in score_samples({6: load_refiner(whole.averaged.checkpoint(6))}, scored)[6]:
        assert float(rows[score.sample_id]) == pytest.approx(score.psnr_refined, abs=0.05)


def test_adapters_do_not_go_on_from_a_unet_that_was_tuned_whole(
    trained: DifixTree, capsys: pytest.CaptureFixture[str]
) -> None:
    there = trained.tuning_run("whole").checkpoint(3)
    assert train(trained, "mixed", lora_rank_unet=2, resume=there) == 1
    assert "its U-Net was tuned whole" in capsys.readouterr().err


def test_evaluations_of_a_run_have_lpips_where_its_weights_are(trained: DifixTree) -> None:
    rows = list(csv.DictReader(trained.tuning_run("whole").eval_metrics(6).open()))
    assert all(float(row["lpips_refined"]) > 0 for row in rows)
    assert read_curves(trained.tuning_run("whole").progress)["lpips_refined"][-1] > 0


def test_a_published_directory_is_trained_on_from(tree: DifixTree, trained: DifixTree, home: Path) -> None:
    from thesis_assets.tuning.difix.checkpoint import to_directory

    source = trained.tuning_run("whole").checkpoint(6)
    directory = to_directory(source, home / "converted")
    still = {"max_train_steps": 1, "eval_freq": 9, "learning_rate": 0, "num_samples_eval": 1}
    assert train(tree, "onward", pretrained_model_name_or_path=directory, **still) == 0
    there, here = load_checkpoint(source), load_checkpoint(tree.tuning_run("onward").checkpoint(1))
    for key in ("state_dict_unet", "state_dict_vae"):
        assert all(torch.equal(there[key][name], here[key][name]) for name in there[key])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pretrained_model_name_or_path": "/nowhere/sd-turbo"}, "neither a directory nor a Hub id"),
        ({"lpips_weights": "/nowhere/lpips"}, "lambda_lpips: 0 and lambda_gram: 0"),
        ({"timestep": 1000}, "key: --timestep\n  found: 1000"),
    ],
)
def test_what_cannot_be_trained_is_told_by_the_program(
    tree: DifixTree, changes: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_name = f"refused-{next(iter(changes))}"
    assert train(tree, run_name, **changes) == 1
    assert told in capsys.readouterr().err
    assert not tree.tuning_run(run_name).checkpoints_dir.exists()


def test_a_run_without_its_loss_or_model_is_refused_before_anything_is_frozen(home: Path, tmp_path: Path) -> None:
    from thesis_assets.launch.local_jobs import LocalLauncher
    from thesis_assets.tuning.tuning_run import tune

    tree = write_snapshot(tmp_path)
    for model, lpips, told in ((home / "sd-turbo", tmp_path, "vgg16"), (tmp_path / "a/b/c", home / "lpips", "Hub id")):
        run = make_run(backend="difix", model=str(model))
        with pytest.raises(InvalidFile, match=told):
            tune(tree, "r", run, split=SPLIT, device="cpu", launcher=LocalLauncher(), lpips_weights=lpips)
    assert not tree.frozen.exists()
    assert not tree.tuning_run("r").base.exists()


def test_a_run_of_the_experiment_is_trained_chosen_and_applied(home: Path, tmp_path: Path) -> None:
    """From the experiment's `runs` to refined files, by the functions that the graph's assets call."""
    from PIL import Image

    from thesis_assets.launch.local_jobs import LocalLauncher
    from thesis_assets.tuning import run_checks
    from thesis_assets.tuning.refine import refine_file
    from thesis_assets.tuning.selection import select_checkpoint
    from thesis_assets.tuning.tuning_run import tune

    tree = write_snapshot(tmp_path / "data")
    changes = {"max_train_steps": 2, "checkpointing_steps": 1, "eval_freq": 2, "resolution": 32, "learning_rate": 1e-3}
    run = make_run(backend="difix", model=str(home / "sd-turbo"), selection={"rule": "best_psnr"}, **changes)
    lpips = home / "lpips"
    result = tune(tree, "d", run, split=SPLIT, device="cpu", launcher=LocalLauncher(), lpips_weights=lpips)
    assert result.steps == [1, 2]
    assert result.contact_sheet is not None
    run_tree = tree.tuning_run("d")
    config = read_json(run_tree.train_config, TrainConfig)
    assert (config.backend, config.flags["timestep"], config.flags["mv_unet"]) == ("difix", 199, True)
    assert {"diffusers", "transformers", "peft"} <= set(config.versions)
    assert any("digest" in note and "base model" in note for note in config.notes)
    assert any("VGG16" in note for note in config.notes)
    for check in (
        run_checks.checkpoint_loads,
        run_checks.checkpoint_belongs_to_data,
        run_checks.loss_is_finite,
        run_checks.train_config_complete,
    ):
        outcome = check(tree, "d")
        assert outcome.passed, outcome
    selected = select_checkpoint(tree, "d", run, evaluation_groups={"studio/pair03"}, device="cpu", lpips_weights=lpips)
    assert {score.step for score in selected.scores} == {1, 2}
    assert all(score.lpips is not None for score in selected.scores)
    assert "checkpoint convert" in run_tree.pipeline_overrides.read_text()
    sample = sorted(tree.samples_dir.iterdir())[0]
    out = tmp_path / "refined.png"
    refine_file(Path(selected.path), sample / "image.png", sample / "ref_image.jpg", out)
    with Image.open(out) as refined, Image.open(sample / "image.png") as render:
        assert refined.size == render.size
    assert verify_checkpoint(run_tree, selected.step).sha256 == selected.sha256


def test_a_scene_is_evaluated_with_a_difix_checkpoint(home: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from thesis_assets.tuning.checkpoints import save_checkpoint
    from thesis_assets.tuning.difix.checkpoint import state_of_model
    from thesis_assets_tests.evaluation.tiny_cell import FRAMES, make_cell, predicted_epoch

    cell = make_cell(tmp_path)
    state = {**state_of_model(home / "sd-turbo", resolution=48), "step": 20}
    save_checkpoint(cell.tuning_run, state, metrics={}, data_json_sha256="0" * 64, hyperparameter_digest="0" * 64)
    predicted_epoch(cell, 30)
    render = np.asarray(Image.open(cell.scene.tree.render(28, FRAMES[1])))
    refined = np.asarray(Image.open(cell.tree.task(30, "nvs").input_render(28, FRAMES[1])))
    assert refined.shape == render.shape
    assert np.abs(refined.astype(int) - render).max() > 1
