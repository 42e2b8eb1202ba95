"""The `tiny` trainer through its real program against a bare torch loop over the same network, images and batches.

Both train in this process, on the same threads. The trainer's rate is that of its steps as its progress file tells them: with
loading, accelerate, the checks for finite numbers and the reports; the first steps of each are not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import Row, paired
from thesis_assets.storage import write_json

SIDE = 128
BATCH = 4
N_SAMPLES = 64
WARM_STEPS = 5
STEPS = 45
ROUNDS = 5


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        data_json = write_data(Path(folder))
        rounds = iter(range(10**6))
        rate, bare, ratio = paired(
            lambda: trainer_rate(data_json, Path(folder) / f"run_{next(rounds)}"),
            lambda: bare_rate(data_json),
            ROUNDS,
        )
        with_average, without, kept = paired(
            lambda: trainer_rate(data_json, Path(folder) / f"run_{next(rounds)}", ema_decay=0.999),
            lambda: trainer_rate(data_json, Path(folder) / f"run_{next(rounds)}"),
            ROUNDS,
        )
    name = f"`tiny` trainer, {SIDE}x{SIDE}, batch {BATCH}, against a bare torch loop on the same data"
    yield Row("tuning", name, rate, "samples/s", bare, ratio, ">= 0.9")
    name = "the same with averaged weights (`ema_decay`), against without"
    yield Row("tuning", name, with_average, "samples/s", without, kept, ">= 0.95")


def write_data(folder: Path) -> Path:
    """Smooth pictures, darker and noisy as renders; a data.json of training samples only."""
    entries = {}
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for number in range(N_SAMPLES):
        random = np.random.default_rng(number)
        target = np.stack([np.sin(6 * x + number), np.cos(5 * y - number), np.sin(4 * (x + y))], axis=-1) * 0.4 + 0.5
        render = np.clip(target * 0.8 + random.normal(0, 0.03, target.shape), 0, 1)
        paths = {}
        for name, image in (("image", render), ("target_image", target), ("ref_image", target[:, ::-1])):
            path = folder / f"{number}_{name}.png"
            Image.fromarray((image * 255).astype(np.uint8)).save(path)
            paths[name] = str(path)
        entries[f"sample_{number:03d}"] = {**paths, "prompt": "remove degradation"}
    data_json = folder / "data.json"
    write_json(data_json, {"train": entries, "test": {}})
    return data_json


def trainer_rate(data_json: Path, run: Path, **more: float) -> float:
    """Samples a second of the program's steps. `more`: further flags."""
    from thesis_assets.layout import TuningRunTree
    from thesis_assets.tuning.backends import TINY
    from thesis_assets.tuning.progress_file import ProgressReader
    from thesis_assets.tuning.trainer_program import main

    flags = {
        "dataset_path": data_json,
        "output_dir": run,
        "tracker_run_name": run.name,
        "learning_rate": 1e-3,
        "max_train_steps": STEPS,
        "checkpointing_steps": STEPS,
        "resolution": SIDE,
        "train_batch_size": BATCH,
        **more,
    }
    status = main([part for name, value in flags.items() for part in (f"--{name}", str(value))], TINY)
    assert status == 0
    lines = [line for line in ProgressReader(TuningRunTree(run).progress).new_lines() if line.event == "step"]
    return (STEPS - WARM_STEPS) * BATCH / (lines[-1].seconds - lines[WARM_STEPS - 1].seconds)


def bare_rate(data_json: Path) -> float:
    """The same steps by hand: every image in memory, a loader, forward, backward, clip, step; the loss is read each step."""
    import torch
    from torch.utils.data import DataLoader

    from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner
    from thesis_assets.tuning.triplets import read_data_json, read_triplet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    triplets = [read_triplet(name, entry, SIDE) for name, entry in read_data_json(data_json).train.items()]
    samples = [(one.render, one.target, one.reference) for one in triplets]
    network = TinyRefiner(TinyArchitecture()).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    # A list is a dataset to torch, not to its types.
    loader: Any = DataLoader(samples, batch_size=BATCH, shuffle=True, drop_last=True)  # type: ignore[arg-type]
    step, began = 0, 0.0
    while True:
        for batch in loader:
            renders, targets, references = (images.to(device).float() / 255 for images in batch)
            loss = (renders + network(renders, references) - targets).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            step += 1
            if step == WARM_STEPS:
                began = time.perf_counter()
            if step == STEPS:
                return (STEPS - WARM_STEPS) * BATCH / (time.perf_counter() - began)
