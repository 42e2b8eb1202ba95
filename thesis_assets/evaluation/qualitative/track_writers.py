"""Writes every kind of track into an open recording, and a whole recording.

Does not belong here: which tracks there are (the exporters), their layout (`blueprints`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thesis_assets.evaluation.qualitative import (
    camera_tracks,
    difference_tracks,
    image_tracks,
    metric_tracks,
    people_tracks,
)
from thesis_assets.evaluation.qualitative.recording import Recording, RecordingIdentity, open_recording
from thesis_assets.evaluation.qualitative.tracks import (
    Absences,
    BodyTrack,
    CameraTrack,
    ComparedTrack,
    DepthTrack,
    EpochScalar,
    ExportOptions,
    ImageTrack,
    MaskLegend,
    MaskTrack,
    MeshTrack,
    ScalarTrack,
    TextTrack,
    Track,
    WorldUp,
)

PROGRESS_SECONDS = 2.0


def write_recording(
    path: Path,
    identity: RecordingIdentity,
    tracks: Sequence[Track],
    blueprint: Any,
    options: ExportOptions,
    absences: Absences,
    *,
    tasks: Sequence[str] = (),
    on_progress: Callable[[str], None] | None = None,
) -> None:
    """Write one .rrd with all `tracks`. What cannot be read is left out and noted in `absences`.

    Raises:
        InvalidFile: the file could not be written to its end.
    """
    groups = _expected_frames(tracks, options)
    begin = said = time.monotonic()
    with open_recording(path, identity, blueprint) as recording:
        recording.send_property(
            "export",
            max_frames_per_camera=options.max_frames_per_camera,
            lossless=options.lossless,
            # An empty text is kept or left away by whether this process has sent another before.
            **({"tasks": ",".join(tasks)} if tasks else {}),
        )
        with_their_pair = _compared_entities(tracks)
        for number, track in enumerate(tracks, start=1):
            if track.entity in with_their_pair:
                continue
            write_track(recording, track, options, absences, groups.get(_group(track), []))
            if on_progress is not None and (time.monotonic() - said > PROGRESS_SECONDS or number == len(tracks)):
                said = time.monotonic()
                on_progress(_progress_line(path, number, len(tracks), said - begin))


def write_track(
    recording: Recording, track: Track, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Write one track.

    Args:
        expected: frames at which others of its kind have something; where this one has not, what it showed is cleared.
    """
    match track:
        case ImageTrack():
            image_tracks.write_images(recording, track, options, absences, expected)
        case ComparedTrack():
            difference_tracks.write_compared(recording, track, options, absences, expected)
        case MaskTrack():
            image_tracks.write_masks(recording, track, options, absences, expected)
        case DepthTrack():
            image_tracks.write_depth(recording, track, options, absences, expected)
        case CameraTrack():
            camera_tracks.write_cameras(recording, track, options, absences)
        case BodyTrack():
            people_tracks.write_bodies(recording, track, options, absences, expected)
        case MeshTrack():
            people_tracks.write_meshes(recording, track, options, absences, expected)
        case ScalarTrack():
            metric_tracks.write_scalars(recording, track, options)
        case EpochScalar():
            metric_tracks.write_epoch_scalar(recording, track)
        case TextTrack():
            metric_tracks.write_text(recording, track)
        case MaskLegend():
            image_tracks.write_mask_legend(recording, track.entity)
        case WorldUp():
            camera_tracks.write_world_up(recording, track.entity, track.axis)


def _compared_entities(tracks: Sequence[Track]) -> set[str]:
    """Entities of predictions and truths that are written together, as each image is decoded only once then."""
    pairs = [track for track in tracks if isinstance(track, ComparedTrack)]
    return {side.entity for track in pairs for side in (track.prediction, track.truth)}


def _progress_line(path: Path, done: int, total: int, seconds: float) -> str:
    left = seconds / done * (total - done)
    return f"{path.name}: {done} of {total} entities, {done / max(seconds, 1e-3):.1f}/s, {left:.0f} s left"


def _expected_frames(tracks: Sequence[Track], options: ExportOptions) -> dict[tuple[str, str], list[int]]:
    """Frames that any track of a kind and part has: those at which the others must not show an older picture."""
    found: dict[tuple[str, str], set[int]] = {}
    for track in tracks:
        if isinstance(track, ImageTrack | DepthTrack | BodyTrack | MeshTrack):
            found.setdefault(_group(track), set()).update(options.first(track.files))
        elif isinstance(track, MaskTrack):
            found.setdefault(_group(track), set()).update(track.frames[: options.max_frames_per_camera or None])
    return {group: sorted(frames) for group, frames in found.items()}


def _group(track: Track) -> tuple[str, str]:
    """Tracks of one kind, split and task share their frames: `/input_data/train`, `/evaluation/epoch_0030/nvs`."""
    kind = ImageTrack if isinstance(track, ComparedTrack) else type(track)
    depth = 4 if track.entity.startswith("/evaluation/") else 3
    return kind.__name__, "/".join(track.entity.split("/")[:depth])
