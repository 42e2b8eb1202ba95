"""What a recording must hold, derived from the files of the tree alone: a rule a file, by its place.

Written apart from the exporters on purpose: it walks every file there is and asks where it went, so that a folder an exporter
forgets is found. Does not belong here: reading recordings, comparing.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.digests import files_below
from thesis_assets.layout import TASKS, EvaluationTree, epoch_name
from thesis_assets.scenes.bounded_files import read_npz
from thesis_assets.schemas.evaluation import POSE_METRICS, parse_results

NVS_CURVES = ("psnr", "ssim", "lpips")

_NUMBER = r"(?:0|[1-9]\d*)"
_FRAME = r"(?P<frame>\d{6,12})"
_IMAGE = rf"{_FRAME}\.(?:jpe?g|png)"
_CAMERA = rf"(?P<cam>{_NUMBER})"

IMAGE, MASK, DEPTH = "EncodedImage:blob", "SegmentationImage:buffer", "EncodedDepthImage:blob"
POINTS, MESH, SCALAR = "Points3D:positions", "Mesh3D:vertex_positions", "Scalars:scalars"
PINHOLE, POSE, TEXT = "Pinhole:image_from_camera", "Transform3D:translation", "TextDocument:text"

_INPUT_RULES: tuple[tuple[str, str, str], ...] = (
    (rf"(?P<split>train|test)/images/{_CAMERA}/{_IMAGE}", "/input_data/{split}/cameras/cam_{cam}/image", IMAGE),
    (
        rf"(?P<split>train|test)/seg/img_seg_mask/{_CAMERA}/(?:all|\d+)/{_FRAME}\.png",
        "/input_data/{split}/cameras/cam_{cam}/mask",
        MASK,
    ),
    (rf"(?P<split>train|test)/depths/{_CAMERA}/{_FRAME}\.npy", "/input_data/{split}/cameras/cam_{cam}/depth", DEPTH),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{_CAMERA}/{_IMAGE}",
        "/input_data/train/misc/nv_generation/{kind}/cam_{cam}",
        IMAGE,
    ),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{_CAMERA}/{_FRAME}\.npy",
        "/input_data/train/misc/nv_generation/{kind}/cam_{cam}",
        DEPTH,
    ),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{_IMAGE}",
        "/input_data/train/misc/nv_generation/{kind}",
        IMAGE,
    ),
    (
        rf"train/misc/nv_generation/(?P<kind>est_\w+_debug)/{_FRAME}\.npy",
        "/input_data/train/misc/nv_generation/{kind}",
        DEPTH,
    ),
)
_INPUT_CAMERA = re.compile(rf"(?P<split>train|test)/all_cameras/{_CAMERA}/{_FRAME}\.npz", re.ASCII)
_INPUT_BODY = re.compile(rf"(?P<split>train|test)/(?P<model>smplx|smpl)/{_FRAME}\.npz", re.ASCII)
_INPUT_UNRECORDED = re.compile(
    r"input_data\.json|(train|test)/(skip_frames\.csv|meta\.npz|meshes/.*|gaussians/.*|canon_3dgs_lhm/.*"
    r"|misc/(?!nv_generation/).*)"
)
"""Files of the scene contract that the recordings' page gives no entity."""

_NVS_RULES: tuple[tuple[str, str, str], ...] = (
    (rf"inputs/cam_{_CAMERA}/render/{_IMAGE}", "{root}/inputs/cam_{cam}/render", IMAGE),
    (rf"inputs/cam_{_CAMERA}/mask/{_FRAME}\.png", "{root}/inputs/cam_{cam}/mask", MASK),
    (rf"(?P<side>pred|gt_inputs)/cam_{_CAMERA}/{_IMAGE}", "{root}/{side}/cam_{cam}", IMAGE),
)
_NVS_CAMERA = re.compile(rf"inputs/cam_{_CAMERA}/camera/{_FRAME}\.npz", re.ASCII)
_POSE_MESH = re.compile(
    rf"(?P<side>pred|gt_inputs)/(?P<alignment>world_aligned|root_aligned)/posed_(?P<model>smplx|smpl)_meshes_per_frame/"
    rf"(?:(?P<person>\d+)/)?{_FRAME}\.obj",
    re.ASCII,
)
_POSE_BODY = re.compile(rf"inputs/(?P<model>smplx|smpl)/{_FRAME}\.npz", re.ASCII)
_TASK_UNRECORDED = re.compile(r"viz/.*|metrics/.*|inputs/predictions\.json|gt_inputs/(smplx|smpl)/.*")
"""Metrics are expected by their content, below; `viz/` shows the same pictures; true bodies are recorded as their meshes."""


@dataclass
class Expectation:
    """One component of one entity.

    Attributes:
        frames: position on the main timeline to the files it comes from.
        static: it holds for all frames (and `frames` say from which files).
        timelines: of its rows.
        track: entities of one track share their frames (the people of one folder of files); empty = the entity alone.
    """

    frames: dict[int, list[str]] = field(default_factory=dict)
    static: bool = False
    timelines: tuple[str, ...] = ("frame",)
    track: str = ""


@dataclass
class ExpectedContent:
    """Everything a recording must hold, and files that no rule knows.

    `max_frames`: only the first so many frames of each track were exported (0 = all).
    """

    max_frames: int = 0
    entities: dict[tuple[str, str], Expectation] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    n_files: int = 0

    def add(self, entity: str, component: str, frame: int, source: str, *, track: str = "") -> None:
        """Expect one row."""
        expectation = self.entities.setdefault((entity, component), Expectation(track=track))
        expectation.frames.setdefault(frame, []).append(source)

    def limit(self) -> None:
        """Keep the first `max_frames` frames that the files of each track have (0 = all)."""
        if not self.max_frames:
            return
        frames_of: dict[str, set[int]] = {}
        for (entity, _), expectation in self.entities.items():
            frames_of.setdefault(expectation.track or entity, set()).update(expectation.frames)
        for (entity, _), expectation in self.entities.items():
            kept = set(sorted(frames_of[expectation.track or entity])[: self.max_frames])
            if expectation.timelines != ("epoch",):
                expectation.frames = {frame: made for frame, made in expectation.frames.items() if frame in kept}


def expected_input_data(tree: EvaluationTree, max_frames: int = 0) -> ExpectedContent:
    """What `input_data.rrd` must hold, from the files under `input_data/`."""
    expected = ExpectedContent(max_frames)
    base = tree.input_data_dir
    cameras: dict[str, dict[int, Path]] = {}
    with_smplx = {split for split in ("train", "test") if any((base / split / "smplx").glob("*.npz"))}
    for path in _filled(base):
        place = path.relative_to(base).as_posix()
        source = path.relative_to(tree.base).as_posix()
        expected.n_files += 1
        if match := _INPUT_CAMERA.fullmatch(place):
            entity = f"/input_data/{match['split']}/cameras/cam_{match['cam']}"
            cameras.setdefault(entity, {})[int(match["frame"])] = path
        elif match := _INPUT_BODY.fullmatch(place):
            suffix = "/smpl" if match["model"] == "smpl" and match["split"] in with_smplx else ""
            _expect_bodies(expected, path, f"/input_data/{match['split']}/people", suffix, match, source, meshes=True)
        elif not _apply(_INPUT_RULES, place, expected, source, {}) and not _INPUT_UNRECORDED.fullmatch(place):
            expected.unknown.append(source)
    for entity, files in cameras.items():
        _expect_camera(expected, entity, files, tree)
    expected.limit()
    return expected


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
    for path in _filled(base):
        place, source = path.relative_to(base).as_posix(), path.relative_to(tree.base).as_posix()
        expected.n_files += 1
        if match := _NVS_CAMERA.fullmatch(place):
            cameras.setdefault(f"{root}/inputs/cam_{match['cam']}", {})[int(match["frame"])] = path
        elif not _apply(_NVS_RULES, place, expected, source, {"root": root}) and not _TASK_UNRECORDED.fullmatch(place):
            expected.unknown.append(source)
    for entity, files in cameras.items():
        _expect_camera(expected, entity, files, tree)


def _expect_pose(expected: ExpectedContent, tree: EvaluationTree, base: Path, root: str) -> None:
    meshes: list[tuple[re.Match[str], str, Path]] = []
    for path in _filled(base):
        place, source = path.relative_to(base).as_posix(), path.relative_to(tree.base).as_posix()
        expected.n_files += 1
        if match := _POSE_MESH.fullmatch(place):
            meshes.append((match, source, path))
        elif match := _POSE_BODY.fullmatch(place):
            _expect_bodies(expected, path, f"{root}/inputs", "", match, source, meshes=False)
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


def _expect_camera(expected: ExpectedContent, entity: str, files: dict[int, Path], tree: EvaluationTree) -> None:
    """Pinhole and pose are static where every file says the same, else they have a row a frame."""
    arrays: dict[str, list[np.ndarray]] = {"intrinsics": [], "extrinsics": []}
    sources: dict[int, list[str]] = {}
    for frame, path in sorted(files.items())[: expected.max_frames or None]:
        sources[frame] = [path.relative_to(tree.base).as_posix()]
        try:
            archive = read_npz(path)
        except InvalidFile:  # the exporter must have named it among what was left out
            continue
        for name, values in arrays.items():
            if name in archive:
                values.append(archive[name])
    for name, component in (("intrinsics", PINHOLE), ("extrinsics", POSE)):
        static = all(np.array_equal(values, arrays[name][0]) for values in arrays[name])
        expected.entities[entity, component] = Expectation(dict(sources), static=static)


def _expect_bodies(
    expected: ExpectedContent,
    path: Path,
    people: str,
    suffix: str,
    match: re.Match[str],
    source: str,
    *,
    meshes: bool,
) -> None:
    try:
        arrays = read_npz(path)
    except InvalidFile:  # the exporter must have named it among what was left out
        expected.add(f"{people}/person_0{suffix}", POINTS, int(match["frame"]), source, track=people + suffix)
        return
    as_mesh = meshes and "vertices" in arrays and "faces" in arrays
    n_people = len(arrays["betas"]) if "betas" in arrays else 1
    for person in range(n_people):
        component = MESH if as_mesh else POINTS
        expected.add(f"{people}/person_{person}{suffix}", component, int(match["frame"]), source, track=people + suffix)


def _expect_curves(
    expected: ExpectedContent, path: Path, metrics: tuple[str, ...], root: str, *, by_camera: bool
) -> None:
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            for metric in metrics:
                if _is_number(row.get(metric)):
                    entity = f"{root}/{metric}/cam_{row['camera_id']}" if by_camera else f"{root}/{metric}"
                    expected.add(entity, SCALAR, int(row["frame_id"]), path.name)
                    expected.entities[entity, SCALAR].timelines = ("frame", "epoch")


def _expect_overall(expected: ExpectedContent, path: Path, root: str, epoch: int) -> None:
    if not path.is_file():
        return
    for metric, value in parse_results(path.read_text(encoding="utf-8")).items():
        if metric in (*NVS_CURVES, *POSE_METRICS) and math.isfinite(value):
            expected.add(f"{root}/{metric}", SCALAR, epoch, path.name)
            expected.entities[f"{root}/{metric}", SCALAR].timelines = ("epoch",)


def _apply(
    rules: tuple[tuple[str, str, str], ...], place: str, expected: ExpectedContent, source: str, keys: dict[str, str]
) -> bool:
    for pattern, template, component in rules:
        if match := re.fullmatch(pattern, place, re.ASCII):
            found = match.groupdict()
            expected.add(template.format(**keys, **found), component, int(found["frame"]), source)
            return True
    return False


def _filled(folder: Path) -> list[Path]:
    """Files with content: an empty file counts as missing in the scene contract."""
    return [path for path in files_below(folder) if path.stat().st_size > 0]


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and text.strip() != "" and math.isfinite(float(text))
    except ValueError:
        return False
