"""Whether the Gaussians that a scene is given or has can be read, and lie in the world of its cameras."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.cli.console import progress_line
from thesis_assets.errors import ThesisAssetsError

if TYPE_CHECKING:
    from thesis_assets.scenes.importers.capture import Arrangement
    from thesis_assets.scenes.scene import Scene
    from thesis_assets.scenes.scene_check import Finding


def gaussians_notes(gaussians: Path | None, arrangement: "Arrangement") -> list[str]:
    """Refuses a file that is no 3DGS PLY; notes Gaussians that the cameras do not see."""
    from thesis_assets.rendering.gaussians import read_ply
    from thesis_assets.scenes.camera import Camera

    if gaussians is None:
        return []
    cameras = [
        Camera(
            each.cam_id,
            each.photograph.intrinsics,
            each.photograph.extrinsics,
            each.photograph.height,
            each.photograph.width,
        )
        for each in arrangement.placed
    ]
    return _unseen(read_ply(gaussians).means, cameras)


def gaussians_findings(scene: "Scene") -> "list[Finding]":
    """The Gaussians of the first frame: readable, and in the cameras' world."""
    from thesis_assets.rendering.gaussians import read_ply
    from thesis_assets.scenes.scene_check import Finding

    frames = scene.frames()
    path = scene.gaussians_path(frames[0]) if frames else None
    if path is None:
        return []
    try:
        means = read_ply(path).means
    except ThesisAssetsError as error:
        return [Finding("error", "gaussians", 1, " ".join(str(error).split()))]
    cameras = []
    for cam_id in scene.camera_ids():
        if frames[0] in scene.camera_files(cam_id).paths and scene.image_files(cam_id).paths:
            try:
                cameras.append(scene.camera(cam_id, frames[0]))
            except ThesisAssetsError as error:
                progress_line(f"camera {cam_id} is left out of the look at the Gaussians: {error.problem}")
    return [Finding("warning", "gaussians", 1, note) for note in _unseen(means, cameras)] if cameras else []


def _unseen(means: Any, cameras: Sequence[Any]) -> list[str]:
    from thesis_assets.scenes.camera import MIN_SHARE_IN_VIEW, share_in_view

    share = share_in_view(means, cameras)
    if share >= MIN_SHARE_IN_VIEW:
        return []
    return [
        f"the cameras see {share:.1%} of the Gaussians: these seem to be of another world. nerfstudio turns, centres and scales "
        "the world when it trains; train with `--orientation-method none --center-method none --auto-scale-poses False`"
    ]
