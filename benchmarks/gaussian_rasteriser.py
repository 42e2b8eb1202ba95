"""The torch rasteriser on one core: 5,000 Gaussians into a small image."""

import statistics
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Row, seconds_of

COUNT, SIDE, ROUNDS = 5000, 128, 5


def rows() -> Iterator[Row]:
    """One image, median of several."""
    import torch

    from thesis_assets.rendering.gaussians import from_colors
    from thesis_assets.rendering.torch_rasteriser import rasterise, to_tensors

    random = np.random.default_rng(0)
    # A cloud of a person's size, 3 m in front of the camera, that fills most of the picture.
    means = random.normal((0, 0, 3), 0.4, (COUNT, 3))
    cloud = to_tensors(from_colors(means, random.uniform(0, 1, (COUNT, 3)), random.uniform(0.005, 0.03, (COUNT, 3))))
    intrinsics = torch.tensor([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]], dtype=torch.float32)
    extrinsics = torch.eye(4)[:3]

    def draw() -> object:
        return rasterise(cloud, intrinsics, extrinsics, SIDE, SIDE)

    draw()
    seconds = statistics.median(seconds_of(draw) for _ in range(ROUNDS))
    yield Row("rendering", f"rasterise {COUNT} Gaussians at {SIDE}x{SIDE}, one core", seconds, "s", target="<= 1")
