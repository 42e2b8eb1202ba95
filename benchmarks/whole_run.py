"""A whole experiment of 100 scenes x 8 cameras x 110 frames of 32 x 48 pixels, 77,000 triplets, by the command line.

The targets are the seconds that the version before made-from records took on two such cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from benchmarks.measure import Row
from benchmarks.shard_world import CAMERAS

N_SCENES, N_FRAMES, N_EVALUATED = 100, 110, 20
HEIGHT, WIDTH = 32, 48
RUN = {
    "backend": "tiny",
    "learning_rate": 2e-3,
    "train_batch_size": 2,
    "dataloader_num_workers": 0,
    "mixed_precision": "no",
    "resolution": 32,
    "max_train_steps": 2,
    "checkpointing_steps": 2,
    "eval_freq": 2,
    "selection": {"rule": "last"},
}


def rows() -> Iterator[Row]:
    """Seconds of the data, of a look at it, and of an evaluation of 20 scenes at two epochs."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        names = [f"hi4d_pair{number:03d}_dance" for number in range(N_SCENES)]
        for name in names:
            _write_scene(home, name)
        _write_experiment(home, names[:N_EVALUATED])
        size = f"{N_SCENES * (len(CAMERAS) - 1) * N_FRAMES:,} triplets"
        data = _row(home, f"data of {size}", "<= 150", "run", "--until", "difix_data")
        yield data
        yield from _photographs_across_splits(home, data.value or 0.0, size)
        yield _row(home, f"run again with all data made, {size}", "<= 6", "run", "--until", "difix_data")
        yield _row(home, f"status, {size}", "<= 6", "status")
        _seconds(home, "run", "--until", "selected_checkpoint")
        what = (
            f"evaluation of {N_EVALUATED} scenes at 2 epochs, {N_EVALUATED * (len(CAMERAS) - 1) * N_FRAMES * 2:,} views"
        )
        yield _row(home, what, "<= 510", "run", "--until", "evaluation_manifest")


def _photographs_across_splits(home: Path, data_seconds: float, size: str) -> Iterator[Row]:
    """What the data's checks of people on both sides cost of it, once more by themselves."""
    from thesis_assets.layout import DifixTree
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.splits.near_duplicates import check_near_duplicates
    from thesis_assets.splits.photographs import check_photographs

    tree = DifixTree(home / "difix_tuning_data", "big")
    roots = SceneRoots(home / "canonical_gt", home / "preprocessing", home / "scenes", home / "renders")
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    began = time.perf_counter()
    outcomes = [check_photographs(tree, train, test, roots), check_near_duplicates(train, test, roots)]
    seconds = time.perf_counter() - began
    assert all(outcome.passed for outcome in outcomes)
    name = f"photographs compared across the split of {size}, share of the data's time"
    yield Row("whole run", name, seconds, "s", data_seconds, seconds / data_seconds, "<= 0.1")


def _row(home: Path, name: str, target: str, *command: str) -> Row:
    return Row("whole run", name, _seconds(home, *command), "s", target=target)


def _seconds(home: Path, command: str, *options: str) -> float:
    environment = {
        **os.environ,
        "THESIS_DATA_HOME": str(home),
        "THESIS_EXPERIMENTS_DIR": str(home / "experiments"),
        "THESIS_DEVICE": "cpu",
        "THESIS_SCENE_QUIET_SECONDS": "0",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    began = time.perf_counter()
    words = [sys.executable, "-m", "thesis_assets.cli.main", command, "--exp", "big", *options]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.perf_counter() - began


def _write_scene(home: Path, name: str) -> None:
    from thesis_assets import storage
    from thesis_assets.images.codecs import encode_jpeg, encode_png
    from thesis_assets.layout import frame_name
    from thesis_assets.scenes.listing import SceneRoots

    tree = SceneRoots(home / "canonical_gt", home / "preprocessing", home / "scenes", home / "renders").tree(name)
    storage.write_json(tree.registry_entry, {"seq_name": name, "cam_id": CAMERAS[0]})
    storage.write_text(tree.estimated.preprocess_info, "status: success\n")
    for place, cam_id in enumerate(CAMERAS):
        for frame in range(N_FRAMES):
            fname = frame_name(frame)
            image = _image(name, cam_id, frame)
            storage.write_bytes(tree.ground_truth.image(cam_id, fname), encode_jpeg(image))
            storage.write_bytes(tree.render(cam_id, fname), encode_png(image // 2))
            camera = tree.ground_truth.camera(cam_id, fname)
            camera.parent.mkdir(parents=True, exist_ok=True)
            extrinsics = np.concatenate([np.eye(3), [[-float(place)], [0], [3.0]]], axis=1)[None]
            intrinsics = np.array([[40.0, 0, WIDTH / 2], [0, 40.0, HEIGHT / 2], [0, 0, 1]])[None]
            np.savez(camera, intrinsics=intrinsics, extrinsics=extrinsics)


def _image(name: str, cam_id: int, frame: int) -> np.ndarray:
    """Blocks of colours that no other photograph has."""
    random = np.random.default_rng([*name.encode(), cam_id, frame])
    return np.kron(random.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


def _write_experiment(home: Path, evaluated: list[str]) -> None:
    experiment = {
        "exp_name": "big",
        "generation": {"scenes": ["hi4d_*"], "renders": {"source": "precomputed"}},
        "split": {"test_groups": {"hi4d": [name.split("_")[1] for name in evaluated]}},
        "runs": {"r1": RUN},
        "evaluation": {"scenes": evaluated, "epochs": [0, 1], "tasks": ["nvs"]},
    }
    folder = home / "experiments"
    folder.mkdir()
    (folder / "big.yaml").write_text(yaml.safe_dump(experiment))
