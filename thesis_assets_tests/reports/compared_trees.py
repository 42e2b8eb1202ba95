"""Evaluated trees of a few small pictures whose numbers are known: what a comparison of two runs reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thesis_assets import storage
from thesis_assets.evaluation.metric_tables import frame_table, write_tables
from thesis_assets.evaluation.outputs import staged
from thesis_assets.evaluation.units import outputs_of
from thesis_assets.images.metrics import psnr, psnr_channel_sum, ssim
from thesis_assets.layout import EvaluationTree, TaskTree, epoch_name
from thesis_assets.provenance import Place, Unit, Wanted, begin
from thesis_assets.schemas.evaluation import EvaluationManifest, Protocol

CAMERAS, FRAMES = (4, 28), ("000000", "000001", "000002")
SIZE = (64, 48)
"""Height, width."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def true_picture(scene: str, cam_id: int, fname: str, size: tuple[int, int] = SIZE) -> Pixels:
    rng = np.random.default_rng([len(scene), ord(scene[-1]), cam_id, int(fname)])
    coarse = Image.fromarray(rng.integers(20, 236, (7, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def noisy(picture: Pixels, sigma: float, seed: int) -> Pixels:
    """The picture with noise whose every pixel scales with `sigma`: the same seed with less of it is nearer to the truth."""
    noise = np.random.default_rng(seed).normal(size=picture.shape)
    return np.clip(picture + sigma * noise, 0, 255).astype(np.uint8)


def write_run(
    root: Path,
    run_name: str,
    sigmas: Mapping[str, float],
    *,
    epoch: int = 30,
    step: int | None = 10,
    hurt: Sequence[tuple[str, int, str]] = (),
    size: tuple[int, int] = SIZE,
    cameras: Sequence[int] = CAMERAS,
    frames: Sequence[str] = FRAMES,
    region: str = "full_frame",
    checkpoint: str | None = None,
) -> dict[str, EvaluationTree]:
    """Add one epoch of a run: every scene's pictures have noise of its sigma; those of `hurt` have three times as much."""
    trees = {}
    for scene, sigma in sigmas.items():
        tree = EvaluationTree(root / run_name / scene, "demo")
        task = tree.task(epoch, "nvs")
        rows = []
        for cam_id in cameras:
            for fname in frames:
                truth = true_picture(scene, cam_id, fname, size)
                worse = 3 if (scene, cam_id, fname) in hurt else 1
                predicted = noisy(truth, sigma * worse, seed=cam_id + int(fname))
                for path, pixels in (
                    (task.pred_image(cam_id, fname), predicted),
                    (task.gt_image(cam_id, fname), truth),
                ):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
                values = {
                    "psnr": psnr(predicted, truth),
                    "ssim": ssim(predicted, truth),
                    "psnr_channel_sum": psnr_channel_sum(predicted, truth),
                }
                rows.append({"camera_id": cam_id, "frame_id": int(fname), **values, "lpips": None})
        protocol = _protocol(epoch, step, cameras, frames)
        comparable, details = (
            {**protocol.comparable, "region": region},
            {**protocol.details, "checkpoint_sha256": checkpoint},
        )
        write_numbers(task, rows, protocol.model_copy(update={"comparable": comparable, "details": details}))
        storage.write_json(tree.manifest, _manifest(scene, run_name, tree, cameras))
        trees[scene] = tree
    return trees


def write_numbers(task: TaskTree, rows: list[dict[str, Any]], protocol: Protocol) -> None:
    """The tables and the protocol of a task, with their record."""
    with staged(task.metrics_dir) as (stage,):
        write_tables(stage, task, rows, protocol)
        stage.publish()
    record_again(task)


def record_again(task: TaskTree) -> None:
    """Give a task a record of what lies there: as if it had been measured so."""
    place = Place(task.base, task.made_from)
    wanted = Wanted(task.task, "1", {"rows": storage.sha256_file(frame_table(task))})
    begin(Unit(task.task, place, wanted)).finish(outputs_of(task), flush=False)


def _protocol(epoch: int, step: int | None, cameras: Sequence[int], frames: Sequence[str]) -> Protocol:
    return Protocol(
        task="nvs",
        epoch=epoch,
        step=step,
        comparable={"region": "full_frame", "background": "none", "downscale_factor": 1, "cameras": list(cameras)},
        empty_metrics={"lpips": "not measured here"},
        versions={},
        details={"frames": {str(cam_id): list(frames) for cam_id in cameras}, "source_camera": 16},
    )


def _manifest(scene: str, run_name: str, tree: EvaluationTree, cameras: Sequence[int]) -> EvaluationManifest:
    epochs = [epoch for epoch in (0, 15, 30) if tree.task(epoch, "nvs").protocol.is_file()]
    return EvaluationManifest(
        output_layout_version="v1",
        exp_name="demo",
        scene_name=scene,
        tasks=["nvs"],
        eval_epochs=[epoch_name(epoch) for epoch in epochs],
        nvs_cameras=list(cameras),
        source_camera_id=16,
        pose_eval_world_alignment_method=None,
        notes={"run_name": run_name},
    )
