"""The catalog: which scenes are on disk, what each of them has, what it lacks for which purpose, and whether it is complete.

Does not belong here: which of them an experiment takes (matching.py), and what is broken in their files (scene_check.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from thesis_assets import storage
from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.layout import dataset_of
from thesis_assets.scenes.bodies import BodyModel
from thesis_assets.scenes.listing import (
    DEFAULT_QUIET_S,
    Completeness,
    SceneRoots,
    file_with_content,
    upstream_completeness,
)
from thesis_assets.scenes.scene import Scene, open_scene

CONFIDENCE_WARNING = 0.5
"""Below it people may be swapped between estimate and ground truth."""
MAX_PERSON_ID_MAP_BYTES = 4 * 1024 * 1024


_UNREAD = Completeness(False, False, "the scene cannot be read")


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
    source_camera: int | None = None
    cameras: tuple[int, ...] = ()
    n_frames: int = 0
    frames_per_camera: Mapping[int, int] = field(default_factory=dict)
    n_skipped: int = 0
    n_people: int = 0
    modalities: tuple[str, ...] = ()
    missing: Mapping[Purpose, tuple[str, ...]] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    complete: bool = False
    completeness: Completeness = _UNREAD
    confidence_min: float | None = None
    warnings: tuple[str, ...] = ()
    problem: str | None = None

    def enough_for(self, purpose: Purpose) -> bool:
        """Whether nothing is missing for a purpose."""
        return self.problem is None and not self.missing[purpose]


def list_scenes(roots: SceneRoots) -> list[str]:
    """Names of the scene folders under the ground-truth root, sorted. A root that is not there has none."""
    try:
        with os.scandir(roots.canonical_gt) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return []
    return [name for name in names if _is_scene_name(name)]


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
        return SceneSummary(scene_name, dataset_of(scene_name), problem=str(error))


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


def _modalities(scene: Scene) -> tuple[str, ...]:
    names = ("images", "all_cameras", "seg", "smplx", "smpl", "depths", "meshes", "canon_3dgs_lhm", "gaussians")
    sides = {"ground_truth": scene.tree.ground_truth.base, "estimated": scene.tree.estimated.base}
    places = {f"{side}/{name}": base / name for side, base in sides.items() for name in names}
    places["renders"] = scene.tree.renders_dir
    return tuple(label for label, place in places.items() if place.is_dir() and any(place.iterdir()))


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


Purpose = Literal["export", "nvs", "pose_smplx", "pose_smpl"]
PURPOSES: tuple[Purpose, ...] = ("export", "nvs", "pose_smplx", "pose_smpl")


def missing_for_triplets(
    scene: Scene, *, source_camera: int | None = None, render_source: str | None = None
) -> list[str]:
    """What the export of triplets, and so novel views, cannot do without. Empty: nothing.

    Args:
        source_camera: the camera that the experiment names; None asks the registry.
        render_source: `gaussians`, `precomputed` or `command`; None accepts Gaussians or renders.
    """
    cameras = scene.camera_ids()
    calibrated = [cam_id for cam_id in cameras if scene.image_files(cam_id).paths and scene.camera_files(cam_id).paths]
    lacks = []
    if len(calibrated) < 2:
        lacks.append(
            f"images and all_cameras of at least two cameras (images: {_names(cameras)}; with both: {_names(calibrated)})"
        )
    source = source_camera if source_camera is not None else scene.registered_camera
    if source is None:
        lacks.append(f"a registry entry ({scene.tree.registry_entry}) or a source camera named in the experiment")
    elif source not in calibrated:
        lacks.append(f"images and all_cameras of the source camera {source}")
    if not _has_renders(scene, render_source):
        lacks.append(_renders_wanted(scene, render_source))
    return lacks


def missing_for_poses(scene: Scene, model: BodyModel) -> list[str]:
    """What the pose task of a body model cannot do without. Empty: nothing."""
    sides = ((False, "ground truth"), (True, "estimates"))
    return [
        f"{model}/ in the {word} ({scene.bodies_dir(model, estimated=estimated)})"
        for estimated, word in sides
        if not scene.body_frames(model, estimated=estimated)
    ]


def gaps_by_frame(scene: Scene, *, render_source: str | None = None) -> list[str]:
    """Frames for which a file that others have was never written. An empty file is no gap: that frame failed upstream.

    Every camera is held against all frames of the scene; frames of `skip_frames.csv` are left out.
    """
    frames = scene.frames()
    gaps = []
    for cam_id in scene.camera_ids():
        for folder, files in (("images", scene.image_files(cam_id)), ("all_cameras", scene.camera_files(cam_id))):
            gaps += _gap(f"{folder}/{cam_id}", frames, {*files.paths, *files.empty})
    if render_source in (None, "gaussians") and scene.gaussian_files().paths and not scene.has_static_gaussians():
        files = scene.gaussian_files()
        gaps += _gap("gaussians", frames, {*files.paths, *files.empty})
    return gaps


def _gap(place: str, frames: Sequence[str], present: Iterable[str]) -> list[str]:
    there = set(present)
    absent = [fname for fname in frames if fname not in there]
    return [f"{place}: {len(absent)} of {len(frames)} frames, first {absent[0]}"] if absent and there else []


def _has_renders(scene: Scene, render_source: str | None) -> bool:
    gaussians = scene.has_static_gaussians() or bool(scene.gaussian_files().paths)
    precomputed = any(scene.render_files(cam_id).paths for cam_id in scene.camera_ids())
    by_source = {"gaussians": gaussians, "precomputed": precomputed, "command": True, None: gaussians or precomputed}
    return by_source[render_source]


def _renders_wanted(scene: Scene, render_source: str | None) -> str:
    gaussians, renders = str(scene.tree.estimated.gaussians_dir), str(scene.tree.renders_dir)
    wanted = {"gaussians": f"Gaussians ({gaussians})", "precomputed": f"renders ({renders})"}
    return wanted.get(render_source or "", f"Gaussians ({gaussians}) or renders ({renders})")


def _names(cameras: Sequence[int]) -> str:
    return ", ".join(map(str, cameras)) or "none"
