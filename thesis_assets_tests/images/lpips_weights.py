"""The two files of LPIPS weights as they are published, by name and key, with few channels and random numbers."""

from pathlib import Path

import torch

from thesis_assets.images.lpips_files import BACKBONE_FILE, LINEAR_FILE
from thesis_assets.images.perceptual import STAGES

WIDTHS = (4, 6, 8, 8, 8)


def write_lpips_weights(folder: Path, seed: int = 0) -> Path:
    """Write both into `folder`, which is returned."""
    generator = torch.Generator().manual_seed(seed)
    backbone: dict[str, torch.Tensor] = {"classifier.0.weight": torch.zeros(2, 2)}
    inputs = 3
    for places, width in zip(STAGES, WIDTHS, strict=True):
        for place in places:
            weight = torch.randn(width, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
            backbone[f"features.{place}.weight"] = weight
            backbone[f"features.{place}.bias"] = torch.randn(width, generator=generator) * 0.1
            inputs = width
    linear = {
        f"lin{place}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for place, width in enumerate(WIDTHS)
    }
    folder.mkdir(parents=True, exist_ok=True)
    # As published: the backbone's file is of the older kind, which is no archive.
    torch.save(backbone, folder / BACKBONE_FILE, _use_new_zipfile_serialization=False)
    torch.save(linear, folder / LINEAR_FILE)
    return folder
