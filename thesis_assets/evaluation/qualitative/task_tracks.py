"""What one task of an evaluation epoch shows, as tracks: compared images, meshes, inputs, curves, overall numbers, the page.

Does not belong here: which tasks and epochs there are (`evaluation`), how a track is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thesis_assets.evaluation.qualitative import tree_files
from thesis_assets.evaluation.qualitative.difference_tracks import FULL_SCALE
from thesis_assets.evaluation.qualitative.metric_tracks import read_frame_metrics, read_overall, summary_markdown
from thesis_assets.evaluation.qualitative.tracks import (
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    Absences,
    BodyTrack,
    CameraTrack,
    ComparedTrack,
    EpochScalar,
    FrameFiles,
    ImageTrack,
    MaskLegend,
    MaskTrack,
    MeshTrack,
    ScalarTrack,
    TextTrack,
    Track,
    person_colour,
)
from thesis_assets.layout import TaskTree
from thesis_assets.schemas.evaluation import POSE_METRICS

NVS_METRICS = ("psnr", "ssim", "lpips")
DIFFERENCE = "metrics/difference"
ALIGNMENTS = ("world_aligned", "root_aligned")
SIDES = {"pred": PREDICTION_COLOUR, "gt_inputs": TRUTH_COLOUR}


def nvs_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    """Renders, masks and cameras that entered; the images that were compared; per-frame metrics; the page."""
    tracks: list[Track] = []
    for cam_id, folder in tree_files.camera_folders(task.inputs_dir).items():
        tracks += _nvs_input_tracks(folder, f"{root}/inputs/cam_{cam_id}", cam_id, absences)
    if any(isinstance(track, MaskTrack) for track in tracks):
        tracks.insert(0, MaskLegend(f"{root}/inputs"))
    sides: dict[str, dict[int, FrameFiles]] = {}
    for side, folder in (("pred", task.pred_dir), ("gt_inputs", task.gt_inputs_dir)):
        images = {
            cam_id: tree_files.frame_files(path, tree_files.IMAGE_SUFFIXES, absences)
            for cam_id, path in tree_files.camera_folders(folder).items()
        }
        sides[side] = images
        tracks += [ImageTrack(f"{root}/{side}/cam_{cam_id}", files) for cam_id, files in images.items() if files]
        if tracks and not any(images.values()):
            absences.not_there(folder, "no images")
    tracks += _compared_tracks(sides["pred"], sides["gt_inputs"], root)
    metrics = _nvs_metric_tracks(task, root, epoch, absences)
    return [*tracks, *metrics] if tracks or metrics else []


def pose_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    """Joints that entered; predicted and true meshes in both alignments; per-frame metrics; the page."""
    tracks: list[Track] = []
    model = task.body_model
    bodies = tree_files.frame_files(task.inputs_dir / model, (".npz",), absences)
    if bodies:
        tracks.append(BodyTrack(f"{root}/inputs", "smplx" if model == "smplx" else "smpl", bodies, meshes=False))
    for side, colour in SIDES.items():
        for alignment in ALIGNMENTS:
            folder = task.meshes_dir(side, alignment)
            people = _person_meshes(folder, absences)
            place = f"{root}/{side}/{alignment}"
            tracks += [MeshTrack(f"{place}/{person}", files, colour) for person, files in people.items()]
            if not people and task.base.is_dir():
                absences.not_there(folder, "no meshes")
    _note_missing_meshes(tracks, absences)
    metrics = _pose_metric_tracks(task, root, epoch, absences)
    return [*tracks, *metrics] if tracks or metrics else []


def _nvs_input_tracks(folder: Path, entity: str, cam_id: int, absences: Absences) -> list[Track]:
    renders = tree_files.frame_files(folder / "render", tree_files.IMAGE_SUFFIXES, absences)
    masks = tree_files.frame_files(folder / "mask", (".png",), absences)
    cameras = tree_files.frame_files(folder / "camera", (".npz",), absences)
    tracks: list[Track] = []
    if cameras:
        tracks.append(CameraTrack(entity, cam_id, cameras, next(iter(renders.values()), None)))
    if renders:
        tracks.append(ImageTrack(f"{entity}/render", renders))
    if masks:
        tracks.append(MaskTrack(f"{entity}/mask", {"all": masks}))
    return tracks


def _compared_tracks(
    predictions: dict[int, FrameFiles], truths: dict[int, FrameFiles], root: str
) -> list[ComparedTrack]:
    """A track a camera, where both sides have some of its frames."""
    tracks = []
    for cam_id, files in predictions.items():
        sides = (
            ImageTrack(f"{root}/pred/cam_{cam_id}", files),
            ImageTrack(f"{root}/gt_inputs/cam_{cam_id}", truths.get(cam_id, {})),
        )
        if (track := ComparedTrack(f"{root}/{DIFFERENCE}/cam_{cam_id}", *sides)).files:
            tracks.append(track)
    return tracks


def _nvs_metric_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    if not task.metrics_dir.is_dir():
        return []
    values = read_frame_metrics(task.nvs_per_frame, NVS_METRICS, absences)
    cameras = sorted({cam_id for cam_id, _ in values})
    curves = [
        ScalarTrack(
            f"{root}/metrics/{metric}/cam_{cam_id}",
            f"cam {cam_id}",
            tuple(values[cam_id, metric].items()),
            epoch,
            person_colour(cameras.index(cam_id)),
        )
        for metric in NVS_METRICS
        for cam_id in cameras
        if (cam_id, metric) in values
    ]
    for metric in NVS_METRICS:
        if values and not any(found == metric for _, found in values):
            absences.not_there(task.nvs_per_frame, f"no value of {metric}")
    page = summary_markdown(f"nvs, epoch {epoch}", task.nvs_results, task.nvs_per_camera, task.protocol)
    page += f"\nDifference pictures: black where equal, white where {FULL_SCALE} of 255 or more apart.\n"
    overall = _overall_tracks(task.nvs_results, root, epoch, absences)
    return [*curves, *overall, TextTrack(f"{root}/metrics/summary", page)]


def _pose_metric_tracks(task: TaskTree, root: str, epoch: int, absences: Absences) -> list[Track]:
    if not task.metrics_dir.is_dir():
        return []
    values = read_frame_metrics(task.pose_per_frame, POSE_METRICS, absences)
    curves = [
        ScalarTrack(f"{root}/metrics/{metric}", metric, tuple(rows.items()), epoch, person_colour(number))
        for number, metric in enumerate(POSE_METRICS)
        if (rows := values.get((0, metric)))
    ]
    page = summary_markdown(f"{task.task}, epoch {epoch}", task.pose_results, None, task.protocol)
    overall = _overall_tracks(task.pose_results, root, epoch, absences)
    return [*curves, *overall, TextTrack(f"{root}/metrics/summary", page)]


def _overall_tracks(results: Path, root: str, epoch: int, absences: Absences) -> list[EpochScalar]:
    values = read_overall(results, absences)
    known = (*NVS_METRICS, *POSE_METRICS)
    return [
        EpochScalar(f"{root}/metrics/overall/{metric}", value, epoch)
        for metric, value in values.items()
        if metric in known
    ]


def _person_meshes(folder: Path, absences: Absences) -> dict[str, FrameFiles]:
    """Entity name to meshes: a file a person where there are any, else the files with all people."""
    people = {
        f"person_{person}": tree_files.frame_files(path, (".obj",), absences)
        for person, path in tree_files.person_folders(folder).items()
    }
    found = {name: files for name, files in people.items() if files}
    if not found and (together := tree_files.frame_files(folder, (".obj",), absences)):
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
