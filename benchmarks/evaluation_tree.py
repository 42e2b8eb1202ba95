"""Evaluating a generated tree of 3 scenes x 8 cameras x 150 frames x 3 epochs of small images: time, and the memory of a process.

Images are 48 x 64, so that what is measured is what the evaluation does around them; their own cost stands in `image_metrics` and
`image_codecs`. Memory is bounded where a tree of ten times the frames takes no more than one of a tenth.
Run alone: `python -m benchmarks.evaluation_tree <empty folder> <frames> <workers>` prints one JSON line.
"""

import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Row, peak_megabytes

SCENES = ("studio_pair00_dance", "studio_pair01_hug", "studio_pair02_fight")
SOURCE, TARGETS = 0, tuple(range(1, 9))
N_FRAMES, FEW_FRAMES = 150, 15
HEIGHT, WIDTH = 48, 64
RESOLUTION = 48
STEPS = (5, 10)
EPOCHS = (0, 15, 30)
N_PEOPLE, N_JOINTS, N_VERTICES = 2, 24, 100
PICTURES = 16
"""Of the kilobytes that the kernel counts in."""


def rows() -> Iterator[Row]:
    """The whole tree on all cores, and the same with a tenth of its frames."""
    many, few = evaluated(N_FRAMES), evaluated(FEW_FRAMES)
    tree = (
        f"{len(SCENES)} scenes x {len(TARGETS)} cameras x {N_FRAMES} frames x {len(EPOCHS)} epochs of {HEIGHT}x{WIDTH}"
    )
    yield Row("evaluation", f"{tree}: predictions, three tasks, manifests", many["seconds"], "s")
    yield Row("evaluation", f"{tree}: compared views a second", many["views"] / many["seconds"], "1/s")
    yield Row("evaluation", f"{tree}: evaluated again, nothing changed", many["again"], "s")
    name = f"{tree}: peak memory of a process, against {FEW_FRAMES} frames"
    ratio = many["megabytes"] / few["megabytes"]
    yield Row("evaluation", name, many["megabytes"], "MB", few["megabytes"], ratio, "<= 1.15")


def evaluated(n_frames: int) -> dict[str, float]:
    """What a process of its own measured: memory is counted from its start."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.evaluation_tree", folder, str(n_frames), str(os.cpu_count())]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main(folder: Path, n_frames: int, workers: int) -> None:
    for number, name in enumerate(SCENES):
        write_scene(folder, name, n_frames, number)
    for step in STEPS:
        write_checkpoint(folder, step)
    began = time.perf_counter()
    views = evaluate(folder, workers)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    evaluate(folder, workers)
    again = time.perf_counter() - began
    # Its workers are children of this small process: their `ru_maxrss` begins with no more than it had.
    peak = max(peak_megabytes(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6)
    print(json.dumps({"seconds": seconds, "again": again, "views": views, "megabytes": peak}))


def evaluate(folder: Path, workers: int) -> int:
    """Every step as the graph calls them. Returns how many views were compared."""
    from thesis_assets.evaluation.input_data import link_input_data
    from thesis_assets.evaluation.manifest import write_manifest
    from thesis_assets.evaluation.nvs import measure_views
    from thesis_assets.evaluation.pose import measure_poses
    from thesis_assets.evaluation.scene_steps import predict_views
    from thesis_assets.evaluation.shared_work import SceneEpochs, joined
    from thesis_assets.launch.mapping import map_items

    cells = [open_cell(folder, name) for name in SCENES]
    for cell in cells:
        link_input_data(cell)
    scenes = [SceneEpochs(cell, EPOCHS) for cell in cells]
    parts = [SceneEpochs(cell, (epoch,)) for epoch in EPOCHS for cell in cells]
    predicted = joined(map_items(predict_views, parts, workers=workers))
    measured = joined(map_items(measure_views, parts, workers=workers))
    poses = [functools.partial(measure_poses, task) for task in ("pose_smplx", "pose_smpl")]
    for outcomes in (predicted, measured, *(joined(map_items(step, scenes, workers=workers)) for step in poses)):
        outcomes.raise_failures()
    for cell in cells:
        assert len(write_manifest(cell).eval_epochs) == len(EPOCHS)
    return sum(record.n_images for record in predicted.records.values())


def open_cell(folder: Path, name: str, epochs: Any = EPOCHS, results: str = "results") -> Any:
    from thesis_assets.evaluation.cell import EvaluationCell
    from thesis_assets.experiments import ExperimentSpec
    from thesis_assets.layout import DifixTree, EvaluationTree
    from thesis_assets.scenes.scene import open_scene

    run = {
        "max_train_steps": STEPS[-1],
        "checkpointing_steps": STEPS[0],
        "resolution": RESOLUTION,
        "mixed_precision": "no",
    }
    spec = ExperimentSpec.model_validate(
        {
            "exp_name": "bench",
            "generation": {"scenes": ["studio_*"], "renders": {"source": "precomputed"}},
            "split": {"test_fraction": 0.5},
            "runs": {"r": run},
            "evaluation": {"scenes": list(SCENES), "epochs": epochs},
        }
    )
    tree = EvaluationTree(folder / results / name, "bench")
    return EvaluationCell(
        "bench", "r", spec, DifixTree(folder / "difix", "bench"), open_scene(roots(folder), name), tree, "cpu"
    )


def roots(folder: Path) -> Any:
    from thesis_assets.scenes.listing import SceneRoots

    return SceneRoots(folder / "gt", folder / "pre", folder / "registry", folder / "renders")


def write_scene(folder: Path, name: str, n_frames: int, seed: int) -> None:
    """Photographs, masks, cameras, renders and bodies; a few pictures, again and again."""
    from thesis_assets import storage
    from thesis_assets.images.codecs import encode_jpeg, encode_png
    from thesis_assets.layout import frame_name

    rng = np.random.default_rng(seed)
    tree = roots(folder).tree(name)
    storage.write_json(tree.registry_entry, {"seq_name": name, "cam_id": SOURCE})
    pictures = [rng.integers(0, 256, (6, 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8) for _ in range(PICTURES)]
    renders = [
        encode_png(np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)) for picture in pictures
    ]
    photographs = [encode_jpeg(picture) for picture in pictures]
    people = np.zeros((HEIGHT, WIDTH), np.uint8)
    people[8:40, 16:48] = 255
    mask = encode_png(people)
    for frame in range(n_frames):
        fname = frame_name(frame)
        for cam_id in (SOURCE, *TARGETS):
            key, place = (cam_id, fname), (frame + 5 * cam_id) % PICTURES
            write(tree.ground_truth.image(*key), photographs[place])
            write(tree.ground_truth.mask(*key), mask)
            write_camera(tree.ground_truth.camera(*key))
            if cam_id != SOURCE:
                write(tree.render(*key), renders[place])
        for model in ("smplx", "smpl"):
            write_bodies(tree, model, fname, rng)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_camera(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    intrinsics = np.array([[60.0, 0, WIDTH / 2], [0, 60.0, HEIGHT / 2], [0, 0, 1]])[None]
    np.savez(path, intrinsics=intrinsics, extrinsics=np.concatenate([np.eye(3), [[0.0], [0.0], [4.0]]], axis=1)[None])


def write_bodies(tree: Any, model: Any, fname: str, rng: np.random.Generator) -> None:
    from thesis_assets.schemas.scenes import BODY_ARRAYS

    parameters: Any = {name: np.zeros((N_PEOPLE, *shape), np.float32) for name, shape in BODY_ARRAYS[model].items()}
    points = rng.normal(scale=0.3, size=(N_PEOPLE, N_JOINTS + N_VERTICES, 3)).astype(np.float32)
    for folders, error in ((tree.ground_truth, 0.0), (tree.estimated, 0.05)):
        moved = points + rng.normal(scale=error, size=points.shape).astype(np.float32)
        path = folders.body(model, fname)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **parameters, joints=moved[:, :N_JOINTS], vertices=moved[:, N_JOINTS:])


def write_checkpoint(folder: Path, step: int, resolution: int = RESOLUTION) -> None:
    import torch

    from thesis_assets.layout import DifixTree
    from thesis_assets.tuning.checkpoints import RESUME_KEYS, save_checkpoint
    from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner

    torch.manual_seed(step)
    architecture = TinyArchitecture(8, 8, 8, 1)
    weights = TinyRefiner(architecture).state_dict()
    state = {
        **{key: {} for key in RESUME_KEYS},
        **{
            "state_dict_unet": weights,
            "architecture": architecture.as_numbers(),
            "resolution": resolution,
            "step": step,
        },
    }
    run = DifixTree(folder / "difix", "bench").tuning_run("r")
    save_checkpoint(run, state, metrics={}, data_json_sha256="0" * 64, hyperparameter_digest="0" * 64)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
