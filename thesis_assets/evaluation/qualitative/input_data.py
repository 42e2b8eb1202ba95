"""The recording of a tree's input data: cameras with images, masks and depth, people, and novel-view debug pictures.

Reads only `input_data/` of the evaluation tree. Does not belong here: how a track is written, the layout of views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative import tree_files
from thesis_assets.evaluation.qualitative.identity import identity_of
from thesis_assets.evaluation.qualitative.made_from import (
    begin_recording,
    finish_recording,
    inputs_of,
    options_of,
    recording_facts,
    recording_unit,
)
from thesis_assets.evaluation.qualitative.tracks import (
    Absences,
    BodyTrack,
    CameraTrack,
    DepthTrack,
    ExportOptions,
    FrameFiles,
    ImageTrack,
    MaskLegend,
    MaskTrack,
    Track,
    WorldUp,
)
from thesis_assets.evaluation.qualitative.viewpoints import with_image_planes
from thesis_assets.layout import EvaluationTree, SceneFolders
from thesis_assets.provenance import Unit
from thesis_assets.scenes.camera import read_camera
from thesis_assets.schemas.recordings import RecordingFacts

SPLITS = ("train", "test")
DEBUG_KINDS = ("images", "masks", "depths")


def export_input_data(
    tree: EvaluationTree,
    *,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
    force: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> RecordingFacts:
    """Write `rerun/input_data.rrd` unless it is current. What the tree lacks is named in the result's `absent`.

    Args:
        run_name, scene_name: for the recording's identity; without them the tree's own manifest says.
        options: None: those that the recording was made by, or the defaults.
        force: write it also where its inputs did not change.

    Raises:
        InvalidFile: the tree has no input data at all, or the file could not be written.
    """
    from thesis_assets.evaluation.qualitative.blueprints import input_data_blueprint
    from thesis_assets.evaluation.qualitative.track_writers import write_recording

    path = tree.input_data_recording
    unit = input_data_recording_unit(tree, run_name=run_name, scene_name=scene_name, options=options)
    making = begin_recording(unit, force=force)
    if making is None:
        return recording_facts(path)
    absences = Absences(tree.base)
    tracks = input_data_tracks(tree, absences)
    if not tracks:
        raise InvalidFile(
            "the tree has no input data to record",
            file=tree.input_data_dir,
            wanted="images, all_cameras, seg, depths, smplx or smpl under train/ or test/",
            remedy="materialize `input_data` of this cell first",
        )
    identity = identity_of(tree, "input_data", run_name=run_name, scene_name=scene_name)
    blueprint = input_data_blueprint(tracks)
    write_recording(path, identity, tracks, blueprint, options_of(unit), absences, on_progress=on_progress)
    return finish_recording(making, path, absences.lines)


def input_data_recording_unit(
    tree: EvaluationTree,
    *,
    run_name: str | None = None,
    scene_name: str | None = None,
    options: ExportOptions | None = None,
) -> Unit:
    """`input_data.rrd`, made from the tree's `input_data/`. The arguments are those of `export_input_data`."""
    path = tree.input_data_recording
    identity = identity_of(tree, "input_data", run_name=run_name, scene_name=scene_name)
    inputs = inputs_of(path, tree.base)
    inputs.add_part(tree.input_data_dir.name, tree.input_data_made_from, [tree.input_data_dir])
    return recording_unit(path, identity, options, inputs)


def input_data_tracks(tree: EvaluationTree, absences: Absences) -> list[Track]:
    """Everything under `input_data/` that can be looked at, as tracks; parts that are not there are noted."""
    tracks: list[Track] = []
    for split in SPLITS:
        found = _split_tracks(tree.input_data(split), f"/input_data/{split}", split, absences)
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


def up_axis(calibrations: Iterable[Path]) -> str | None:
    """The world axis that points up in the mean of cameras, or None without a readable one."""
    from thesis_assets.evaluation.qualitative.camera_tracks import world_up

    rotations = []
    for path in calibrations:
        try:
            rotations.append(np.asarray(read_camera(path, 0, 1, 1).rotation))
        except InvalidFile:  # noted where the camera itself is written
            continue
    return world_up(rotations) if rotations else None


def _split_tracks(folders: SceneFolders, root: str, split: str, absences: Absences) -> list[Track]:
    tracks: list[Track] = []
    images = _by_camera(folders.images_dir, tree_files.IMAGE_SUFFIXES, absences)
    cameras = _by_camera(folders.cameras_dir, (".npz",), absences)
    depths = _by_camera(folders.depths_dir, (".npy",), absences)
    for cam_id, files in cameras.items():
        picture = next(iter(images.get(cam_id, {}).values()), None)
        tracks.append(CameraTrack(f"{root}/cameras/cam_{cam_id}", cam_id, files, picture))
    tracks += [ImageTrack(f"{root}/cameras/cam_{cam_id}/image", files) for cam_id, files in images.items()]
    masks = _mask_tracks(folders, root, absences)
    if masks:
        tracks += [MaskLegend(root), *masks]
    tracks += [DepthTrack(f"{root}/cameras/cam_{cam_id}/depth", files) for cam_id, files in depths.items()]
    tracks += _body_tracks(folders, root, absences)
    if split == "train":
        tracks += _debug_tracks(folders, root, absences)
    if axis := up_axis(next(iter(files.values())) for files in cameras.values()):
        tracks.insert(0, WorldUp(root, axis))
    return with_image_planes(tracks)


def _by_camera(folder: Path, suffixes: tuple[str, ...], absences: Absences) -> dict[int, FrameFiles]:
    found = {
        cam_id: tree_files.frame_files(path, suffixes, absences)
        for cam_id, path in tree_files.camera_folders(folder).items()
    }
    return {cam_id: files for cam_id, files in found.items() if files}


def _mask_tracks(folders: SceneFolders, root: str, absences: Absences) -> list[MaskTrack]:
    tracks = []
    for cam_id, folder in tree_files.camera_folders(folders.masks_dir).items():
        layers: dict[str, FrameFiles] = {}
        for person in tree_files.subfolders(folder):
            if person.name != "all" and not person.name.isdecimal():
                absences.left_out(person, "not the mask of a person or of all")
            elif files := tree_files.frame_files(person, (".png",), absences):
                layers[person.name] = files
        if layers:
            tracks.append(MaskTrack(f"{root}/cameras/cam_{cam_id}/mask", layers))
    return tracks


def _body_tracks(folders: SceneFolders, root: str, absences: Absences) -> list[BodyTrack]:
    """SMPL-X people stand at `people/person_<k>`; SMPL ones too, or one level below where both are there."""
    smplx = tree_files.frame_files(folders.bodies_dir("smplx"), (".npz",), absences)
    smpl = tree_files.frame_files(folders.bodies_dir("smpl"), (".npz",), absences)
    tracks = []
    if smplx:
        tracks.append(BodyTrack(f"{root}/people", "smplx", smplx))
    if smpl:
        tracks.append(BodyTrack(f"{root}/people", "smpl", smpl, suffix="/smpl" if smplx else ""))
    return tracks


def _debug_tracks(folders: SceneFolders, root: str, absences: Absences) -> list[Track]:
    """Novel-view generation's `est_*` pictures and depth, by the folders they lie in."""
    tracks: list[Track] = []
    for kind in DEBUG_KINDS:
        base = folders.nv_generation_debug(kind)
        entity = f"{root}/misc/nv_generation/{base.name}"
        for folder, place in [(base, entity), *_camera_places(base, entity)]:
            suffixes = (".npy", *tree_files.IMAGE_SUFFIXES) if kind == "depths" else tree_files.IMAGE_SUFFIXES
            files = tree_files.frame_files(folder, suffixes, absences)
            arrays = {frame: path for frame, path in files.items() if path.suffix == ".npy"}
            pictures = {frame: path for frame, path in files.items() if path.suffix != ".npy"}
            if arrays:
                tracks.append(DepthTrack(place, arrays))
            if pictures:
                tracks.append(ImageTrack(place, pictures))
    return tracks


def _camera_places(base: Path, entity: str) -> list[tuple[Path, str]]:
    return [(path, f"{entity}/cam_{cam_id}") for cam_id, path in tree_files.camera_folders(base).items()]
