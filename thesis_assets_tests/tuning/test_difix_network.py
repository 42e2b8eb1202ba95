"""The DiFix network of a base model with random weights: what it looks at, what of it learns, what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.tuning.difix.checkpoint import state_of_model
from thesis_assets.tuning.difix.model_folder import find_model
from thesis_assets.tuning.difix.network import SKIPS, DifixNetwork, OneStep, add_skips, encode_prompts, load_difix
from thesis_assets.tuning.refine import load_refiner
from thesis_assets_tests.tuning.difix_models import TEXT_WIDTH, write_sd_turbo


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_turbo(tmp_path_factory.mktemp("models") / "sd-turbo")


@pytest.fixture(scope="module")
def network(base: Path) -> DifixNetwork:
    torch.manual_seed(0)
    return load_difix(base)


@pytest.fixture
def views() -> torch.Tensor:
    return torch.rand(2, 2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


TEXT = torch.rand(2, 77, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))


def run(network: DifixNetwork, views: torch.Tensor, text: torch.Tensor = TEXT) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = network(views, text[: len(views)])
    return out


def test_every_view_comes_back_at_its_size_and_one_alone_works_too(network: DifixNetwork, views: torch.Tensor) -> None:
    assert run(network, views).shape == views.shape
    assert run(network, views[:, :1]).shape == (2, 1, 3, 48, 64)
    assert run(network, views.repeat(1, 2, 1, 1, 1)[:1]).shape == (1, 4, 3, 48, 64)


def test_the_reference_changes_what_becomes_of_the_render(network: DifixNetwork, views: torch.Tensor) -> None:
    other = views.clone()
    other[0, 1] = 1 - other[0, 1]
    before, after = run(network, views), run(network, other)
    assert (before[0, 0] - after[0, 0]).abs().max() > 1e-3
    torch.testing.assert_close(before[1], after[1])


def test_without_attention_across_views_each_view_is_refined_by_itself(base: Path, views: torch.Tensor) -> None:
    alone = load_difix(base, mv_unet=False)
    torch.testing.assert_close(run(alone, views)[:, :1], run(alone, views[:, :1]))


def test_a_view_beside_its_own_copy_is_refined_as_it_is_alone(network: DifixNetwork, views: torch.Tensor) -> None:
    """Each token then attends to every token twice, with half the weight each: the tokens of the views are one sequence."""
    twice = run(network, views[:, :1].repeat(1, 2, 1, 1, 1))
    torch.testing.assert_close(twice[:, :1], run(network, views[:, :1]), atol=1e-4, rtol=1e-4)


def test_the_text_and_the_timestep_reach_the_unet(base: Path, network: DifixNetwork, views: torch.Tensor) -> None:
    plain = run(network, views)
    assert not torch.allclose(plain, run(network, views, TEXT.flip(-1)), atol=1e-4)
    assert network.step.timestep == 199
    assert not torch.allclose(plain, run(load_difix(base, timestep=600), views), atol=1e-3)


def test_the_skips_carry_detail_around_the_latents(base: Path, views: torch.Tensor) -> None:
    network = load_difix(base)
    before = run(network, views)
    for skip in SKIPS:
        weight = network.vae.decoder.get_submodule(skip).get_parameter("base_layer.weight")
        assert torch.all(weight == 1e-5)
        torch.nn.init.zeros_(weight)
    barely = run(network, views)
    assert 0 < (before - barely).abs().max() < 1e-3
    torch.nn.init.constant_(network.vae.decoder.skip_conv_4.base_layer.weight, 0.5)
    assert (run(network, views) - barely).abs().max() > 1e-2


def test_at_sd_turbos_size_the_skips_have_the_published_shapes() -> None:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        add_skips(vae)
    shapes = [tuple(vae.decoder.get_submodule(skip).get_parameter("weight").shape) for skip in SKIPS]
    assert shapes == [(512, 512, 1, 1), (512, 256, 1, 1), (512, 128, 1, 1), (256, 128, 1, 1)]
    assert all(vae.decoder.get_submodule(skip).bias is None for skip in SKIPS)


def test_nothing_but_the_unet_the_adapters_and_the_skips_learns(base: Path, views: torch.Tensor) -> None:
    network = load_difix(base)
    network.train_only_what_is_tuned()
    network(views, TEXT).square().mean().backward()
    learning = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {
        name for name, _ in network.named_parameters() if "unet." in name or "lora" in name or "skip" in name
    }
    # B is zero at first, so A has no gradient yet.
    for name, parameter in network.named_parameters():
        if name in learning and "lora_A" not in name:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name
    assert not any(name.startswith("vae.encoder") for name in learning)


def test_saving_memory_changes_no_gradient(base: Path, views: torch.Tensor) -> None:
    gradients = []
    for saves in (False, True):
        torch.manual_seed(0)
        network = load_difix(base).train()
        network.train_only_what_is_tuned()
        if saves:
            network.checkpoint_gradients()
        network(views, TEXT).square().mean().backward()
        gradients.append({name: p.grad for name, p in network.tuned_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_step_is_that_of_a_ddpm_schedule_with_one_step(prediction: str) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.register_to_config(prediction_type=prediction)
    scheduler.set_timesteps(timesteps=[199])
    generator = torch.Generator().manual_seed(3)
    latents, predicted = torch.randn(2, 2, 4, 6, 8, generator=generator)
    step = OneStep(199, float(scheduler.alphas_cumprod[199]), prediction, None)
    torch.testing.assert_close(step.clean(latents, predicted), scheduler.step(predicted, 199, latents).prev_sample)


def test_prompts_are_encoded_once_each(base: Path) -> None:
    texts = encode_prompts(find_model(base), ["remove degradation", "sharpen", "remove degradation"])
    assert set(texts) == {"remove degradation", "sharpen"}
    assert texts["sharpen"].shape == (77, TEXT_WIDTH)
    assert not torch.allclose(texts["sharpen"], texts["remove degradation"])


def test_a_tokenizer_that_cannot_be_read_is_named_with_its_model(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    (copy / "tokenizer/merges.txt").write_text("#version: 0.2\nnot there\n")
    with pytest.raises(InvalidFile, match="tokenizer or text encoder cannot be read"):
        encode_prompts(find_model(copy), ["remove degradation"])


def test_a_base_model_refines_as_it_is_at_the_renders_own_size(base: Path, tmp_path: Path) -> None:
    renders = torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(4))
    torch.save(state_of_model(base, resolution=64), tmp_path / "model_0.pkl")
    refined = load_refiner(tmp_path / "model_0.pkl").refine(renders, renders.flip(0)[..., :40, :40])
    assert refined.shape == renders.shape
    assert refined.min() >= 0
    assert refined.max() <= 1


def test_what_is_no_base_model_is_refused_with_the_part_that_is_wrong(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="neither a directory nor a Hub id"):
        find_model(tmp_path / "nowhere" / "at" / "all")
    for part in ("vae", "tokenizer", "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.safetensors"):
        copy = tmp_path / "copy"
        shutil.copytree(base, copy)
        shutil.rmtree(copy / part, ignore_errors=True)
        (copy / part).unlink(missing_ok=True)
        with pytest.raises(InvalidFile, match=rf"(?s)lacks a part.*{part}"):
            load_difix(copy)
        shutil.rmtree(copy)
    shutil.copytree(base, copy)
    (copy / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"not one")
    with pytest.raises(InvalidFile, match="the base model's unet"):
        load_difix(copy)
    config = json.loads((copy / "vae/config.json").read_text())
    config |= {key: config[key][:3] for key in ("block_out_channels", "down_block_types", "up_block_types")}
    (copy / "vae/config.json").write_text(json.dumps(config))
    shutil.copy(base / "unet/diffusion_pytorch_model.safetensors", copy / "unet")
    with pytest.raises(InvalidFile, match="the base model's vae"):
        load_difix(copy)


def test_the_digest_is_of_the_files_that_a_checkpoint_does_not_hold(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    digest = find_model(copy).digest()
    assert digest == find_model(base).digest()
    (copy / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"tuned anyway")
    assert find_model(copy).digest() == digest
    (copy / "tokenizer/merges.txt").write_text("#version: 0.2\na b\n")
    assert find_model(copy).digest() != digest


def test_a_download_that_fails_in_a_library_below_the_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Data processing error: CAS service error")  # as the client's transfer library has it

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InvalidFile, match=r"(?s)cannot be had from the Hub.*CAS service"):
        find_model("someone/model")


def test_a_package_that_is_missing_is_named_with_the_extra(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else True)
    with pytest.raises(InvalidFile, match=r"(?s)without peft.*thesis-assets\[difix\]"):
        find_model(base)


def test_a_package_that_does_not_fit_another_is_told_as_such(base: Path, tmp_path: Path) -> None:
    """As a torchvision that was built for another torch: its import fails inside the library's own."""
    (tmp_path / "diffusers").mkdir()
    (tmp_path / "diffusers" / "__init__.py").write_text(
        "def __getattr__(name):\n"
        "    try:\n"
        "        raise RuntimeError('operator torchvision::nms does not exist')\n"
        "    except RuntimeError as error:\n"
        "        raise RuntimeError(f'Failed to import diffusers because of: {name}') from error\n"
    )
    program = (
        f"from thesis_assets.errors import InvalidFile\nfrom thesis_assets.tuning.difix.network import load_difix\n"
        f"try:\n    load_difix({str(base)!r})\nexcept InvalidFile as error:\n    print(error)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert "import AutoencoderKL` fails in this environment" in told
    assert "operator torchvision::nms does not exist" in told
    assert "torchvision" in told.partition("remedy")[2]
    assert "not one that DiFix is made of" not in told
