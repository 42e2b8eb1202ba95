"""What a scene lacks for the export of triplets, for novel views and for the pose tasks, in words for its owner."""

from collections.abc import Iterable, Sequence
from typing import Literal

from thesis_assets.scenes.bodies import BodyModel
from thesis_assets.scenes.scene import Scene

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
