"""The rasterisers: torch on one core into a small image, gsplat on a GPU into full-size ones, and renders on their way to the host."""

import importlib.util
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, seconds_of

CORES = len(os.sched_getaffinity(0))
COUNT, SIDE, ROUNDS = 5000, 128, 5
GPU_COUNT, GPU_RENDERS = 200_000, 64


def rows() -> Iterator[Row]:
    """The CPU's row, and the GPU's where there is one."""
    yield on_one_core()
    yield from on_a_gpu()


def on_one_core() -> Row:
    """One image, median of several."""
    import torch

    from thesis_assets.rendering.gaussians import from_colors, to_tensors
    from thesis_assets.rendering.torch_rasteriser import rasterise

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
    return Row("rendering", f"rasterise {COUNT} Gaussians at {SIDE}x{SIDE}, one core", seconds, "s", target="<= 1")


def on_a_gpu() -> Iterator[Row]:
    """gsplat alone, and with the writer behind it; skipped with the reason where there is no GPU."""
    import torch

    drawing = f"rasterise {GPU_COUNT} Gaussians at 940x1280 by gsplat"
    writing = f"{drawing}, rounded there, copied through the ring and written"
    if not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None:
        missing = "gsplat is not installed" if torch.cuda.is_available() else "this machine has no CUDA device"
        for name in (drawing, writing):
            yield Row("rendering", name, None, "", skipped=f"has not run on a GPU yet: {missing}")
        return
    gpu = torch.cuda.get_device_name()
    draw = _full_size_drawing()
    draw()
    torch.cuda.synchronize()

    def draw_all() -> None:
        for _ in range(GPU_RENDERS):
            draw()
        torch.cuda.synchronize()

    yield Row("rendering", f"{drawing}, {gpu}", GPU_RENDERS / seconds_of(draw_all), "images/s")
    yield Row("rendering", f"{writing}, {gpu}", GPU_RENDERS / seconds_of(lambda: _write_all(draw)), "images/s")


def _full_size_drawing() -> Any:
    from thesis_assets.rendering.gaussian_renderer import GsplatRasteriser
    from thesis_assets.rendering.gaussians import from_colors, to_tensors
    from thesis_assets.scenes.camera import Camera

    random = np.random.default_rng(0)
    means = random.normal((0, 0, 3), 0.4, (GPU_COUNT, 3))
    colours, sizes = random.uniform(0, 1, (GPU_COUNT, 3)), random.uniform(0.002, 0.01, (GPU_COUNT, 3))
    cloud = to_tensors(from_colors(means, colours, sizes), "cuda")
    intrinsics = np.array([[1000.0, 0, 470], [0, 1000.0, 640], [0, 0, 1]])
    camera = Camera(0, intrinsics, np.eye(4)[:3], 1280, 940)
    rasteriser = GsplatRasteriser("cuda")
    return lambda: rasteriser.draw(cloud, [camera])[0]


def _write_all(draw: Any) -> None:
    from thesis_assets.images.codecs import encode_jpeg
    from thesis_assets.images.triplet_writer import TripletJob, TripletWriter
    from thesis_assets.schemas.checks import CheckOutcome

    nothing = CheckOutcome(passed=True, message="")
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(folder) / "photograph.jpg"
        photograph.write_bytes(encode_jpeg(np.zeros((1280, 940, 3), np.uint8)))
        with TripletWriter(threads=CORES) as writer:
            for number in range(GPU_RENDERS):
                place = Path(folder) / str(number)
                writer.submit(TripletJob(place, draw(), photograph, photograph, lambda *_: nothing))
