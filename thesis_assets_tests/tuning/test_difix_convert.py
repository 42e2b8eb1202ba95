"""A checkpoint as a directory of the published layout, which a pipeline of diffusers loads, and the way back."""

import json
from pathlib import Path

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.checkpoint import (
    DifixRefiner,
    fresh_optimizer,
    to_checkpoint,
    to_directory,
    usage,
    weights_to_published,
)
from thesis_assets.tuning.difix.model_folder import find_model
from thesis_assets.tuning.difix.network import load_difix
from thesis_assets.tuning.refine import load_refiner
from thesis_assets_tests.tuning.difix_models import write_sd_turbo
from thesis_assets_tests.tuning.published_pipeline import pipeline_of, refine_by

RENDERS, REFERENCES = torch.rand(2, 1, 3, 48, 48, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_turbo(tmp_path_factory.mktemp("models") / "sd-turbo")


def write_checkpoint(path: Path, base: Path, *, mv_unet: bool = True, timestep: int = 199) -> Path:
    torch.manual_seed(0)
    network = load_difix(base, mv_unet=mv_unet, timestep=timestep)
    with torch.no_grad():
        for _, parameter in network.tuned_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    own = {**usage(network, "sharpen it"), "resolution": 48, "step": 12}
    torch.save({**weights_to_published(network), "optimizer": fresh_optimizer(network), **own}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "model_12.pkl", base)


@pytest.fixture(scope="module")
def directory(checkpoint: Path) -> Path:
    return to_directory(checkpoint, checkpoint.parent / "converted")


def test_a_pipeline_of_diffusers_makes_of_the_directory_what_we_make_of_the_checkpoint(
    checkpoint: Path, directory: Path
) -> None:
    pipeline = pipeline_of(directory)
    wanted = load_refiner(checkpoint).refine(RENDERS, REFERENCES)
    torch.testing.assert_close(refine_by(pipeline, RENDERS, REFERENCES, "sharpen it"), wanted, atol=1e-4, rtol=0)
    other = refine_by(pipeline, RENDERS, RENDERS, "sharpen it")
    assert (other - wanted).abs().max() > 1e-3


def test_the_directory_has_the_published_layout(base: Path, directory: Path) -> None:
    from safetensors import safe_open

    index = json.loads((directory / "model_index.json").read_text())
    assert index["_class_name"] == "DifixPipeline"
    assert index["vae"] == ["autoencoder_kl", "AutoencoderKL"]
    assert index["unet"] == ["unet_2d_condition", "UNet2DConditionModel"]
    assert index["scheduler"] == ["diffusers", "DDPMScheduler"]
    assert {part for part in index if not part.startswith("_") and index[part] == [None, None]} == {
        *("feature_extractor", "image_encoder", "safety_checker")
    }
    config = json.loads((directory / "vae" / "config.json").read_text())
    assert (config["lora_rank"], config["gamma"], config["ignore_skip"]) == (4, 1.0, False)
    with safe_open(directory / "vae" / "diffusion_pytorch_model.safetensors", "pt") as weights:
        names = set(weights.keys())
    for layer in ("decoder.conv_in", "decoder.skip_conv_1", "decoder.mid_block.attentions.0.to_q"):
        assert {
            f"{layer}.base_layer.weight",
            f"{layer}.lora_A.vae_skip.weight",
            f"{layer}.lora_B.vae_skip.weight",
        } <= names
    assert "encoder.conv_in.weight" in names
    with safe_open(directory / "text_encoder" / "model.safetensors", "pt") as weights:
        assert all(name.startswith("text_model.") for name in weights.keys())  # noqa: SIM118 - no mapping
    record = find_model(directory).record()
    assert record is not None
    assert (record.step, record.timestep, record.prompt, record.base_model) == (12, 199, "sharpen it", str(base))


def test_to_a_directory_and_back_nothing_of_the_result_changes(
    checkpoint: Path, directory: Path, tmp_path: Path
) -> None:
    back = to_checkpoint(directory, tmp_path / "model_12.pkl")
    there, here = (torch.load(path, weights_only=True) for path in (checkpoint, back))
    for key in ("state_dict_unet", "state_dict_vae"):
        assert set(there[key]) == set(here[key])
        assert all(torch.equal(there[key][name], here[key][name]) for name in there[key])
    for key in ("rank_vae", "vae_lora_target_modules", "timestep", "mv_unet", "prompt", "resolution", "step"):
        assert there[key] == here[key], key
    assert here["base_model"]["name"] == str(directory)
    assert torch.equal(
        load_refiner(checkpoint).refine(RENDERS, REFERENCES), load_refiner(back).refine(RENDERS, REFERENCES)
    )


def test_a_network_of_single_views_says_so_and_another_timestep_stays(base: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model_12.pkl", base, mv_unet=False, timestep=400)
    directory = to_directory(checkpoint, tmp_path / "out")
    assert json.loads((directory / "model_index.json").read_text())["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert not list((directory / "unet").glob("*.py"))
    refiner = load_refiner(to_checkpoint(directory, tmp_path / "back.pkl"))
    assert isinstance(refiner, DifixRefiner)
    assert (refiner.network.mv_unet, refiner.network.step.timestep) == (False, 400)
    assert torch.equal(refiner.refine(RENDERS, REFERENCES), load_refiner(checkpoint).refine(RENDERS, RENDERS))


def test_a_directory_of_ours_is_replaced_and_anything_else_is_not(checkpoint: Path, tmp_path: Path) -> None:
    out = to_directory(checkpoint, tmp_path / "out")
    (out / "left_over").touch()
    to_directory(checkpoint, out)
    assert not (out / "left_over").exists()
    (tmp_path / "photographs").mkdir()
    with pytest.raises(InvalidFile, match="would be lost"):
        to_directory(checkpoint, tmp_path / "photographs")
    (tmp_path / "model_1.pkl").write_bytes(b"mine")
    with pytest.raises(InvalidFile, match="a file already"):
        to_checkpoint(out, tmp_path / "model_1.pkl")
    assert (tmp_path / "model_1.pkl").read_bytes() == b"mine"


def test_a_checkpoint_of_another_backend_has_no_such_form(tmp_path: Path) -> None:
    from thesis_assets_tests.tuning.test_checkpoints import make_state

    torch.save(make_state(10), tmp_path / "model_10.pkl")
    with pytest.raises(InvalidFile, match="only a DiFix checkpoint"):
        to_directory(tmp_path / "model_10.pkl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_converts_both_ways_and_says_how_much(checkpoint: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from thesis_assets.cli.main import app

    out, back = tmp_path / "tuned", tmp_path / "back.pkl"
    for arguments in ((str(checkpoint), str(out)), (str(out), str(back))):
        options = ("--checkpoint", arguments[0], "--out", arguments[1], "--json")
        result = CliRunner().invoke(app, ["checkpoint", "convert", *options])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["out"] == arguments[1]
    assert load_refiner(back).step == load_refiner(checkpoint).step == 12
