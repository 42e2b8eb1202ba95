"""What the scripts before left: a snapshot with `rcam` ids and twelve-key rows, a run, evaluated scenes, and `paths.yaml`."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thesis_assets.layout import DifixTree

TRAIN, TEST = "studio_pair00_dance", "studio_pair02_hug"
EVALUATED = "studio_pair03_dance"
SOURCE, TARGETS, FRAMES = 16, (4, 28), ("000000", "000001")
STEPS = (1, 3)
SCORES = {0: 15.25, 30: 15.5}
"""By epoch the older PSNR of every frame: errors summed over channels."""


def write_old_snapshot(root: Path, exp_name: str = "v0") -> Path:
    """`root/<exp_name>`: eight samples, a test and a training group, a run with two checkpoints of the published cadence."""
    folder = root / exp_name
    rows = []
    for scene, split in ((TRAIN, "train"), (TEST, "test")):
        for cam_id in TARGETS:
            for fname in FRAMES:
                sample_id = f"{scene}__tcam{cam_id}__rcam{SOURCE}__tf{fname}__rf{fname}"
                row = {
                    **{
                        "sample_id": sample_id,
                        "dataset": "studio",
                        "scene_name": scene,
                        "group_id": scene.split("_")[1],
                    },
                    **{"target_cam_id": cam_id, "reference_cam_id": SOURCE},
                    **{"target_fname": fname, "reference_fname": fname, "split": split},
                    "image_path": f"samples/{sample_id}/image.png",
                    "target_image_path": f"samples/{sample_id}/target_image.jpg",
                    "ref_image_path": f"samples/{sample_id}/ref_image.jpg",
                }
                rows.append(row)
                _write_sample(folder / "samples" / sample_id, row)
    manifests = folder / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "all_samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries: dict[str, Any] = {"train": {}, "test": {}}
    for row in rows:
        paths = {key: str(folder / row[f"{key}_path"]) for key in ("image", "target_image", "ref_image")}
        entries[row["split"]][row["sample_id"]] = {**paths, "prompt": "make it sharp"}
    (folder / "difix").mkdir()
    (folder / "difix" / "data.json").write_text(json.dumps(entries))
    (folder / "meta").mkdir()
    (folder / "meta" / "generation_config.yaml").write_text(
        "sampling:\n  frame_stride: 2\n  min_mask_coverage: 0.1\n  wild_guess: 3\napply_mask: true\n"
    )
    _write_run(root, exp_name)
    return folder


def _write_sample(folder: Path, row: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(list(row["sample_id"].encode()))
    for name in ("image.png", "target_image.jpg", "ref_image.jpg"):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(folder / name)
    (folder / "meta.json").write_text(json.dumps(row))


def _write_run(root: Path, exp_name: str) -> None:
    from thesis_assets.tuning.checkpoints import RESUME_KEYS, save_checkpoint
    from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner

    tree = DifixTree(root, exp_name)
    run = tree.tuning_run("lr2e5")
    architecture = TinyArchitecture(8, 8, 8, 1)
    for step in STEPS:
        state = {
            **{key: {} for key in RESUME_KEYS},
            "state_dict_unet": TinyRefiner(architecture).state_dict(),
            "step": step,
        }
        state |= {"architecture": architecture.as_numbers(), "resolution": 32}
        save_checkpoint(run, state, metrics={}, data_json_sha256="0" * 64, hyperparameter_digest="0" * 64)
        run.checkpoint_info(step).unlink()
    config = run.base / "meta" / "run_config.yaml"
    config.parent.mkdir()
    config.write_text(
        "train:\n  learning_rate: 3.0e-5\n  checkpointing_steps: 2\n  resolution: 576\n  seed: nine\n  odd: 1\n"
    )


def write_old_scores(root: Path, scene: str = EVALUATED, exp_name: str = "w1") -> Path:
    """`root/<scene>/evaluation/<exp_name>`: metric files of two epochs and the pictures beside them."""
    folder = root / scene / "evaluation" / exp_name
    for epoch, psnr in SCORES.items():
        place = folder / f"epoch_{epoch:04d}"
        for cam_id in TARGETS:
            pictures = place / f"cam_{cam_id}" / "metrics_input"
            pictures.mkdir(parents=True)
            for fname in FRAMES:
                Image.new("RGB", (32, 24), (epoch, cam_id, 90)).save(pictures / f"{fname}.jpg")
        lines = [f"{cam},{int(fname)},{psnr},0.91,0.08" for cam in TARGETS for fname in FRAMES]
        (place / "metrics_all_cams_per_frame.csv").write_text(
            "\n".join(["camera_id,frame_id,psnr,ssim,lpips", *lines]) + "\n"
        )
        cameras = [f"{cam},{psnr},0.91,0.08" for cam in TARGETS]
        (place / "metrics_avg_per_camera.csv").write_text("\n".join(["camera_id,psnr,ssim,lpips", *cameras]) + "\n")
        (place / "novel_view_results.txt").write_text(f"psnr: {psnr:.4f}\nssim: 0.9100\nlpips: 0.0800\n")
    return folder


def write_old_paths(file: Path, scene_home: Path) -> None:
    """A `paths.yaml` with references, to roots that are there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"root: {scene_home}\n"
        "paths:\n"
        "  canonical_gt_root_dir: ${root}/canonical_gt\n"
        "  preprocessing_root_dir: ${paths.also}/preprocessing\n"
        "  also: ${root}\n"
        "  results_root_dir: ${oc.env:HOME,/nowhere}/results\n"
        "  hf_cache_dir: ${missing}/cache\n"
        "  conda_env: difix\n"
    )


def state_of(root: Path) -> dict[str, str]:
    """Every file's path, bytes, mode and modification time; every folder's mode: what must stay as it was."""
    state = {}
    for current, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(current, name)
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            state[str(path.relative_to(root))] = (
                f"{content} {status.st_mode:o} {status.st_mtime_ns if path.is_file() else ''}"
            )
    return state
