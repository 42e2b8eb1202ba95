"""A whole evaluation tree of 2 cameras x 3 frames x 2 people, made in a few milliseconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thesis_assets import storage
from thesis_assets.evaluation.pose import obj_bytes
from thesis_assets.images.codecs import encode_jpeg, encode_png
from thesis_assets.layout import EvaluationTree, frame_name
from thesis_assets.scenes.bodies import Bodies, write_bodies
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.schemas.evaluation import (
    NVS_CAMERA_COLUMNS,
    NVS_FRAME_COLUMNS,
    POSE_FRAME_COLUMNS,
    POSE_METRICS,
    EvaluationManifest,
    Protocol,
    format_results,
)
from thesis_assets.schemas.scenes import BODY_ARRAYS

CAMERAS = (4, 16)
FRAMES = (0, 1, 2)
HEIGHT, WIDTH = 24, 32
RUN, SCENE, EXP = "tiny_a", "studio_pair03_dance", "demo"

_TETRAHEDRON = np.array([[0, 0, 0], [0.3, 0, 0], [0, 1.5, 0], [0, 0, 0.3]], np.float32)
_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


def make_tree(
    root: Path,
    epochs: tuple[int, ...] = (0, 30),
    cameras: tuple[int, ...] = CAMERAS,
    frames: Sequence[int] = FRAMES,
) -> EvaluationTree:
    tree = EvaluationTree(root / RUN / SCENE, EXP)
    add_input_data(tree, cameras, frames)
    for epoch in epochs:
        add_nvs(tree, epoch, cameras, frames)
        add_pose(tree, epoch, "pose_smplx", frames)
    storage.write_json(
        tree.manifest,
        EvaluationManifest(
            output_layout_version="v1",
            exp_name=EXP,
            scene_name=SCENE,
            tasks=["nvs", "pose_smplx"],
            eval_epochs=[f"epoch_{epoch:04d}" for epoch in epochs],
            nvs_cameras=list(cameras),
            source_camera_id=16,
            pose_eval_world_alignment_method="pelvis_trajectory",
            notes={"run_name": RUN},
        ),
    )
    return tree


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 8, 0), 8, 1)


def camera(cam_id: int, frame: int = 0) -> Camera:
    """At 3 m from the origin, y down; camera 16 moves with the frame."""
    angle = cam_id * 0.05 + (frame * 0.1 if cam_id == 16 else 0.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    extrinsics = np.concatenate([rotation, [[0.0], [0.0], [3.0]]], axis=1)
    intrinsics = np.array([[40.0, 0, WIDTH / 2], [0, 41.0, HEIGHT / 2], [0, 0, 1]])
    return Camera(cam_id, intrinsics, extrinsics, HEIGHT, WIDTH)


def bodies(model: str, frame: int, n_people: int = 2, *, faces: bool = True) -> Bodies:
    parameters = {name: np.zeros((n_people, *shape), np.float32) for name, shape in BODY_ARRAYS[model].items()}
    shifts = np.array([[person * 0.8 + 0.1 * frame, 0, 0] for person in range(n_people)], np.float32)
    vertices = _TETRAHEDRON[None] + shifts[:, None]
    return Bodies(
        model=model,  # type: ignore[arg-type]
        parameters=parameters,
        joints=vertices[:, :3],
        vertices=vertices,
        faces=_FACES if faces else None,
    )


def add_input_data(
    tree: EvaluationTree, all_cameras: tuple[int, ...] = CAMERAS, frames: Sequence[int] = FRAMES
) -> None:
    for split, cameras in (("train", (16,)), ("test", all_cameras)):
        folders = tree.input_data(split)
        for frame in frames:
            fname = frame_name(frame)
            for cam_id in cameras:
                storage.write_bytes(folders.image(cam_id, fname), encode_jpeg(picture(cam_id + frame)))
                write_camera(folders.camera(cam_id, fname), camera(cam_id, frame))
                for person in (0, 1):
                    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                    mask[4:20, 4 + 12 * person : 12 + 12 * person] = 255
                    storage.write_bytes(folders.mask(cam_id, fname, person), encode_png(mask))
            write_bodies(folders.body("smplx", fname), bodies("smplx", frame))
            if split == "test":
                write_bodies(folders.body("smpl", fname), bodies("smpl", frame, faces=False))
            else:
                save_npy(folders.depth(16, fname), np.full((HEIGHT, WIDTH), 2.5 + frame, np.float32))
                debug = folders.nv_generation_debug("images") / "4" / f"{fname}.png"
                storage.write_bytes(debug, encode_png(picture(90 + frame)))


def add_nvs(
    tree: EvaluationTree, epoch: int, cameras: tuple[int, ...] = CAMERAS, frames: Sequence[int] = FRAMES
) -> None:
    task = tree.task(epoch, "nvs")
    rows, per_camera = [], []
    for cam_id in cameras:
        for frame in frames:
            fname = frame_name(frame)
            storage.write_bytes(task.input_render(cam_id, fname), encode_png(picture(cam_id + frame + 1)))
            write_camera(task.input_camera(cam_id, fname), camera(cam_id, frame))
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[4:20, 4:28] = 255
            storage.write_bytes(task.input_mask(cam_id, fname), encode_png(mask))
            storage.write_bytes(task.pred_image(cam_id, fname), encode_png(picture(cam_id + frame + epoch)))
            storage.write_bytes(task.gt_image(cam_id, fname), encode_png(picture(cam_id + frame)))
            rows.append(f"{cam_id},{frame},{20 + frame + epoch / 10:.6f},{0.8:.6f},,{15 + frame:.6f}")
        per_camera.append(f"{cam_id},21.0,0.8,,16.0")
    storage.write_text(task.nvs_per_frame, "\n".join([",".join(NVS_FRAME_COLUMNS), *rows, ""]))
    storage.write_text(task.nvs_per_camera, "\n".join([",".join(NVS_CAMERA_COLUMNS), *per_camera, ""]))
    overall: dict[str, float | None] = {"psnr": 21.0, "ssim": 0.8, "lpips": None, "psnr_channel_sum": 16.0}
    storage.write_text(task.nvs_results, format_results(overall))
    _write_protocol(task.protocol, "nvs", epoch)


def add_pose(tree: EvaluationTree, epoch: int, name: str, frames: Sequence[int] = FRAMES) -> None:
    task = tree.task(epoch, name)
    rows = []
    for frame in frames:
        fname = frame_name(frame)
        write_bodies(task.input_body(fname), bodies(task.body_model, frame))
        for side in ("pred", "gt_inputs"):
            for alignment in ("world_aligned", "root_aligned"):
                shifted = [vertices + (0.1 if side == "pred" else 0) for vertices in bodies("smplx", frame).vertices]
                for person, vertices in enumerate(shifted):
                    content = obj_bytes([vertices], _FACES)
                    storage.write_bytes(task.person_mesh(side, alignment, person, fname), content)
                storage.write_bytes(task.mesh(side, alignment, fname), obj_bytes(shifted, _FACES))
        storage.write_bytes(task.true_body(fname), b"not looked at")
        rows.append(f"{frame},100.0,110.0,,0.5,90.0,95.0,60.0,")
    storage.write_text(task.pose_per_frame, "\n".join([",".join(POSE_FRAME_COLUMNS), *rows, ""]))
    overall = {metric: 100.0 if metric.endswith("mpjpe_mm") else None for metric in POSE_METRICS}
    storage.write_text(task.pose_results, format_results(overall))
    _write_protocol(task.protocol, name, epoch)


def save_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def _write_protocol(path: Path, task: str, epoch: int) -> None:
    storage.write_json(
        path,
        Protocol(
            task=task,
            epoch=epoch,
            step=None if epoch == 0 else 300,
            comparable={"region": "full_frame", "prediction_source": "refine"},
            empty_metrics={"lpips": "no weights at [here](x) | there"},
            input_digest="0" * 64,
            versions={},
        ),
    )
