"""Where the files of one scene lie, as far as they are there: images, masks, depths, bodies, Gaussians, renders.

A folder is listed once, at the first question about it; what is missing or empty is None.
Does not belong here: cameras, frames and people (scene.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from thesis_assets.layout import SceneFolders, SceneTree, check_camera, check_frame
from thesis_assets.scenes.bodies import BodyModel
from thesis_assets.scenes.listing import IMAGE_SUFFIXES, FrameFiles, SceneRoots, file_with_content, list_frames


@dataclass(frozen=True, eq=False)
class SceneFiles:
    """The files of one scene. A link that leads out of the roots raises InvalidScene, whatever is asked for."""

    roots: SceneRoots
    tree: SceneTree
    _folders: dict[tuple[Path, tuple[str, ...]], FrameFiles] = field(default_factory=dict, repr=False)

    def image_files(self, cam_id: int) -> FrameFiles:
        """A camera's image folder: frames with content, empty files, and files that are no frames."""
        return self._listed(self.tree.ground_truth.images_dir / str(check_camera(cam_id)), IMAGE_SUFFIXES)

    def body_files(self, model: BodyModel, *, estimated: bool = False) -> FrameFiles:
        """A body model's folder."""
        return self._listed(self.bodies_dir(model, estimated=estimated), (".npz",))

    def camera_files(self, cam_id: int) -> FrameFiles:
        """A camera's folder of calibrations."""
        return self._listed(self.tree.ground_truth.cameras_dir / str(check_camera(cam_id)), (".npz",))

    def gaussian_files(self) -> FrameFiles:
        """The Gaussians of single frames."""
        return self._listed(self.tree.estimated.gaussians_dir, (".ply",))

    def has_static_gaussians(self) -> bool:
        """Whether one file of Gaussians stands for all frames."""
        return file_with_content(self.tree.estimated.static_gaussians, self.roots) is not None

    def render_files(self, cam_id: int) -> FrameFiles:
        """A camera's folder of renders by another pipeline."""
        return self._listed(self.tree.renders_dir / str(check_camera(cam_id)), (".png",))

    def bodies_dir(self, model: BodyModel, *, estimated: bool = False) -> Path:
        """A body model's folder, in the ground truth or the estimates."""
        return self._side(estimated).bodies_dir(model)

    def image_path(self, cam_id: int, fname: str) -> Path | None:
        """The photograph of a camera at a frame, or None where it is missing or empty."""
        return self.image_files(cam_id).paths.get(check_frame(fname))

    def mask_path(self, cam_id: int, fname: str, person: int | str = "all", *, estimated: bool = False) -> Path | None:
        """The mask of a person (or of `all`), or None where it is missing or empty."""
        folder = self._side(estimated).mask(check_camera(cam_id), check_frame(fname), person).parent
        return self._listed(folder, (".png",)).paths.get(fname)

    def depth_path(self, cam_id: int, fname: str, *, estimated: bool = False) -> Path | None:
        """The depth map (float32, metres) of a camera at a frame, or None."""
        folder = self._side(estimated).depth(check_camera(cam_id), check_frame(fname)).parent
        return self._listed(folder, (".npy",)).paths.get(fname)

    def mesh_path(self, fname: str, *, estimated: bool = False) -> Path | None:
        """The scene mesh of a frame, or None."""
        return self._listed(self._side(estimated).meshes_dir, (".obj",)).paths.get(check_frame(fname))

    def body_path(self, model: BodyModel, fname: str, *, estimated: bool = False) -> Path | None:
        """The body-model file of a frame, or None where it is missing or empty."""
        return self.body_files(model, estimated=estimated).paths.get(check_frame(fname))

    def gaussians_path(self, fname: str) -> Path | None:
        """The Gaussians of a frame: its own file, else the static one, else None."""
        own = self.gaussian_files().paths.get(check_frame(fname))
        return own or file_with_content(self.tree.estimated.static_gaussians, self.roots)

    def render_path(self, cam_id: int, fname: str) -> Path | None:
        """The render that another pipeline made, or None where it is missing or empty."""
        return self.render_files(cam_id).paths.get(check_frame(fname))

    def _listed(self, folder: Path, suffixes: tuple[str, ...]) -> FrameFiles:
        key = (folder, suffixes)
        if key not in self._folders:
            self._folders[key] = list_frames(folder, suffixes, self.roots)
        return self._folders[key]

    def _side(self, estimated: bool) -> SceneFolders:
        return self.tree.estimated if estimated else self.tree.ground_truth
