"""The two files of a network's LPIPS weights as they are published, by name and key, with few channels and random numbers.

The formulas are what these can show; the published weights are not here, and no number of a test is one of theirs.
"""

from pathlib import Path

import torch

from thesis_assets.images.lpips_files import FILES
from thesis_assets.images.perceptual import ARCHITECTURES

WIDTHS = (4, 6, 8, 8, 8)


def write_lpips_weights(folder: Path, seed: int = 0, network: str = "vgg") -> Path:
    """Write both into `folder`, which is returned."""
    architecture, (backbone_file, linear_file) = ARCHITECTURES[network], FILES[network]
    generator = torch.Generator().manual_seed(seed)
    backbone: dict[str, torch.Tensor] = {"classifier.0.weight": torch.zeros(2, 2)}
    inputs = 3
    for places, width in zip(architecture.stages, WIDTHS, strict=True):
        for place in places:
            side, *_ = architecture.kernels.get(place, (3, 1, 1))
            weight = torch.randn(width, inputs, side, side, generator=generator) * (2 / (side**2 * inputs)) ** 0.5
            backbone[f"features.{place}.weight"] = weight
            backbone[f"features.{place}.bias"] = torch.randn(width, generator=generator) * 0.1
            inputs = width
    linear = {
        f"lin{place}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for place, width in enumerate(WIDTHS)
    }
    folder.mkdir(parents=True, exist_ok=True)
    # As published: the backbone's file is of the older kind, which is no archive.
    torch.save(backbone, folder / backbone_file, _use_new_zipfile_serialization=False)
    torch.save(linear, folder / linear_file)
    return folder
