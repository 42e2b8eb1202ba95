"""gsplat against the torch rasteriser, where a GPU and the library are; what is said where they are not."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.rendering.gaussian_renderer import GsplatRasteriser
from thesis_assets.rendering.gaussians import GaussianTensors, to_tensors
from thesis_assets.rendering.torch_rasteriser import TorchRasteriser
from thesis_assets.scenes.camera import Camera
from thesis_assets_tests.rendering.test_torch_rasteriser import cloud

HAS_CUDA = torch.cuda.is_available()
HAS_GSPLAT = importlib.util.find_spec("gsplat") is not None


def cameras() -> list[Camera]:
    intrinsics = np.array([[90.0, 0, 48], [0, 90, 32], [0, 0, 1]])
    return [Camera(i, intrinsics, np.c_[np.eye(3), [0.1 * i, 0, 2]], 64, 96) for i in range(2)]


@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device on this machine")
@pytest.mark.skipif(not HAS_GSPLAT, reason="gsplat is not installed")
@pytest.mark.parametrize("rest", [0, 15])
def test_gsplat_draws_what_the_torch_rasteriser_draws(rest: int) -> None:
    gaussians = cloud(2000, rest, size=0.03)
    on_gpu = GsplatRasteriser("cuda").draw(to_tensors(gaussians, "cuda"), cameras())
    expected = TorchRasteriser().draw(to_tensors(gaussians), cameras())
    # gsplat lets alpha rise to 0.999 where the first implementation stops at 0.99.
    assert (on_gpu.cpu() - expected).abs().mean() < 1e-3
    assert (on_gpu.cpu() - expected).abs().max() < 0.05


@pytest.mark.skipif(HAS_CUDA, reason="this machine has a CUDA device")
def test_without_cuda_the_message_names_the_way_out() -> None:
    with pytest.raises(ThesisAssetsError, match="set the device to `cpu`"):
        GsplatRasteriser("cuda")


def test_without_gsplat_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(ThesisAssetsError, match=r"thesis-assets\[gpu\]"):
        GsplatRasteriser("cuda")


def test_gsplat_draws_on_cuda_only() -> None:
    with pytest.raises(ThesisAssetsError, match="CUDA only"):
        GsplatRasteriser("mps")


def test_gsplat_gets_every_camera_in_one_call_and_all_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []

    def rasterization(**arguments: object) -> tuple[torch.Tensor, torch.Tensor, dict[str, object]]:
        calls.append(arguments)
        return torch.full((2, 64, 96, 3), 2.0), torch.zeros(2, 64, 96, 1), {}

    library = types.SimpleNamespace(rasterization=rasterization, __version__="1.5.3")
    monkeypatch.setitem(sys.modules, "gsplat", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rasteriser = GsplatRasteriser("cuda")
    rasteriser.device = "cpu"  # the stand-in needs no GPU
    gaussians: GaussianTensors = to_tensors(cloud(5, 8))
    image = rasteriser.draw(gaussians, cameras())
    assert image.shape == (2, 3, 64, 96)
    assert image.max() == 1
    [call] = calls
    assert call["sh_degree"] == 2
    assert call["colors"].shape == (5, 9, 3)  # type: ignore[attr-defined]
    assert call["viewmats"].shape == (2, 4, 4)  # type: ignore[attr-defined]
    assert torch.allclose(call["viewmats"][1, 0], torch.tensor([1.0, 0, 0, 0.1]))  # type: ignore[index]
    assert (call["width"], call["height"]) == (96, 64)
    assert rasteriser.version == "gsplat 1.5.3"
