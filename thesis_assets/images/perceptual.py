"""LPIPS 0.1 through VGG16 or AlexNet (Zhang et al. 2018) in plain torch: the distance, and the features below it.

`vgg` and `alex` are the package's own, which brings images to [-1, 1]; `vgg_3dgs` gives VGG16 images in [0, 1], as the reference code of
3D Gaussian Splatting (Kerbl et al. 2023) does.

The weights are the two published files, by their published names and keys. Import this module inside functions: it loads torch.
Does not belong here: which images are compared, and what happens where there are no weights.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from thesis_assets.errors import InvalidFile
from thesis_assets.images.lpips_files import LpipsFiles, find_lpips, network_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Places of VGG16's convolutions in the published file's `features`; a tap after the last of each stage."""


@dataclass(frozen=True)
class Architecture:
    """A backbone.

    Attributes:
        stages: places of the convolutions, as of `STAGES`.
        pooled: the stages that maximum pooling stands before.
        pool: its window; it moves by two pixels.
        kernels: by place (size, stride, padding) of the convolutions other than 3 x 3.
        min_side: the smallest image that a pixel is left of.
    """

    name: str
    stages: tuple[tuple[int, ...], ...]
    pooled: tuple[int, ...]
    pool: int
    kernels: Mapping[int, tuple[int, int, int]]
    min_side: int


VGG16 = Architecture("VGG16", STAGES, (1, 2, 3, 4), 2, {}, 16)
ALEXNET = Architecture("AlexNet", ((0,), (3,), (6,), (8,), (10,)), (1, 2), 3, {0: (11, 4, 2), 3: (5, 1, 2)}, 31)
ARCHITECTURES = {"vgg": VGG16, "alex": ALEXNET}
FROM_ZERO = ("vgg_3dgs",)
"""Conventions whose network is given [0, 1], not [-1, 1]."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
TINY = 1e-10


def load_lpips(folder: Path | None = None, device: str = "cpu", convention: str = "vgg") -> Lpips:
    """The distance, frozen, in evaluation mode. The same files and device give the same module.

    Args:
        convention: a key of `lpips_files.COLUMNS`.

    Raises:
        InvalidFile: a file is missing, cannot be read without unpickling, or is not what its name says.
    """
    files = find_lpips(folder, network_of(convention))
    return _loaded(files, files.digest(), device, convention)


@functools.lru_cache(maxsize=4)
def _loaded(files: LpipsFiles, digest: str, device: str, convention: str) -> Lpips:
    architecture = ARCHITECTURES[network_of(convention)]
    backbone, linear = _tensors(files.backbone), _tensors(files.linear)
    channels = [_tensor(files.linear, linear, f"lin{place}.model.1.weight").float() for place in range(len(STAGES))]
    stages = _convolutions(files.backbone, backbone, architecture)
    module = Lpips(Backbone(stages, architecture, from_zero=convention in FROM_ZERO), channels, digest)
    for weights, width in zip(module.channels(), module.backbone.widths, strict=True):
        if weights.shape != (1, width, 1, 1):
            raise InvalidFile(
                "the channel weights do not fit the backbone",
                file=files.linear,
                found=tuple(weights.shape),
                wanted=(1, width, 1, 1),
            )
    return module.to(device).eval().requires_grad_(False)


def _tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        # The older of the two published files is no archive, and only an archive can be mapped instead of read.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged bytes make torch raise whatever they spell, an IndexError for one
        raise InvalidFile("the weights cannot be read", file=path, found=str(error)[:300]) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidFile("the file holds something else than tensors by name", file=path, found=type(state).__name__)
    return state


def _convolutions(path: Path, state: Mapping[str, Tensor], architecture: Architecture) -> list[list[nn.Conv2d]]:
    inputs, stages = 3, []
    for places in architecture.stages:
        stage: list[nn.Conv2d] = []
        for place in places:
            weight, bias = (_tensor(path, state, f"features.{place}.{kind}") for kind in ("weight", "bias"))
            size, stride, padding = architecture.kernels.get(place, (3, 1, 1))
            if weight.shape[1:] != (inputs, size, size) or bias.shape != weight.shape[:1]:
                raise InvalidFile(
                    "a convolution has another shape",
                    file=path,
                    key=f"features.{place}.weight",
                    found=tuple(weight.shape),
                    wanted=f"(outputs, {inputs}, {size}, {size})",
                )
            outputs = weight.shape[0]
            convolution = nn.Conv2d(inputs, outputs, size, stride, padding)
            with torch.no_grad():
                convolution.weight.copy_(weight)
                convolution.bias.copy_(bias)  # type: ignore[union-attr]
            stage.append(convolution)
            inputs = outputs
        stages.append(stage)
    return stages


def _tensor(path: Path, state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise InvalidFile("a weight is not in the file", file=path, key=key, found=", ".join(sorted(state)[:5]))
    if not state[key].isfinite().all():
        raise InvalidFile("a weight is not finite", file=path, key=key)
    return state[key]


class Backbone(nn.Module):
    """The convolutions of a network, tapped after the last ReLU of each of its five stages.

    Args:
        from_zero: the network is given images in [0, 1].
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, stages: Sequence[Sequence[nn.Conv2d]], architecture: Architecture = VGG16, *, from_zero: bool = False
    ) -> None:
        super().__init__()
        self.architecture, self.from_zero = architecture, from_zero
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in stages)
        self.widths = [stage[-1].out_channels for stage in stages]
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Iterator[Tensor]:
        """The five taps, one after another, so that a caller need not keep them all.

        Args:
            images: (B, 3, H, W) float in [0, 1], sides of at least the architecture's `min_side`.

        Returns:
            (B, C, h, w), smaller where there was pooling before: of VGG16 (B, C, H / 2^i, W / 2^i), i from 0 to 4.
        """
        taps = ((images if self.from_zero else 2 * images - 1) - self.shift) / self.scale
        for place, stage in enumerate(self.stages):
            if place in self.architecture.pooled:
                taps = nn.functional.max_pool2d(taps, self.architecture.pool, 2)
            for convolution in stage:  # type: ignore[attr-defined]
                taps = nn.functional.relu(convolution(taps))
            yield taps


class Lpips(nn.Module):
    """The distance. `digest` names its weights; `backbone` gives the features alone."""

    def __init__(self, backbone: Backbone, channels: Sequence[Tensor], digest: str) -> None:
        super().__init__()
        self.backbone, self.digest = backbone, digest
        for place, weights in enumerate(channels):
            self.register_buffer(f"channels_{place}", weights.clone())

    @property
    def min_side(self) -> int:
        """Images with a smaller side have no distance."""
        return self.backbone.architecture.min_side

    @property
    def in_words(self) -> str:
        """As a protocol names it."""
        given = " given [0, 1]" if self.backbone.from_zero else ""
        return f"0.1, {self.backbone.architecture.name}{given}, weights {self.digest}"

    def channels(self) -> list[Tensor]:
        """The five weights, (1, C, 1, 1) each."""
        return [self.get_buffer(f"channels_{place}") for place in range(len(STAGES))]

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Distance of each pair; gradients flow to the images.

        Args:
            images: (B, 3, H, W) float in [0, 1], sides of at least `min_side`.
            others: the same shape.

        Returns:
            (B,) float.
        """
        return self.between(self.backbone(images), self.backbone(others))

    def taps_of(self, images: Tensor) -> list[Tensor]:
        """All five taps of `images`, to be compared with many others by `between`."""
        return list(self.backbone(images))

    def between(self, taps: Iterator[Tensor] | Sequence[Tensor], others: Iterator[Tensor] | Sequence[Tensor]) -> Tensor:
        """Distance of two sets of taps, (B,)."""
        parts = [
            ((_unit(one) - _unit(other)) ** 2 * weights).sum(dim=1).mean(dim=(1, 2))
            for one, other, weights in zip(taps, others, self.channels(), strict=True)
        ]
        return torch.stack(parts).sum(dim=0)

    def against(self, target: NDArray[np.uint8]) -> Target:
        """`target`, (H, W, 3) uint8, ready to be compared with several images."""
        with torch.inference_mode():
            return Target(self, None if min(target.shape[:2]) < self.min_side else self.taps_of(self.batch(target)))

    def distance(self, image: NDArray[np.uint8], target: NDArray[np.uint8]) -> float | None:
        """Distance of two (H, W, 3) uint8 images; None below `min_side` pixels."""
        if min(target.shape[:2]) < self.min_side:
            return None
        with torch.inference_mode():
            return float(self(self.batch(image), self.batch(target)))

    def batch(self, image: NDArray[np.uint8]) -> Tensor:
        """(1, 3, H, W) float in [0, 1] on the weights' device."""
        pixels = torch.tensor(image, device=self.channels()[0].device)
        return pixels.permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True)
class Target:
    """An image whose features are kept: about 0.5 KB a pixel."""

    lpips: Lpips
    taps: list[Tensor] | None

    def distance(self, image: NDArray[np.uint8]) -> float | None:
        """Distance of `image`, of the target's size, to it; None where the target is too small."""
        if self.taps is None:
            return None
        with torch.inference_mode():
            return float(self.lpips.between(self.lpips.backbone(self.lpips.batch(image)), self.taps))


def _unit(taps: Tensor) -> Tensor:
    """Each pixel's channels to length one."""
    return taps / (taps.square().sum(dim=1, keepdim=True).sqrt() + TINY)
