"""An evaluation tree of full-size pictures and bodies, for the recordings' benchmark; equal frames are links."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photograph import photograph

CAMERAS = (4, 16, 28, 40)
N_PEOPLE, N_VERTICES = 2, 6890
_DISTINCT = 4
"""So many different frames are made; the others are links to them."""


def make_tree(root: Path, n_frames: int):
    """Input data (JPEG at 940x1280, masks) and one epoch (PNG at 470x640, meshes, metrics) of `n_frames` frames."""
    from thesis_assets import storage
    from thesis_assets.evaluation.pose import obj_bytes
    from thesis_assets.images.codecs import encode_jpeg, encode_png
    from thesis_assets.layout import EvaluationTree, frame_name
    from thesis_assets.schemas.evaluation import NVS_FRAME_COLUMNS

    tree = EvaluationTree(root, "bench")
    large = photograph()
    half = np.asarray(Image.fromarray(large).resize((large.shape[1] // 2, large.shape[0] // 2)))
    mask = np.zeros(large.shape[:2], np.uint8)
    mask[200:1100, 300:600] = 255
    vertices, faces = _body()
    contents = [
        {
            "jpeg": encode_jpeg(np.roll(large, 8 * number, axis=1)),
            "truth": encode_png(np.roll(half, 8 * number, axis=1)),
            "pred": encode_png(np.roll(half, 8 * number + 3, axis=1)),
            "mask": encode_png(np.roll(mask, 8 * number, axis=1)),
            "mesh": obj_bytes([vertices + np.float32(0.01 * number)], faces),
        }
        for number in range(_DISTINCT)
    ]
    task, pose, test = tree.task(30, "nvs"), tree.task(30, "pose_smplx"), tree.input_data("test")
    rows = [",".join(NVS_FRAME_COLUMNS)]
    for frame in range(n_frames):
        fname, content = frame_name(frame), contents[frame % _DISTINCT]
        places = {}
        for cam_id in CAMERAS:
            places[test.image(cam_id, fname)] = "jpeg"
            places[test.mask(cam_id, fname, 0)] = "mask"
            places[task.input_render(cam_id, fname)] = "pred"
            places[task.pred_image(cam_id, fname)] = "pred"
            places[task.gt_image(cam_id, fname)] = "truth"
            rows.append(f"{cam_id},{frame},20.0,0.9,0.1,15.2")
        for side in ("pred", "gt_inputs"):
            for person in range(N_PEOPLE):
                places[pose.person_mesh(side, "world_aligned", person, fname)] = "mesh"
        for path, kind in places.items():
            source = root / "distinct" / f"{kind}_{frame % _DISTINCT}{path.suffix}"
            if not source.exists():
                storage.write_bytes(source, content[kind])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(source)
    storage.write_text(task.nvs_per_frame, "\n".join([*rows, ""]))
    storage.write_text(task.nvs_results, "psnr: 20.0000\n")
    return tree


def _body() -> tuple[np.ndarray, np.ndarray]:
    """A sphere with as many vertices as a SMPL body."""
    steps = int(np.sqrt(N_VERTICES))
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, steps), np.linspace(0, np.pi, steps))
    vertices = np.stack([np.sin(up) * np.cos(around), np.cos(up), np.sin(up) * np.sin(around)], axis=-1).reshape(-1, 3)
    first = (np.arange(steps - 1)[:, None] * steps + np.arange(steps - 1)).reshape(-1)
    faces = np.concatenate(
        [np.stack([first, first + 1, first + steps], 1), np.stack([first + 1, first + steps + 1, first + steps], 1)]
    )
    return vertices.astype(np.float32), faces.astype(np.int32)


def decoded(path: Path) -> np.ndarray:
    """A picture as a plain loop would read it."""
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())))
