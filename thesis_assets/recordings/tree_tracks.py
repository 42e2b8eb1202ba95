"""What of an evaluation tree can be looked at, as tracks: cameras, pictures, masks, depth, people, comparisons, metrics, pages.

Parts that are not there are noted. Does not belong here: how a track is written, the layout of views, any metric's formula.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import TASKS, EvaluationTree, SceneFolders, TaskTree, epoch_name, parse_epoch
from thesis_assets.recordings.image_tracks import FULL_SCALE
from thesis_assets.recordings.tracks import (
    IMAGE_SUFFIXES,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    Absences,
    BodyTrack,
    CameraTrack,
    ComparedTrack,
    DepthTrack,
    EpochScalar,
    FrameFiles,
    ImageTrack,
    MaskLegend,
    MaskTrack,
    MeshTrack,
    ScalarTrack,
    TextTrack,
    Track,
    WorldUp,
    camera_folders,
    frame_files,
    person_colour,
    person_folders,
    subfolders,
)
from thesis_assets.recordings.world_tracks import up_axis, with_image_planes
from thesis_assets.schemas.evaluation import POSE_METRICS, Protocol, parse_results
from thesis_assets.storage import read_json

SPLITS = ("train", "test")
_DEBUG_KINDS = ("images", "masks", "depths")
_NVS_METRICS = ("psnr", "ssim", "lpips")
SIDES = {"pred": PREDICTION_COLOUR, "gt_inputs": TRUTH_COLOUR}
_ALIGNMENTS = ("world_aligned", "root_aligned")
_MAX_PAGE = 20_000
"""Characters."""


# --- input data ------------------------------------------------------------------------------------------------------


def input_data_tracks(tree: EvaluationTree, absences: Absences) -> list[Track]:
    """Everything under `input_data/` that can be looked at, as tracks; parts that are not there are noted."""
    tracks: list[Track] = []
    for split in SPLITS:
        found = scene_tracks(tree.input_data(split), f"/input_data/{split}", split, absences)
        if not found:
            absences.not_there(tree.input_data(split).base, "nothing to record")
        tracks += found
    return tracks


def first_camera_files(tree: EvaluationTree) -> list[Path]:
    """The first frame's calibration of every camera, of the first split that has any."""
    for split in SPLITS:
        cameras = _by_camera(tree.input_data(split).cameras_dir, (".npz",), Absences(tree.base))
        if cameras:
            return [next(iter(files.values())) for files in cameras.values()]
    return []


def scene_tracks(folders: SceneFolders, root: str, split: str, absences: Absences) -> list[Track]:
    """What one side of a scene holds, below the entity `root`."""
    tracks: list[Track] = []
    images = _by_camera(folders.images_dir, IMAGE_SUFFIXES, absences)
    cameras = _by_camera(folders.cameras_dir, (".npz",), absences)
    depths = _by_camera(folders.depths_dir, (".npy",), absences)
    for cam_id, files in cameras.items():
        picture = next(iter(images.get(cam_id, {}).values()), None)
        tracks.append(CameraTrack(f"{root}/cameras/cam_{cam_id}", cam_id, files, picture))
    tracks += [ImageTrack(f"{root}/cameras/cam_{cam_id}/image", files) for cam_id, files in images.items()]
    masks = _mask_tracks(folders, root, absences)
    if masks:
        tracks += [MaskLegend(root), *masks]
    for cam_id, files in depths.items():
        picture = next(iter(images.get(cam_id, {}).values()), None)
        tracks.append(DepthTrack(f"{root}/cameras/cam_{cam_id}/depth", files, picture))
    tracks += _body_tracks(folders, root, absences)
    if split == "train":
        tracks += _debug_tracks(folders, root, absences)
    if axis := up_axis(next(iter(files.values())) for files in cameras.values()):
        tracks.insert(0, WorldUp(root, axis))
    return with_image_planes(tracks)


def _by_camera(folder: Path, suffixes: tuple[str, ...], absences: Absences) -> dict[int, FrameFiles]:
    """Camera to its frames, where it has any."""
    found = {cam_id: frame_files(path, suffixes, absences) for cam_id, path in camera_folders(folder).items()}
    return {cam_id: files for cam_id, files in found.items() if files}


def _mask_tracks(folders: SceneFolders, root: str, absences: Absences) -> list[MaskTrack]:
    tracks = []
    for cam_id, folder in camera_folders(folders.masks_dir).items():
        layers: dict[str, FrameFiles] = {}
        for person in subfolders(folder):
            if person.name != "all" and not person.name.isdecimal():
                absences.left_out(person, "not the mask of a person or of all")
            elif files := frame_files(person, (".png",), absences):
                layers[person.name] = files
        if layers:
            tracks.append(MaskTrack(f"{root}/cameras/cam_{cam_id}/mask", layers))
    return tracks


def _body_tracks(folders: SceneFolders, root: str, absences: Absences) -> list[BodyTrack]:
    """SMPL-X people stand at `people/person_<k>`; SMPL ones too, or one level below where both are there."""
    smplx = frame_files(folders.bodies_dir("smplx"), (".npz",), absences)
    smpl = frame_files(folders.bodies_dir("smpl"), (".npz",), absences)
    tracks = []
    if smplx:
        tracks.append(BodyTrack(f"{root}/people", "smplx", smplx))
    if smpl:
        tracks.append(BodyTrack(f"{root}/people", "smpl", smpl, suffix="/smpl" if smplx else ""))
    return tracks


def _debug_tracks(folders: SceneFolders, root: str, absences: Absences) -> list[Track]:
    """Novel-view generation's `est_*` pictures and depth, by the folders they lie in."""
    tracks: list[Track] = []
    for kind in _DEBUG_KINDS:
        base = folders.nv_generation_debug(kind)
        entity = f"{root}/misc/nv_generation/{base.name}"
        cameras = [(path, f"{entity}/cam_{cam_id}") for cam_id, path in camera_folders(base).items()]
        for folder, place in [(base, entity), *cameras]:
            suffixes = (".npy", *IMAGE_SUFFIXES) if kind == "depths" else IMAGE_SUFFIXES
            files = frame_files(folder, suffixes, absences)
            arrays = {frame: path for frame, path in files.items() if path.suffix == ".npy"}
            pictures = {frame: path for frame, path in files.items() if path.suffix != ".npy"}
            if arrays:
                tracks.append(DepthTrack(place, arrays))
            if pictures:
                tracks.append(ImageTrack(place, pictures))
    return tracks


# --- an evaluation epoch ---------------------------------------------------------------------------------------------


def evaluated_epochs(tree: EvaluationTree) -> list[int]:
    """The epochs that have a folder, ascending."""
    epochs = []
    for folder in subfolders(tree.evaluation_dir):
        try:
            epochs.append(parse_epoch(folder.name))
        except InvalidKey:  # somebody's own folder beside the epochs
            continue
    return sorted(epochs)


def evaluation_tracks(tree: EvaluationTree, epoch: int, tasks: Sequence[str], absences: Absences) -> list[Track]:
    """Everything of an epoch that can be looked at, as tracks; tasks and parts that are not there are noted."""
    tracks: list[Track] = []
    for name in TASKS:
        if name not in tasks:
            continue
        task = tree.task(epoch, name)
        root = f"/evaluation/{epoch_name(epoch)}/{name}"
        found = _nvs_tracks(task, root, epoch, absences) if name == "nvs" else pose_tracks(task, root, epoch, absences)
        if not found:
            absences.not_there(task.base, "the task was not evaluated at this epoch")
        elif axis := up_axis(first_camera_files(tree)):
            found.insert(0, WorldUp(root, axis))
        tracks += with_image_planes(found)
    return tracks


def _nvs_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    """Renders, masks and cameras that entered; the images that were compared; per-frame metrics; the page."""
    tracks: list[Track] = []
    for cam_id, folder in camera_folders(task.inputs_dir).items():
        tracks += _nvs_input_tracks(folder, f"{root}/inputs/cam_{cam_id}", cam_id, absences)
    if any(isinstance(track, MaskTrack) for track in tracks):
        tracks.insert(0, MaskLegend(f"{root}/inputs"))
    sides: dict[str, dict[int, FrameFiles]] = {}
    for side, folder in (("pred", task.pred_dir), ("gt_inputs", task.gt_inputs_dir)):
        images = sides[side] = _by_camera(folder, IMAGE_SUFFIXES, absences)
        tracks += [ImageTrack(f"{root}/{side}/cam_{cam_id}", files) for cam_id, files in images.items()]
        if tracks and not images:
            absences.not_there(folder, "no images")
    for cam_id, files in sides["pred"].items():
        prediction = ImageTrack(f"{root}/pred/cam_{cam_id}", files)
        truth = ImageTrack(f"{root}/gt_inputs/cam_{cam_id}", sides["gt_inputs"].get(cam_id, {}))
        compared = ComparedTrack(f"{root}/metrics/difference/cam_{cam_id}", prediction, truth)
        tracks += [compared] if compared.files else []
    return tracks + _metric_tracks(task, root, epoch, absences)


def pose_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    """Joints that entered; predicted and true meshes in both alignments; per-frame metrics; the page."""
    tracks: list[Track] = []
    model = task.body_model
    bodies = frame_files(task.inputs_dir / model, (".npz",), absences)
    if bodies:
        tracks.append(BodyTrack(f"{root}/inputs", "smplx" if model == "smplx" else "smpl", bodies, meshes=False))
    for side, colour in SIDES.items():
        for alignment in _ALIGNMENTS:
            folder = task.meshes_dir(side, alignment)
            people = _person_meshes(folder, absences)
            place = f"{root}/{side}/{alignment}"
            tracks += [MeshTrack(f"{place}/{person}", files, colour) for person, files in people.items()]
            if not people and task.base.is_dir():
                absences.not_there(folder, "no meshes")
    _note_missing_meshes(tracks, absences)
    return tracks + _metric_tracks(task, root, epoch, absences)


def _nvs_input_tracks(folder: Path, entity: str, cam_id: int, absences: Absences) -> list[Track]:
    renders = frame_files(folder / "render", IMAGE_SUFFIXES, absences)
    masks = frame_files(folder / "mask", (".png",), absences)
    cameras = frame_files(folder / "camera", (".npz",), absences)
    tracks: list[Track] = []
    if cameras:
        tracks.append(CameraTrack(entity, cam_id, cameras, next(iter(renders.values()), None)))
    if renders:
        tracks.append(ImageTrack(f"{entity}/render", renders))
    if masks:
        tracks.append(MaskTrack(f"{entity}/mask", {"all": masks}))
    return tracks


def _person_meshes(folder: Path, absences: Absences) -> dict[str, FrameFiles]:
    """Entity name to meshes: a file a person where there are any, else the files with all people."""
    people = {
        f"person_{person}": frame_files(path, (".obj",), absences) for person, path in person_folders(folder).items()
    }
    found = {name: files for name, files in people.items() if files}
    if not found and (together := frame_files(folder, (".obj",), absences)):
        return {"person_all": together}
    return found


def _note_missing_meshes(tracks: Sequence[Track], absences: Absences) -> None:
    """A frame that some side of the task has and another has not."""
    meshes = [track for track in tracks if isinstance(track, MeshTrack)]
    frames = {frame for track in meshes for frame in track.files}
    for track in meshes:
        missing = sorted(frames - set(track.files))
        if missing:
            names = ", ".join(f"{frame:06d}" for frame in missing[:5]) + (" ..." if len(missing) > 5 else "")
            absences.not_there(next(iter(track.files.values())).parent, f"no mesh of {len(missing)} frames: {names}")


# --- metrics ---------------------------------------------------------------------------------------------------------


def _metric_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    if not task.metrics_dir.is_dir():
        return []
    if task.task == "nvs":
        results, per_camera = task.nvs_results, task.nvs_per_camera
        values = _frame_metrics(task.nvs_per_frame, _NVS_METRICS, absences)
        cameras = sorted({cam_id for cam_id, _ in values})
        shown = [
            (f"{metric}/cam_{cam_id}", f"cam {cam_id}", values[cam_id, metric], cameras.index(cam_id))
            for metric in _NVS_METRICS
            for cam_id in cameras
            if (cam_id, metric) in values
        ]
        for metric in _NVS_METRICS:
            if values and not any(found == metric for _, found in values):
                absences.not_there(task.nvs_per_frame, f"no value of {metric}")
    else:
        results, per_camera = task.pose_results, None
        values = _frame_metrics(task.pose_per_frame, POSE_METRICS, absences)
        shown = [
            (metric, metric, rows, number)
            for number, metric in enumerate(POSE_METRICS)
            if (rows := values.get((0, metric)))
        ]
    tracks: list[Track] = [
        ScalarTrack(f"{root}/metrics/{place}", name, tuple(rows.items()), epoch, person_colour(number))
        for place, name, rows, number in shown
    ]
    tracks += [
        EpochScalar(f"{root}/metrics/overall/{metric}", value, epoch)
        for metric, value in _overall_metrics(results, absences).items()
        if metric in (*_NVS_METRICS, *POSE_METRICS)
    ]
    page = _summary_page(f"{task.task}, epoch {epoch}", results, per_camera, task.protocol)
    if task.task == "nvs":
        page += f"\nDifference pictures: black where equal, white where {FULL_SCALE} of 255 or more apart.\n"
    return [*tracks, TextTrack(f"{root}/metrics/summary", page)]


def _frame_metrics(path: Path, metrics: tuple[str, ...], absences: Absences) -> dict[tuple[int, str], dict[int, float]]:
    """(camera or 0, metric) to frame to value, from a per-frame CSV; empty and non-finite values have no row.

    `camera_id` is looked for but need not be there; a file that cannot be read is noted and gives nothing.
    """
    found: dict[tuple[int, str], dict[int, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                camera, frame = int(row.get("camera_id") or 0), int(row["frame_id"])
                for metric in metrics:
                    text = (row.get(metric) or "").strip()
                    if text and math.isfinite(value := float(text)):
                        found.setdefault((camera, metric), {})[frame] = value
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        absences.left_out(path, f"the table cannot be read: {type(error).__name__} {error}")
        return {}
    return {key: dict(sorted(values.items())) for key, values in found.items()}


def _overall_metrics(path: Path, absences: Absences) -> dict[str, float]:
    """Finite numbers of an overall results file; a file that cannot be read is noted and gives nothing."""
    try:
        values = parse_results(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        absences.left_out(path, f"the results cannot be read: {error}")
        return {}
    return {metric: value for metric, value in values.items() if math.isfinite(value)}


# --- the page beside the pictures ------------------------------------------------------------------------------------


def _summary_page(title: str, results: Path, per_camera: Path | None, protocol: Path) -> str:
    """The page beside the pictures: overall numbers, a table a camera, and how they were made.

    What cannot be read stands as such on the page; text from files is escaped.
    """
    parts = [f"# {_escaped(title)}", "## Overall", _overall_table(results)]
    if per_camera is not None:
        parts += ["## Per camera", _csv_table(per_camera)]
    parts += ["## Protocol", _protocol_list(protocol)]
    return "\n\n".join(parts)[:_MAX_PAGE] + "\n"


def _overall_table(results: Path) -> str:
    try:
        values = parse_results(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"not there: {_escaped(str(error))}"
    rows = [f"| {_escaped(metric)} | {value:.4f} |" for metric, value in values.items()]
    return "\n".join(["| metric | value |", "| --- | ---: |", *rows])


def _csv_table(path: Path) -> str:
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.reader(handle))[:200]
    except (OSError, csv.Error, ValueError) as error:
        return f"not there: {_escaped(str(error))}"
    if not rows:
        return "not there: the file is empty"
    lines = ["| " + " | ".join(_escaped(_rounded(cell)) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _protocol_list(path: Path) -> str:
    try:
        protocol = read_json(path, Protocol)
    except InvalidFile as error:
        return f"not there: {_escaped(error.problem)}"
    lines = [f"- step: {protocol.step if protocol.step is not None else 'unrefined'}"]
    lines += [f"- {_escaped(key)}: {_escaped(_short(value))}" for key, value in protocol.comparable.items()]
    lines += [f"- {_escaped(metric)} may be empty: {_escaped(why)}" for metric, why in protocol.empty_metrics.items()]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ... ({len(text)} characters)"


def _rounded(cell: str) -> str:
    try:
        return f"{float(cell):.4f}" if "." in cell else cell
    except ValueError:
        return cell


def _escaped(text: str) -> str:
    """Text from a file as Markdown text: no table cell, markup, link or image of its own."""
    for character in "\\`*_[]<>|#!":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
