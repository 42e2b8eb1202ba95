"""What `evaluation_epoch_XXXX.rrd` must hold, from the files of the epoch's task folders alone."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

from thesis_assets.evaluation.qualitative.expected_content import (
    CAMERA,
    FRAME,
    IMAGE,
    IMAGE_FILE,
    MASK,
    MESH,
    POINTS,
    SCALAR,
    TEXT,
    Expectation,
    ExpectedContent,
    Rules,
    apply_rules,
    expect_bodies,
    expect_camera,
    filled_files,
)
from thesis_assets.layout import TASKS, EvaluationTree, epoch_name
from thesis_assets.schemas.evaluation import POSE_METRICS, parse_results

NVS_CURVES = ("psnr", "ssim", "lpips")

_NVS_RULES: Rules = (
    (rf"inputs/cam_{CAMERA}/render/{IMAGE_FILE}", "{root}/inputs/cam_{cam}/render", IMAGE),
    (rf"inputs/cam_{CAMERA}/mask/{FRAME}\.png", "{root}/inputs/cam_{cam}/mask", MASK),
    (rf"(?P<side>pred|gt_inputs)/cam_{CAMERA}/{IMAGE_FILE}", "{root}/{side}/cam_{cam}", IMAGE),
)
_NVS_CAMERA = re.compile(rf"inputs/cam_{CAMERA}/camera/{FRAME}\.npz", re.ASCII)
_POSE_MESH = re.compile(
    rf"(?P<side>pred|gt_inputs)/(?P<alignment>world_aligned|root_aligned)/posed_(?P<model>smplx|smpl)_meshes_per_frame/"
    rf"(?:(?P<person>\d+)/)?{FRAME}\.obj",
    re.ASCII,
)
_POSE_BODY = re.compile(rf"inputs/(?P<model>smplx|smpl)/{FRAME}\.npz", re.ASCII)
_TASK_UNRECORDED = re.compile(r"viz/.*|metrics/.*|inputs/predictions\.json|gt_inputs/(smplx|smpl)/.*")
"""Metrics are expected by their content, below; `viz/` shows the same pictures; true bodies are recorded as their meshes."""


def expected_evaluation(
    tree: EvaluationTree, epoch: int, tasks: tuple[str, ...], max_frames: int = 0
) -> ExpectedContent:
    """What `evaluation_epoch_XXXX.rrd` must hold, from the files of the epoch's task folders."""
    expected = ExpectedContent(max_frames)
    for name in TASKS:
        task = tree.task(epoch, name)
        if name in tasks and task.base.is_dir():
            root = f"/evaluation/{epoch_name(epoch)}/{name}"
            if name == "nvs":
                _expect_nvs(expected, tree, task.base, root)
                _expect_curves(expected, task.nvs_per_frame, NVS_CURVES, f"{root}/metrics", by_camera=True)
                results = task.nvs_results
            else:
                _expect_pose(expected, tree, task.base, root)
                _expect_curves(expected, task.pose_per_frame, POSE_METRICS, f"{root}/metrics", by_camera=False)
                results = task.pose_results
            _expect_overall(expected, results, f"{root}/metrics/overall", epoch)
            if task.metrics_dir.is_dir():
                expected.entities[f"{root}/metrics/summary", TEXT] = Expectation(static=True)
    expected.limit()
    return expected


def _expect_nvs(expected: ExpectedContent, tree: EvaluationTree, base: Path, root: str) -> None:
    cameras: dict[str, dict[int, Path]] = {}
    for path in filled_files(base):
        place, source = path.relative_to(base).as_posix(), path.relative_to(tree.base).as_posix()
        expected.n_files += 1
        if match := _NVS_CAMERA.fullmatch(place):
            cameras.setdefault(f"{root}/inputs/cam_{match['cam']}", {})[int(match["frame"])] = path
        elif not apply_rules(_NVS_RULES, place, expected, source, {"root": root}) and not _TASK_UNRECORDED.fullmatch(
            place
        ):
            expected.unknown.append(source)
    for entity, files in cameras.items():
        expect_camera(expected, entity, files, tree)
    _expect_differences(expected, root)


def _expect_differences(expected: ExpectedContent, root: str) -> None:
    """A difference picture at each frame that a camera's prediction and truth both have."""
    for (entity, component), predicted in list(expected.entities.items()):
        camera = entity.removeprefix(f"{root}/pred/")
        truth = expected.entities.get((f"{root}/gt_inputs/{camera}", IMAGE))
        if component == IMAGE and camera != entity and truth is not None:
            frames = {
                frame: [*sources, *truth.frames[frame]]
                for frame, sources in predicted.frames.items()
                if frame in truth.frames
            }
            if frames:
                difference = f"{root}/metrics/difference/{camera}"
                expected.entities[difference, IMAGE] = Expectation(frames, of_both=True)


def _expect_pose(expected: ExpectedContent, tree: EvaluationTree, base: Path, root: str) -> None:
    meshes: list[tuple[re.Match[str], str, Path]] = []
    for path in filled_files(base):
        place, source = path.relative_to(base).as_posix(), path.relative_to(tree.base).as_posix()
        expected.n_files += 1
        if match := _POSE_MESH.fullmatch(place):
            meshes.append((match, source, path))
        elif match := _POSE_BODY.fullmatch(place):
            expect_bodies(expected, path, f"{root}/inputs", "", match, source, meshes=False)
        elif not _TASK_UNRECORDED.fullmatch(place):
            expected.unknown.append(source)
    with_people = {(match["side"], match["alignment"]) for match, _, _ in meshes if match["person"]}
    for match, source, path in meshes:
        # The file with all people repeats those of each person, where there are such.
        if match["person"] is None and (match["side"], match["alignment"]) in with_people:
            continue
        person = "person_all" if match["person"] is None else f"person_{int(match['person'])}"
        entity = f"{root}/{match['side']}/{match['alignment']}/{person}"
        with path.open("rb") as handle:
            has_faces = any(line.startswith(b"f ") for line in handle)
        expected.add(entity, MESH if has_faces else POINTS, int(match["frame"]), source)


def _expect_curves(
    expected: ExpectedContent, path: Path, metrics: tuple[str, ...], root: str, *, by_camera: bool
) -> None:
    """A row a frame with a number; a table that cannot be read to its end gives none (its own check says so)."""
    rows: list[tuple[str, int]] = []
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                frame = int(row["frame_id"])
                for metric in metrics:
                    if _is_number(row.get(metric)):
                        entity = f"{root}/{metric}/cam_{int(row['camera_id'])}" if by_camera else f"{root}/{metric}"
                        rows.append((entity, frame))
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return
    for entity, frame in rows:
        expected.add(entity, SCALAR, frame, path.name)
        expected.entities[entity, SCALAR].timelines = ("frame", "epoch")


def _expect_overall(expected: ExpectedContent, path: Path, root: str, epoch: int) -> None:
    try:
        values = parse_results(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for metric, value in values.items():
        if metric in (*NVS_CURVES, *POSE_METRICS) and math.isfinite(value):
            expected.add(f"{root}/{metric}", SCALAR, epoch, path.name)
            expected.entities[f"{root}/{metric}", SCALAR].timelines = ("epoch",)


def _is_number(text: str | None) -> bool:
    """Whether a field has a finite number; an empty one has none.

    Raises:
        ValueError: it has something else.
    """
    return text is not None and text.strip() != "" and math.isfinite(float(text))
