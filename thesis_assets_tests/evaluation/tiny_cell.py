"""One evaluated scene of a few kilobytes: three cameras, four frames, two people, renders, a run with two checkpoints."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from thesis_assets.evaluation.cell import EvaluationCell, silent
from thesis_assets.evaluation.input_data import link_input_data
from thesis_assets.evaluation.manifest import write_manifest
from thesis_assets.evaluation.nvs import measure_views
from thesis_assets.evaluation.pose import measure_poses
from thesis_assets.evaluation.pose_metrics import RigidMotion
from thesis_assets.evaluation.scene_steps import predict_views
from thesis_assets.evaluation.shared_work import Outcomes, SceneEpochs, joined
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.launch.mapping import map_items
from thesis_assets.layout import DifixTree, EvaluationTree, SceneTree
from thesis_assets.samples.export import ShardWork, export_shard
from thesis_assets.scenes.bodies import Bodies, write_bodies
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import open_scene, write_registry
from thesis_assets.schemas.evaluation import PredictionRecord, Protocol
from thesis_assets.schemas.scenes import BODY_ARRAYS, IdentityAlignment, SceneRegistryEntry

SCENE = "studio_pair03_dance"
HEIGHT, WIDTH = 48, 40
CAMERAS, SOURCE, FRAMES = (4, 16, 28), 16, ("000000", "000001", "000002", "000003")
TARGETS = (4, 28)
STEPS = (10, 20)
MOTION = RigidMotion(Rotation.from_euler("xyz", [0.2, -0.4, 0.1]).as_matrix(), np.array([0.3, -0.2, 0.5]))
"""From the ground truth's world to the estimated one."""


def make_cell(folder: Path, **evaluation: Any) -> EvaluationCell:
    """Write everything a cell reads, and open it. `evaluation`: keys of that part of the experiment file."""
    roots = SceneRoots(folder / "gt", folder / "estimated", folder / "registry", folder / "renders")
    tree = roots.tree(SCENE)
    _write_images(tree)
    _write_bodies(tree)
    tree.registry_entry.parent.mkdir(parents=True)
    swapped = IdentityAlignment(manual_preproc_to_gt={0: 1, 1: 0})
    write_registry(tree.registry_entry, SceneRegistryEntry(seq_name=SCENE, cam_id=SOURCE, identity_alignment=swapped))
    difix = DifixTree(folder / "difix", "demo")
    for step in STEPS:
        _write_checkpoint(difix, step)
    cell = open_cell(folder, **evaluation)
    export_shard(ShardWork(difix, roots, SCENE, cell.experiment.generation, "pair03"))
    return cell


def open_cell(folder: Path, **evaluation: Any) -> EvaluationCell:
    """The cell over files that lie there already."""
    roots = SceneRoots(folder / "gt", folder / "estimated", folder / "registry", folder / "renders")
    run = {"max_train_steps": 20, "checkpointing_steps": 10, "resolution": 48, "mixed_precision": "no"}
    spec = ExperimentSpec.model_validate(
        {
            "exp_name": "demo",
            # Camera 4 alone has samples, so that camera 28 is rendered.
            "generation": {
                "scenes": ["studio_*"],
                "renders": {"source": "precomputed"},
                "target_cameras": {"mode": "explicit", "ids": [4]},
            },
            "split": {"test_groups": {"studio": ["pair03"]}},
            "runs": {"tiny_a": run},
            "evaluation": {"scenes": [SCENE], "epochs": [0, 15, 30], "cameras": TARGETS, **evaluation},
        }
    )
    return EvaluationCell(
        exp_name="demo",
        run_name="tiny_a",
        experiment=spec,
        difix=DifixTree(folder / "difix", "demo"),
        scene=open_scene(roots, SCENE),
        tree=EvaluationTree(folder / "results" / "tiny_a" / SCENE, "demo"),
        device="cpu",
        lpips_weights=folder / "lpips",
    )


def reopened(cell: EvaluationCell) -> EvaluationCell:
    """The same cell with the scene's folders listed anew."""
    return replace(cell, scene=open_scene(cell.scene.roots, SCENE))


def worked_off(
    step: Callable[[SceneEpochs], Any],
    cells: Sequence[EvaluationCell],
    workers: int = 1,
    say: Callable[[str], None] = silent,
) -> Outcomes[Any]:
    """What comes of one step of the evaluation of some scenes."""
    items = [SceneEpochs(cell, tuple(cell.epoch_steps())) for cell in cells]
    return joined(map_items(step, items, workers=workers, on_line=say))


def predict(cells: Sequence[EvaluationCell], workers: int = 1, say: Callable[[str], None] = silent) -> Outcomes[Any]:
    return worked_off(predict_views, cells, workers, say)


def compare(cells: Sequence[EvaluationCell], workers: int = 1, say: Callable[[str], None] = silent) -> Outcomes[Any]:
    return worked_off(measure_views, cells, workers, say)


def evaluate(cell: EvaluationCell, say: Callable[[str], None] = silent) -> None:
    """Every step of the evaluation, as the graph calls them."""
    link_input_data(cell, say)
    predict([cell], 1, say).raise_failures()
    compare([cell], 1, say).raise_failures()
    for task in ("pose_smplx", "pose_smpl"):
        if task in cell.tasks:
            worked_off(functools.partial(measure_poses, task), [cell], 1, say).raise_failures()
    write_manifest(cell, say)


def predicted_epoch(cell: EvaluationCell, epoch: int) -> PredictionRecord:
    """Make the predictions of a scene, and return what is said of one epoch."""
    outcomes = predict([cell])
    outcomes.raise_failures()
    return outcomes.records[SCENE, epoch]


def compared_epoch(cell: EvaluationCell, epoch: int, say: Callable[[str], None] = silent) -> Protocol:
    """Compare the views of a scene, and return the protocol of one epoch."""
    outcomes = compare([cell], 1, say)
    outcomes.raise_failures()
    return outcomes.records[SCENE, epoch]


def true_image(cam_id: int, fname: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(HEIGHT, WIDTH, 3): smooth, and another one for each view."""
    rng = np.random.default_rng(100 * cam_id + int(fname))
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def camera(cam_id: int) -> Camera:
    intrinsics = np.array([[60.0, 0, WIDTH / 2], [0, 60.0, HEIGHT / 2], [0, 0, 1]])
    turn = Rotation.from_euler("y", 0.02 * (cam_id - SOURCE)).as_matrix()
    return Camera(cam_id, intrinsics, np.hstack([turn, [[0.0], [0.0], [4.0]]]), HEIGHT, WIDTH)


def write_png(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write_images(tree: SceneTree) -> None:
    for cam_id in CAMERAS:
        for fname in FRAMES:
            pixels, key = true_image(cam_id, fname), (cam_id, fname)
            write_png(tree.ground_truth.image(*key, ".png"), pixels)
            write_camera(tree.ground_truth.camera(*key), camera(cam_id))
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[8:40, 6:34] = 255
            for person, part in (("0", slice(0, 20)), ("1", slice(20, None)), ("all", slice(None))):
                own = np.zeros_like(mask)
                own[:, part] = mask[:, part]
                write_png(tree.ground_truth.mask(*key, person), own)
            noise = np.random.default_rng(cam_id + int(fname)).integers(-40, 41, pixels.shape)
            write_png(tree.render(*key), np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8))
    for fname in FRAMES:
        moved = camera(SOURCE).extrinsics[:, :3] @ MOTION.inverse().matrix[:3]
        moved[:, 3] += camera(SOURCE).translation
        write_camera(
            tree.estimated.camera(SOURCE, fname), Camera(SOURCE, camera(SOURCE).intrinsics, moved, HEIGHT, WIDTH)
        )
        depth = np.linspace(2, 5, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
        path = tree.estimated.depth(4, fname)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, depth)


def true_people(fname: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(2, 5, 3) joints and (2, 12, 3) vertices, metres."""
    rng = np.random.default_rng(int(fname))
    points = rng.normal(scale=0.3, size=(2, 17, 3)) + np.array([[[-0.4, 0, 0]], [[0.4, 0, 0.6]]])
    points[0] += [0.05 * int(fname), 0, 0]
    return points[:, :5].astype(np.float32), points[:, 5:].astype(np.float32)


def bodies(model: str, joints: np.ndarray[Any, Any], vertices: np.ndarray[Any, Any], **more: Any) -> Bodies:
    parameters = {name: np.zeros((len(joints), *shape), np.float32) for name, shape in BODY_ARRAYS[model].items()}
    return Bodies("smplx" if model == "smplx" else "smpl", parameters, joints, vertices, **more)


def _write_bodies(tree: SceneTree) -> None:
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    for model in ("smplx", "smpl"):
        for fname in FRAMES:
            joints, vertices = true_people(fname)
            contact = np.zeros((2, 12), np.int32)
            contact[0, 3] = 7 if fname == "000002" else 0
            write_bodies(
                tree.ground_truth.body(model, fname), bodies(model, joints, vertices, faces=faces, contact=contact)
            )
            noise = np.random.default_rng(7 + int(fname)).normal(scale=0.02, size=(2, 17, 3))
            moved = (MOTION.move(joints) + noise[:, :5], MOTION.move(vertices) + noise[:, 5:])
            estimated = [points[::-1].astype(np.float32) for points in moved]  # The two people are swapped.
            write_bodies(tree.estimated.body(model, fname), bodies(model, estimated[0], estimated[1], faces=faces))


def _write_checkpoint(difix: DifixTree, step: int) -> None:
    import torch

    from thesis_assets.tuning.checkpoints import RESUME_KEYS, save_checkpoint
    from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner

    torch.manual_seed(step)
    architecture = TinyArchitecture(8, 8, 8, 1)
    network = TinyRefiner(architecture)
    with torch.no_grad():
        network.head.weight.normal_(std=0.02)  # A fresh network refines nothing.
    state = {
        **{key: {} for key in RESUME_KEYS},
        "state_dict_unet": network.state_dict(),
        "architecture": architecture.as_numbers(),
        "resolution": 48,
        "step": step,
    }
    save_checkpoint(
        difix.tuning_run("tiny_a"), state, metrics={}, data_json_sha256="0" * 64, hyperparameter_digest="0" * 64
    )
