"""Evaluated scenes in the three forms in which scripts have left them, beside their configuration: whole, or spoilt in one place.

In January an experiment lay below the scene's `evaluation/`, in February the scene's experiments had an `evaluation/` each, and the
head has the output document's folders of tasks. Numbers differ from row to row, and have all the digits of a float.
"""

import csv
import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from thesis_assets_tests.adoption.older_trees import (
    EVALUATED,
    SOURCE,
    TARGETS,
    TEST,
    TRAIN,
    write_old_paths,
    write_old_snapshot,
)

EPOCHS = (0, 30)
FRAMES = (0, 1, 7)
NVS = ("psnr", "ssim", "lpips")
POSE = ("rr_mpjpe_mm", "rr_mve_mm", "cd_mm", "pcdr")
WITHOUT_CONTACT = ("rr_mpjpe_mm", "rr_mve_mm", "pcdr")
EXPERIMENTS = {"january": "w1", "february": "w2", "head": "w3"}
"""The whole experiment of each form; every one is of two scenes."""

Rows = list[dict[str, float]]


def nvs_rows(seed: str, *, source: bool) -> Rows:
    """A row a camera and frame; with those of the source camera, which is far better than the others."""
    drawn = random.Random(seed)
    return [
        {
            "camera_id": cam_id,
            "frame_id": frame,
            "psnr": drawn.uniform(30, 34) if cam_id == SOURCE else drawn.uniform(14, 19),
            "ssim": drawn.uniform(0.8, 0.95),
            "lpips": drawn.uniform(0.05, 0.2),
        }
        for cam_id in sorted((*TARGETS, *([SOURCE] if source else [])))
        for frame in FRAMES
    ]


def pose_rows(seed: str, columns: Sequence[str] = POSE) -> Rows:
    drawn = random.Random(seed)
    return [{"frame_id": frame, **{name: drawn.uniform(20, 120) for name in columns}} for frame in FRAMES]


def write_csv(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_means(path: Path, rows: Rows, names: Sequence[str]) -> None:
    means = {name: statistics.fmean(row[name] for row in rows) if name in rows[0] else float("nan") for name in names}
    path.write_text("".join(f"{name}: {value:.4f}\n" for name, value in means.items()))


def write_nvs(folder: Path, rows: Rows) -> None:
    """The three metric files; the text is the mean over all rows that the table has."""
    write_csv(folder / "metrics_all_cams_per_frame.csv", rows)
    cameras = sorted({row["camera_id"] for row in rows})
    means = [
        {"camera_id": cam_id}
        | {name: statistics.fmean(row[name] for row in rows if row["camera_id"] == cam_id) for name in NVS}
        for cam_id in cameras
    ]
    write_csv(folder / "metrics_avg_per_camera.csv", means)
    write_means(folder / "novel_view_results.txt", rows, NVS)


def write_pose(folder: Path, model: str, rows: Rows) -> None:
    write_csv(folder / f"{model}_pose_estimation_metrics_per_frame.csv", rows)
    write_means(folder / f"{model}_pose_estimation_overall_results.txt", rows, POSE)


def write_pictures(folder: Path) -> None:
    for cam_id in TARGETS:
        pictures = folder / f"cam_{cam_id}" / "metrics_input"
        pictures.mkdir(parents=True)
        for frame in FRAMES:
            Image.new("RGB", (32, 24), (frame, cam_id, 90)).save(pictures / f"{frame:06d}.jpg")


def january(results: Path, scene: str, exp_name: str, epochs: Sequence[int] = EPOCHS) -> Path:
    """`<scene>/evaluation/<exp>/epoch_XXXX/`: novel views, the source camera among them."""
    folder = results / scene / "evaluation" / exp_name
    for epoch in epochs:
        place = folder / f"epoch_{epoch:04d}"
        write_nvs(place, nvs_rows(f"{scene} {exp_name} {epoch}", source=True))
        write_pictures(place)
    return folder


def february(results: Path, scene: str, exp_name: str, epochs: Sequence[int] = EPOCHS) -> Path:
    """`<scene>/<exp>/evaluation/epoch_XXXX/`: no folders of tasks, no manifest, poses without contact."""
    folder = results / scene / exp_name
    for epoch in epochs:
        place, seed = folder / "evaluation" / f"epoch_{epoch:04d}", f"{scene} {exp_name} {epoch}"
        write_nvs(place, nvs_rows(seed, source=True))
        write_pictures(place)
        for model in ("smplx", "smpl"):
            write_pose(place, model, pose_rows(f"{seed} {model}", WITHOUT_CONTACT))
    return folder


def head(results: Path, scene: str, exp_name: str, epochs: Sequence[int] = EPOCHS) -> Path:
    """The document's tree, without `protocol.json`; of the source camera nothing."""
    folder = results / scene / exp_name
    for epoch in epochs:
        place, seed = folder / "evaluation" / f"epoch_{epoch:04d}", f"{scene} {exp_name} {epoch}"
        write_nvs(place / "nvs" / "metrics", nvs_rows(seed, source=False))
        for model in ("smplx", "smpl"):
            write_pose(place / f"pose_{model}" / "metrics", model, pose_rows(f"{seed} {model}"))
    manifest = {
        "output_layout_version": "v1",
        "exp_name": exp_name,
        "scene_name": scene,
        "tasks": ["nvs", "pose_smplx", "pose_smpl"],
        "eval_epochs": [f"epoch_{epoch:04d}" for epoch in epochs],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def nvs_folder(results: Path, form: str, scene: str, exp_name: str, epoch: int) -> Path:
    """Where the metric files of novel views lie."""
    name = f"epoch_{epoch:04d}"
    return {
        "january": results / scene / "evaluation" / exp_name / name,
        "february": results / scene / exp_name / "evaluation" / name,
        "head": results / scene / exp_name / "evaluation" / name / "nvs" / "metrics",
    }[form]


def write_configuration(root: Path, scene_home: Path) -> None:
    """`configs/`: `paths.yaml` with references, the scenes' JSON files, and a choice of them."""
    write_old_paths(root / "configs" / "paths.yaml", scene_home)
    for folder, names in (("scenes", (TRAIN, TEST, EVALUATED)), ("scenes_hi4d_test", (EVALUATED,))):
        (root / "configs" / folder).mkdir()
        for name in names:
            entry = (scene_home / "scenes" / f"{name}.json").read_text()
            (root / "configs" / folder / f"{name}.json").write_text(entry)


def write_all(root: Path, scene_home: Path) -> Path:
    """A snapshot with its run, the three forms of two scenes each, and the configuration."""
    write_old_snapshot(root / "difix_tuning_data")
    for scene in (EVALUATED, TEST):
        january(root / "results", scene, EXPERIMENTS["january"])
        february(root / "results", scene, EXPERIMENTS["february"])
        head(root / "results", scene, EXPERIMENTS["head"])
    write_configuration(root, scene_home)
    return root


# --- what may be wrong -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corruption:
    """Something spoilt, in a tree of its own, and how it is to be named: which file or folder, and what is wrong with it."""

    spoil: Callable[[Path], object]
    place: str
    problem: str


def _half(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:9])


def _replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def _text_of_another(root: Path) -> None:
    path = february(root / "results", EVALUATED, "text") / "evaluation" / "epoch_0030" / "novel_view_results.txt"
    path.write_text("psnr: 29.1092\nssim: 0.9000\nlpips: 0.1000\n")


def _not_a_number(root: Path) -> None:
    path = head(root / "results", EVALUATED, "nan") / "evaluation" / "epoch_0000" / "pose_smpl" / "metrics"
    path /= "smpl_pose_estimation_metrics_per_frame.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], "7,nan,1.0,1.0,1.0"]) + "\n")


def _twice(root: Path) -> None:
    path = january(root / "results", EVALUATED, "twice") / "epoch_0030" / "metrics_all_cams_per_frame.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def _dead_link(root: Path) -> None:
    path = january(root / "results", EVALUATED, "dead") / "epoch_0030" / "metrics_avg_per_camera.csv"
    path.unlink()
    path.symlink_to("/not/there.csv")


def _circle(root: Path) -> None:
    (head(root / "results", EVALUATED, "circle") / "evaluation" / "again").symlink_to(root / "results")


def _groups_differ(root: Path) -> None:
    folder = write_old_snapshot(root / "difix_tuning_data", "groups")
    manifests = folder / "manifests"
    lines = [json.loads(line) for line in (manifests / "all_samples.jsonl").read_text().splitlines()]
    train = [{**row, "group_id": "pair09"} for row in lines if row["split"] == "train"]
    (manifests / "split_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train))


def _image_cut(root: Path) -> None:
    folder = write_old_snapshot(root / "difix_tuning_data", "image")
    _cut(next(path for path in sorted(folder.glob("samples/*/target_image.jpg")) if TEST in str(path)))


def _wrong_epoch(root: Path) -> None:
    folder = february(root / "results", EVALUATED, "epochs") / "evaluation"
    (folder / "epoch_0030").rename(folder / "epoch_last")


CORRUPTIONS: Mapping[str, Corruption] = {
    "half a table": Corruption(
        lambda root: _half(
            january(root / "results", EVALUATED, "half") / "epoch_0030" / "metrics_all_cams_per_frame.csv"
        ),
        "half/epoch_0030/metrics_all_cams_per_frame.csv",
        "a row of the table is cut short",
    ),
    "a text that disagrees": Corruption(
        _text_of_another, "text/evaluation/epoch_0030/novel_view_results.txt", "psnr is 29.1092, and the mean"
    ),
    "a value that is no number": Corruption(
        _not_a_number, "pose_smpl/metrics/smpl_pose_estimation_metrics_per_frame.csv", "not a finite number"
    ),
    "a required file missing": Corruption(
        lambda root: (
            head(root / "results", EVALUATED, "lacks")
            / "evaluation/epoch_0000/pose_smplx/metrics/smplx_pose_estimation_overall_results.txt"
        ).unlink(),
        "pose_smplx/metrics/smplx_pose_estimation_overall_results.txt",
        "the file is missing",
    ),
    "a scene's JSON cut": Corruption(
        lambda root: _cut(root / "configs" / "scenes" / f"{TRAIN}.json"),
        f"scenes/{TRAIN}.json",
        "it is no scene's file",
    ),
    "a manifest that cannot be read": Corruption(
        lambda root: (head(root / "results", EVALUATED, "manifest") / "manifest.json").write_text("{"),
        "manifest/manifest.json",
        "not JSON",
    ),
    "an epoch's folder of another name": Corruption(
        _wrong_epoch, "epochs/evaluation/epoch_last", "not an epoch's folder"
    ),
    "a checkpoint cut": Corruption(
        lambda root: _cut(
            write_old_snapshot(root / "difix_tuning_data", "checkpoint") / "tuning_runs/lr2e5/checkpoints/model_3.pkl"
        ),
        "checkpoint/tuning_runs/lr2e5/checkpoints/model_3.pkl",
        "the checkpoint is cut short",
    ),
    "an image cut": Corruption(_image_cut, "target_image.jpg", "every_sample_complete"),
    "group ids that differ": Corruption(
        _groups_differ, "difix_tuning_data/groups", "group_id is pair09 in split_train"
    ),
    "a link that leads nowhere": Corruption(
        _dead_link, "dead/epoch_0030/metrics_avg_per_camera.csv", "a link that leads nowhere: /not/there.csv"
    ),
    "links in a circle": Corruption(_circle, "circle/evaluation/again", "which it lies in"),
    "rows that stand twice": Corruption(
        _twice, "twice/epoch_0030/metrics_all_cams_per_frame.csv", "two rows of one camera and frame"
    ),
    "a camera's mean that disagrees": Corruption(
        lambda root: write_csv(
            january(root / "results", EVALUATED, "camera") / "epoch_0000" / "metrics_avg_per_camera.csv",
            [{"camera_id": cam_id, "psnr": 40.0, "ssim": 0.9, "lpips": 0.1} for cam_id in sorted((*TARGETS, SOURCE))],
        ),
        "camera/epoch_0000/metrics_avg_per_camera.csv",
        "psnr of camera",
    ),
}
