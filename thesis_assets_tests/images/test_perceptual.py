"""LPIPS against its formula written out in numpy, its gradient, and what is said where its weights are not usable."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from thesis_assets.errors import InvalidFile
from thesis_assets.images.lpips_files import BACKBONE_FILE, FILES, LINEAR_FILE, find_lpips
from thesis_assets.images.perceptual import STAGES, load_lpips
from thesis_assets_tests.images.lpips_weights import write_lpips_weights

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lpips_weights(tmp_path_factory.mktemp("lpips"))


def image(seed: int, height: int = 24, width: int = 37) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """Zero-padded 3 x 3 correlation of (C, H, W)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("chwyx,ocyx->ohw", windows, weight) + bias[:, None, None]


def pool(x: Array) -> Array:
    height, width = x.shape[1] // 2, x.shape[2] // 2
    return x[:, : 2 * height, : 2 * width].reshape(x.shape[0], height, 2, width, 2).max(axis=(2, 4))


def reference_taps(pixels: NDArray[np.uint8], state: dict[str, Any]) -> list[Array]:
    x = np.moveaxis(pixels.astype(np.float64) / 255 * 2 - 1, 2, 0)
    x = (x - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
    taps: list[Array] = []
    for places in STAGES:
        x = pool(x) if taps else x
        for place in places:
            weight, bias = (state[f"features.{place}.{kind}"].double().numpy() for kind in ("weight", "bias"))
            x = np.maximum(convolve(x, weight, bias), 0)
        taps.append(x)
    return taps


def reference_distance(folder: Path, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    state = torch.load(folder / BACKBONE_FILE, weights_only=True)
    linear = torch.load(folder / LINEAR_FILE, weights_only=True)
    return weighed(reference_taps(a, state), reference_taps(b, state), linear)


def test_the_distance_is_that_of_the_formula(weights: Path) -> None:
    lpips = load_lpips(weights)
    a, b = image(1), image(2)
    wanted = reference_distance(weights, a, b)
    assert wanted > 0.01
    assert lpips.distance(a, b) == pytest.approx(wanted, rel=1e-4)
    assert lpips.against(b).distance(a) == pytest.approx(wanted, rel=1e-4)
    assert lpips.distance(a, a) == 0


def alex_taps(pixels: NDArray[np.uint8], state: dict[str, Any]) -> list[Array]:
    """AlexNet by loops: convolutions of 11 by steps of 4, of 5, of 3; maxima of 3 x 3 by steps of 2 before the second and third."""
    x = np.moveaxis(pixels.astype(np.float64) / 255 * 2 - 1, 2, 0)
    x = (x - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
    taps: list[Array] = []
    for place, step, border, pooled in ((0, 4, 2, 0), (3, 1, 2, 1), (6, 1, 1, 1), (8, 1, 1, 0), (10, 1, 1, 0)):
        weight, bias = (state[f"features.{place}.{kind}"].double().numpy() for kind in ("weight", "bias"))
        if pooled:
            x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
        padded = np.pad(x, ((0, 0), (border, border), (border, border)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::step, ::step]
        x = np.maximum(np.einsum("chwyx,ocyx->ohw", windows, weight) + bias[:, None, None], 0)
        taps.append(x)
    return taps


def weighed(taps: list[Array], others: list[Array], linear: dict[str, Any]) -> float:
    total = 0.0
    for place, (one, other) in enumerate(zip(taps, others, strict=True)):
        unit = [tap / (np.sqrt((tap**2).sum(axis=0)) + 1e-10) for tap in (one, other)]
        scale = linear[f"lin{place}.model.1.weight"].double().numpy().reshape(-1, 1, 1)
        total += float(((unit[0] - unit[1]) ** 2 * scale).sum(axis=0).mean())
    return total


def test_the_distance_through_alexnet_is_that_of_its_formula(tmp_path: Path) -> None:
    folder = write_lpips_weights(tmp_path, network="alex")
    state, linear = (torch.load(folder / name, weights_only=True) for name in FILES["alex"])
    a, b = image(1, 70, 83), image(2, 70, 83)
    wanted = weighed(alex_taps(a, state), alex_taps(b, state), linear)
    assert wanted > 0.01
    lpips = load_lpips(folder, convention="alex")
    assert lpips.distance(a, b) == pytest.approx(wanted, rel=1e-4)
    assert lpips.distance(image(1, 31, 31), image(2, 31, 31)) is not None
    assert lpips.distance(image(1, 30, 90), image(2, 30, 90)) is None
    assert "AlexNet" in lpips.in_words


def test_the_convention_of_3dgs_gives_the_network_images_from_zero_to_one(weights: Path) -> None:
    """What it sees of an image is what ours sees of one that lies in the upper half of the range."""
    ours, theirs = load_lpips(weights), load_lpips(weights, convention="vgg_3dgs")
    a, b = (torch.rand(1, 3, 24, 37, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert theirs(a, b).item() == pytest.approx(ours((a + 1) / 2, (b + 1) / 2).item(), rel=1e-5)
    assert theirs(a, b).item() != pytest.approx(ours(a, b).item(), rel=0.01)
    assert ours.digest == theirs.digest
    assert ours.in_words != theirs.in_words


def test_pairs_of_a_batch_are_measured_each_for_itself(weights: Path) -> None:
    lpips = load_lpips(weights)
    batch = [torch.cat([lpips.batch(image(seed)) for seed in seeds]) for seeds in ((1, 2), (3, 4))]
    singly = [lpips.distance(image(1), image(3)), lpips.distance(image(2), image(4))]
    assert lpips(*batch).tolist() == pytest.approx(singly, rel=1e-5)


def test_a_step_along_its_gradient_brings_images_nearer(weights: Path) -> None:
    lpips = load_lpips(weights)
    moving, still = lpips.batch(image(1)).requires_grad_(), lpips.batch(image(2))
    before = lpips(moving, still)
    before.sum().backward()
    assert moving.grad is not None
    after = lpips(moving.detach() - 0.01 * moving.grad / moving.grad.abs().max(), still)
    assert after.item() < before.item()
    assert all(not parameter.requires_grad for parameter in lpips.parameters())


def test_an_image_that_four_poolings_leave_nothing_of_has_no_distance(weights: Path) -> None:
    lpips = load_lpips(weights)
    small, other = image(1, 15, 40), image(2, 15, 40)
    assert lpips.distance(small, other) is None
    assert lpips.against(other).distance(small) is None
    assert lpips.distance(image(1, 16, 16), image(2, 16, 16)) is not None


def test_the_digest_follows_the_weights(weights: Path, tmp_path: Path) -> None:
    again, other = shutil.copytree(weights, tmp_path / "again"), write_lpips_weights(tmp_path / "other", seed=1)
    assert load_lpips(again).digest == load_lpips(weights).digest != load_lpips(other).digest


def test_a_missing_file_is_named_with_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidFile, match=BACKBONE_FILE) as caught:
        find_lpips(tmp_path)
    assert "THESIS_LPIPS_WEIGHTS" in str(caught.value)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(InvalidFile, match="hub"):
        find_lpips(None)


def test_a_folder_that_the_system_cannot_look_into_is_one_without_weights() -> None:
    with pytest.raises(InvalidFile, match="cannot be read"):
        find_lpips(Path("/" + "x" * 300))  # the system's answer is an error, not that there is none


def test_without_a_folder_the_hub_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_lpips_weights(tmp_path / "hub" / "checkpoints")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert find_lpips(None).backbone == folder / BACKBONE_FILE
    assert load_lpips(None).distance(image(1), image(2)) is not None


@pytest.mark.parametrize("damage", ["pickle", "key", "shape", "number", "nan", "linear"])
def test_weights_that_are_not_what_their_name_says_are_refused(damage: str, tmp_path: Path) -> None:
    folder = write_lpips_weights(tmp_path)
    path = folder / (LINEAR_FILE if damage == "linear" else BACKBONE_FILE)
    state: Any = torch.load(path, weights_only=True)
    if damage == "pickle":
        state["features.0.weight"] = Path("x")
    elif damage == "key":
        del state["features.28.bias"]
    elif damage == "shape":
        state["features.2.weight"] = torch.zeros(4, 5, 3, 3)
    elif damage == "number":
        state["features.2.weight"] = torch.tensor(1.0)
    elif damage == "nan":
        state["features.7.weight"][0, 0, 0, 0] = torch.nan
    else:
        state["lin2.model.1.weight"] = torch.ones(1, 7, 1, 1)
    torch.save(state, path)
    with pytest.raises(InvalidFile, match=path.name):
        load_lpips(folder)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_are_refused_whatever_they_spell(tmp_path: Path) -> None:
    path = write_lpips_weights(tmp_path) / LINEAR_FILE
    state = torch.load(path, weights_only=True)
    torch.save(state, path, _use_new_zipfile_serialization=False)  # the older format: nothing in it finds damage
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(400)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            load_lpips(tmp_path)
        except InvalidFile:
            refused += 1
    assert refused > 50
