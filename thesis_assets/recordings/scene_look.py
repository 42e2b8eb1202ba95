"""A scene before any run, to look at: is this the right scene, world and person?

What the two roots hold stands in one world: cameras with their photographs, masks and depth, the estimated and the true people, the
Gaussians. Estimates are laid out as the training side of an evaluated scene's input data, the ground truth as its test side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidScene
from thesis_assets.recordings.blueprints import input_data_blueprint
from thesis_assets.recordings.exports import write_tracks
from thesis_assets.recordings.recording import RecordingIdentity, open_recording
from thesis_assets.recordings.tracks import Absences, ExportOptions, GaussianTrack, Track
from thesis_assets.recordings.tree_tracks import SPLITS, scene_tracks
from thesis_assets.scenes.scene import Scene


@dataclass(frozen=True)
class SceneLook:
    """A recording of a scene. `absent`: what it could not hold, a line each."""

    path: Path
    n_bytes: int
    absent: tuple[str, ...]


def look_at_scene(
    scene: Scene,
    path: Path,
    options: ExportOptions | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> SceneLook:
    """Write the recording of a scene. What cannot be read is left out and named.

    Raises:
        InvalidScene: the scene has nothing that can be looked at.
    """
    sides = {"train": scene.tree.estimated, "test": scene.tree.ground_truth}
    roots = {"train": scene.roots.preprocessing, "test": scene.roots.canonical_gt}
    absences = {split: Absences(roots[split]) for split in SPLITS}
    tracks: dict[str, list[Track]] = {}
    for split in SPLITS:
        root = f"/input_data/{split}"
        tracks[split] = scene_tracks(sides[split], root, split, absences[split])
    tracks["train"] += _gaussian_tracks(scene)
    everything = [track for found in tracks.values() for track in found]
    if not everything:
        raise InvalidScene(
            "the scene has nothing to look at",
            file=scene.tree.ground_truth.base,
            wanted="images, all_cameras, seg, depths, smplx, smpl or gaussians in one of its roots",
            remedy=f"`thesis-assets scene check {scene.name}` says what is there",
        )
    identity = RecordingIdentity("scene", "", "", scene.name)
    with open_recording(path, identity, input_data_blueprint(everything)) as recording:
        for split in SPLITS:
            write_tracks(recording, path, tracks[split], options or ExportOptions(), absences[split], on_progress)
    lines = tuple(f"{roots[split]}: {line}" for split in SPLITS for line in absences[split].lines)
    return SceneLook(path, path.stat().st_size, lines)


def _gaussian_tracks(scene: Scene) -> list[Track]:
    files = {int(fname): path for fname, path in scene.gaussian_files().paths.items()}
    still = None if files else scene.gaussians_path("000000")
    return [GaussianTrack("/input_data/train/gaussians", files, still)] if files or still else []
