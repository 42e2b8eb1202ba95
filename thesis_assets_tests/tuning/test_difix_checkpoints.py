"""The published key set: the published rules load our files, we load files that have nothing but the published keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.storage import write_json
from thesis_assets.tuning import checkpoints
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS
from thesis_assets.tuning.difix.checkpoint import (
    optimizer_from_published,
    optimizer_to_published,
    state_of_model,
    usage,
    weights_to_published,
)
from thesis_assets.tuning.difix.network import DifixNetwork, load_difix
from thesis_assets.tuning.refine import load_refiner
from thesis_assets_tests.tuning.difix_models import TEXT_WIDTH, write_sd_turbo
from thesis_assets_tests.tuning.snapshots import make_config_file

RENDERS, REFERENCES = torch.rand(2, 1, 3, 40, 56, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_turbo(tmp_path_factory.mktemp("models") / "sd-turbo")


@pytest.fixture(scope="module")
def network(base: Path) -> DifixNetwork:
    """Changed everywhere where a training changes it."""
    torch.manual_seed(0)
    network = load_difix(base)
    network.train_only_what_is_tuned()
    with torch.no_grad():
        for _, parameter in network.tuned_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def update(parameters: list[torch.nn.Parameter], network: DifixNetwork) -> torch.optim.AdamW:
    """An AdamW optimizer that has made one step over `parameters`."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    views = torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network(views, torch.ones(1, 77, TEXT_WIDTH)).square().mean().backward()
    optimizer.step()
    return optimizer


@pytest.fixture(scope="module")
def state(network: DifixNetwork) -> dict[str, Any]:
    """A whole checkpoint's keys, without those of the loop."""
    optimizer = update([parameter for _, parameter in network.tuned_parameters()], network)
    published = optimizer_to_published(network, optimizer.state_dict())
    own = {**usage(network, "remove degradation"), "resolution": 48}
    return {**weights_to_published(network), "optimizer": published, **own}


def saved(path: Path, state: Mapping[str, Any]) -> Path:
    torch.save(dict(state), path)
    return path


def published_run(folder: Path, state: Mapping[str, Any], base: Path, **flags: Any) -> Path:
    """A file with nothing but the published keys in the directory of its run."""
    path = folder / "run" / "checkpoints" / "model_7.pkl"
    path.parent.mkdir(parents=True)
    values = {"pretrained_model_name_or_path": str(base), "resolution": 48, **flags}
    write_json(folder / "run" / "train_config.json", make_config_file(values))
    return saved(path, only_published(state))


def only_published(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: state[key] for key in PUBLISHED_KEYS}


def published_parts(base: Path, state: Mapping[str, Any]) -> tuple[Any, Any, list[torch.nn.Parameter]]:
    """U-Net, VAE and the optimizer's parameters by the published trainer's rules, which are written down here anew."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from peft import LoraConfig

    vae = AutoencoderKL.from_pretrained(str(base), subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(str(base), subfolder="unet")
    for number, (inputs, outputs) in enumerate([(16, 16), (8, 16), (8, 16), (8, 8)], start=1):
        setattr(vae.decoder, f"skip_conv_{number}", torch.nn.Conv2d(inputs, outputs, kernel_size=1, bias=False))
    config = LoraConfig(
        r=state["rank_vae"], init_lora_weights="gaussian", target_modules=state["vae_lora_target_modules"]
    )
    vae.add_adapter(config, adapter_name="vae_skip")
    for part, weights in ((vae, state["state_dict_vae"]), (unet, state["state_dict_unet"])):
        own = part.state_dict()
        assert set(weights) <= set(own)
        part.load_state_dict({**own, **weights})
    parameters = list(unet.parameters())
    parameters += [one for name, one in vae.named_parameters() if "lora" in name and "vae_skip" in name]
    for number in range(1, 5):
        parameters += list(getattr(vae.decoder, f"skip_conv_{number}").parameters())
    return unet, vae, parameters


def test_the_published_rules_load_what_we_save(base: Path, network: DifixNetwork, state: dict[str, Any]) -> None:
    unet, vae, parameters = published_parts(base, only_published(state))
    assert set(state["state_dict_unet"]) == set(unet.state_dict())
    assert set(state["state_dict_vae"]) == {name for name in vae.state_dict() if "lora" in name or "skip" in name}
    for name, weight in network.unet.state_dict().items():
        assert torch.equal(weight, unet.state_dict()[name])
    for name, weight in network.vae.state_dict().items():
        assert torch.equal(weight, vae.state_dict()[name]), name
    assert vae.decoder.conv_in.scaling == network.vae.decoder.conv_in.scaling
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = torch.optim.AdamW(parameters)
    optimizer.load_state_dict(state["optimizer"])
    for parameter in parameters:
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape


def test_an_optimizer_in_the_published_order_is_understood_by_name(base: Path, network: DifixNetwork) -> None:
    """Every moment comes to the parameter it is of, though those of the skips' adapters stand twice."""
    from thesis_assets.tuning.difix.checkpoint import published_order

    network.zero_grad()
    named = dict(network.named_parameters())
    order = published_order(network)
    assert len(order) == len(set(order)) + 8
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = update([named[name] for name in order], network)
    ours = optimizer_from_published(network, optimizer.state_dict())
    names = [name for name, _ in network.tuned_parameters()]
    assert len(ours["state"]) == len(names)
    for place, name in enumerate(names):
        assert torch.equal(ours["state"][place]["exp_avg"], optimizer.state[named[name]]["exp_avg"])
    assert optimizer_to_published(network, ours) == optimizer.state_dict()
    torch.optim.AdamW([parameter for _, parameter in network.tuned_parameters()]).load_state_dict(ours)


def test_an_optimizer_over_other_parameters_is_refused(network: DifixNetwork, state: dict[str, Any]) -> None:
    (group,) = state["optimizer"]["param_groups"]
    fewer = {"state": {}, "param_groups": [{**group, "params": group["params"][1:]}]}
    with pytest.raises(InvalidFile, match="other parameters"):
        optimizer_from_published(network, fewer)


def test_a_file_with_nothing_but_the_published_keys_refines_as_ours_does(
    base: Path, state: dict[str, Any], tmp_path: Path
) -> None:
    ours = load_refiner(saved(tmp_path / "model_7.pkl", {**state, "step": 7}))
    theirs = load_refiner(published_run(tmp_path, state, base))
    refined = ours.refine(RENDERS, REFERENCES)
    assert torch.equal(refined, theirs.refine(RENDERS, REFERENCES))
    assert not torch.equal(refined, ours.refine(RENDERS, RENDERS))
    alone = load_refiner(saved(tmp_path / "alone.pkl", only_published(state)), model=str(base))
    assert (alone.resolution, alone.network.step.timestep, alone.network.mv_unet) == (1024, 199, True)  # type: ignore[attr-defined]


def test_the_run_that_a_file_lies_in_says_what_the_file_does_not(
    base: Path, state: dict[str, Any], tmp_path: Path
) -> None:
    refiner = load_refiner(published_run(tmp_path, state, base, timestep=500, mv_unet=False))
    assert torch.equal(refiner.refine(RENDERS, REFERENCES), refiner.refine(RENDERS, RENDERS))
    own = {**state, "timestep": 500, "resolution": 48, "mv_unet": False}
    ours = load_refiner(saved(tmp_path / "ours.pkl", own))
    assert torch.equal(refiner.refine(RENDERS, REFERENCES), ours.refine(RENDERS, REFERENCES))


def test_half_precision_files_are_used_in_full_precision(base: Path, state: dict[str, Any], tmp_path: Path) -> None:
    """The published trainer's own files are bfloat16 after a training in it."""
    half = only_published(state)
    for key in ("state_dict_unet", "state_dict_vae"):
        half[key] = {name: weight.bfloat16() for name, weight in half[key].items()}
    refiner = load_refiner(published_run(tmp_path, half, base))
    assert {weight.dtype for weight in refiner.network.parameters()} == {torch.float32}  # type: ignore[attr-defined]
    full = load_refiner(saved(tmp_path / "full.pkl", state))
    difference = refiner.refine(RENDERS, REFERENCES) - full.refine(RENDERS, REFERENCES)
    assert 0 < difference.abs().max() < 0.1


def test_a_large_file_is_mapped_and_refines_the_same(
    state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "model_7.pkl", {**state, "step": 7})
    read = load_refiner(path).refine(RENDERS, REFERENCES)
    monkeypatch.setattr(checkpoints, "MAPPED_BYTES", 0)
    mapped = load_refiner(path)
    path.unlink()
    assert torch.equal(mapped.refine(RENDERS, REFERENCES), read)


def test_another_base_model_than_that_of_the_training_is_refused(
    base: Path, state: dict[str, Any], tmp_path: Path
) -> None:
    other = write_sd_turbo(tmp_path / "other", seed=1)
    path = saved(tmp_path / "model_7.pkl", {**state, "step": 7})
    with pytest.raises(InvalidFile, match=r"(?s)not the one that the checkpoint was trained on.*--model"):
        load_refiner(path, model=str(other))
    moved = saved(
        tmp_path / "model_8.pkl", {**state, "base_model": {**state["base_model"], "name": str(tmp_path / "gone")}}
    )
    with pytest.raises(InvalidFile, match=r"(?s)cannot be had.*--model"):
        load_refiner(moved)
    assert load_refiner(moved, model=str(base)).refine(RENDERS, REFERENCES).shape == RENDERS.shape


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank_vae", "four"),
        ("vae_lora_target_modules", [1, 2]),
        ("state_dict_unet", {"conv_in.weight": torch.zeros(3)}),
        ("state_dict_vae", {}),
    ],
)
def test_published_keys_with_another_content_are_refused(
    state: dict[str, Any], tmp_path: Path, key: str, value: object
) -> None:
    with pytest.raises(InvalidFile):
        load_refiner(saved(tmp_path / "model_7.pkl", {**state, key: value}))


def test_a_base_model_as_it_is_becomes_a_checkpoint(base: Path, tmp_path: Path) -> None:
    taken = state_of_model(base, timestep=300, mv_unet=False, resolution=64)
    refiner = load_refiner(saved(tmp_path / "model_0.pkl", taken))
    assert (refiner.resolution, refiner.network.step.timestep) == (64, 300)  # type: ignore[attr-defined]
    assert torch.equal(refiner.refine(RENDERS, REFERENCES), refiner.refine(RENDERS, RENDERS))
    published_parts(base, taken)
