"""The catalog: which scenes are on disk, what each of them has and lacks, and whether it is complete.

Does not belong here: which of them an experiment takes (matching.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thesis_assets import storage
from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.layout import SceneFolders, dataset_of
from thesis_assets.scenes.completeness import DEFAULT_QUIET_S, Completeness, upstream_completeness
from thesis_assets.scenes.listing import SceneRoots, file_with_content
from thesis_assets.scenes.matching import match_scenes
from thesis_assets.scenes.requirements import Purpose, gaps_by_frame, missing_for_poses, missing_for_triplets
from thesis_assets.scenes.scene import Scene, open_scene

__all__ = ["SceneSummary", "describe_scene", "list_scenes", "match_scenes", "missing_text", "unusable_folders"]

CONFIDENCE_WARNING = 0.5
"""Below it people may be swapped between estimate and ground truth."""
MAX_PERSON_ID_MAP_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class SceneSummary:
    """One row of the catalog.

    Attributes:
        n_frames: frames that any camera has an image of, skip frames left out.
        frames_per_camera: camera id to number of frames with an image, skip frames left out.
        modalities: folders with content, as `ground_truth/images`, `estimated/smplx`, `renders`.
        missing: for each purpose what the scene lacks; an empty list means enough.
        gaps: frames without a file that others have.
        complete: upstream has finished, nothing is missing for the export, and there are no gaps that upstream did not
            declare.
        completeness: upstream's word, or the rest of its folders.
        confidence_min: of the person assignment, where `misc/person_id_map.json` has it.
        warnings: what a person should look at.
        problem: why the scene cannot be read at all; everything else is then empty.
    """

    name: str
    dataset: str
    source_camera: int | None
    cameras: tuple[int, ...]
    n_frames: int
    frames_per_camera: Mapping[int, int]
    n_skipped: int
    n_people: int
    modalities: tuple[str, ...]
    missing: Mapping[Purpose, tuple[str, ...]]
    gaps: tuple[str, ...]
    complete: bool
    completeness: Completeness
    confidence_min: float | None
    warnings: tuple[str, ...]
    problem: str | None = None

    def enough_for(self, purpose: Purpose) -> bool:
        """Whether nothing is missing for a purpose."""
        return self.problem is None and not self.missing[purpose]


def list_scenes(roots: SceneRoots) -> list[str]:
    """Names of the scene folders under the ground-truth root, sorted. A root that is not there has none."""
    return [name for name in _folders(roots) if _is_scene_name(name)]


def unusable_folders(roots: SceneRoots) -> list[str]:
    """Folders under the ground-truth root whose name is no scene name (`<dataset>_<rest>`), sorted."""
    return [name for name in _folders(roots) if not _is_scene_name(name)]


def describe_scene(
    roots: SceneRoots,
    scene_name: str,
    *,
    source_camera: int | None = None,
    render_source: str | None = None,
    quiet_s: float = DEFAULT_QUIET_S,
    now: float | None = None,
) -> SceneSummary:
    """What a scene has, what it lacks for which purpose, and whether it is complete.

    A scene that breaks the contract gets a row with its `problem`: one broken scene must not hide the others.

    Args:
        source_camera: the camera that an experiment names; None asks the registry.
        render_source: `gaussians`, `precomputed` or `command`; None accepts Gaussians or renders.
        quiet_s: how long the folders of a scene without a declared status must have rested.
        now: seconds since the epoch; None takes the clock.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
    """
    dataset_of(scene_name)
    try:
        scene = open_scene(roots, scene_name)
        completeness = upstream_completeness(scene.tree, roots, quiet_s=quiet_s, now=now)
        return _summary(scene, completeness, source_camera, render_source)
    except ThesisAssetsError as error:
        return _broken(scene_name, str(error))


def _summary(
    scene: Scene, completeness: Completeness, source_camera: int | None, render_source: str | None
) -> SceneSummary:
    triplets = tuple(missing_for_triplets(scene, source_camera=source_camera, render_source=render_source))
    missing: dict[Purpose, tuple[str, ...]] = {
        "export": triplets,
        "nvs": triplets,
        "pose_smplx": tuple(missing_for_poses(scene, "smplx")),
        "pose_smpl": tuple(missing_for_poses(scene, "smpl")),
    }
    gaps = tuple(gaps_by_frame(scene, render_source=render_source))
    confidence, warnings = _confidence(scene)
    cameras = scene.camera_ids()
    return SceneSummary(
        name=scene.name,
        dataset=scene.dataset,
        source_camera=source_camera if source_camera is not None else scene.registered_camera,
        cameras=tuple(cameras),
        n_frames=len(scene.frames()),
        frames_per_camera={cam_id: len(scene.frames(cam_id)) for cam_id in cameras},
        n_skipped=len(scene.frames(apply_skip_frames=False)) - len(scene.frames()),
        n_people=scene.n_people(),
        modalities=_modalities(scene),
        missing=missing,
        gaps=gaps,
        complete=completeness.complete and not triplets and (completeness.declared or not gaps),
        completeness=completeness,
        confidence_min=confidence,
        warnings=(*warnings, *_naming_warnings(scene)),
    )


def _broken(scene_name: str, problem: str) -> SceneSummary:
    return SceneSummary(
        name=scene_name,
        dataset=dataset_of(scene_name),
        source_camera=None,
        cameras=(),
        n_frames=0,
        frames_per_camera={},
        n_skipped=0,
        n_people=0,
        modalities=(),
        missing={},
        gaps=(),
        complete=False,
        completeness=Completeness(False, False, "the scene cannot be read"),
        confidence_min=None,
        warnings=(),
        problem=problem,
    )


def _modalities(scene: Scene) -> tuple[str, ...]:
    tree = scene.tree
    found = []
    for side, folders in (("ground_truth", tree.ground_truth), ("estimated", tree.estimated)):
        found += [f"{side}/{name}" for name in _content_folders(folders)]
    if tree.renders_dir.is_dir() and any(tree.renders_dir.iterdir()):
        found.append("renders")
    return tuple(found)


def _content_folders(folders: SceneFolders) -> list[str]:
    names = ("images", "all_cameras", "seg", "smplx", "smpl", "depths", "meshes", "canon_3dgs_lhm", "gaussians")
    return [name for name in names if (folders.base / name).is_dir() and any((folders.base / name).iterdir())]


def _confidence(scene: Scene) -> tuple[float | None, list[str]]:
    """`confidence_min` of `misc/person_id_map.json`, and the warning it deserves."""
    for folders in (scene.tree.estimated, scene.tree.ground_truth):
        path = file_with_content(folders.person_id_map, scene.roots)
        if path is None:
            continue
        value = storage.read_json_value(path, max_bytes=MAX_PERSON_ID_MAP_BYTES)
        confidence = value.get("confidence_min") if isinstance(value, dict) else None
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            return None, []
        low = confidence < CONFIDENCE_WARNING
        warning = f"people may be swapped: confidence_min {confidence:.2f} is below {CONFIDENCE_WARNING} ({path})"
        return float(confidence), [warning] if low else []
    return None, []


def _naming_warnings(scene: Scene) -> list[str]:
    warnings = []
    if scene.registry is not None and scene.registry.seq_name != scene.name:
        warnings.append(
            f"the registry entry's seq_name is {scene.registry.seq_name!r}, the scene's name {scene.name!r}"
        )
    for cam_id in scene.camera_ids():
        others: Sequence[str] = [name for name in scene.image_files(cam_id).others if not name.startswith(".")]
        if others:
            warnings.append(f"images/{cam_id}: {len(others)} files are not <six digits>.jpg, such as {others[0]!r}")
    return warnings


def _folders(roots: SceneRoots) -> list[str]:
    try:
        with os.scandir(roots.canonical_gt) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return []


def _is_scene_name(name: str) -> bool:
    try:
        dataset_of(name)
    except InvalidKey:
        return False
    return True


def missing_text(summary: SceneSummary) -> str:
    """What a scene lacks, in one line: `pose_smpl: no smpl/ folder`; `nothing` where it lacks nothing."""
    if summary.problem is not None:
        return summary.problem
    lines = [f"{purpose}: {', '.join(reasons)}" for purpose, reasons in summary.missing.items() if reasons]
    return "; ".join([*lines, *summary.gaps, *summary.warnings]) or "nothing"
