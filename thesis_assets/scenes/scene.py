"""One scene on disk, read by the scene contract: cameras, frames, images, masks, bodies, source camera.

A `Scene` lists a folder the first time it is asked about it and keeps the answer: open the scene again to see changes.
Does not belong here: which scenes there are (catalog.py), pixels (the images room).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.layout import check_camera, check_frame, dataset_of
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.bounded_files import read_bounded
from thesis_assets.scenes.camera import MAX_CAMERA_BYTES, Camera, parse_camera
from thesis_assets.scenes.genders import read_genders
from thesis_assets.scenes.listing import IMAGE_SUFFIXES, SceneRoots, file_with_content, list_numbers
from thesis_assets.scenes.registry import read_registry
from thesis_assets.scenes.scene_files import SceneFiles
from thesis_assets.scenes.skip_frames import read_skip_frames
from thesis_assets.schemas.scenes import SceneRegistryEntry

__all__ = ["Scene", "SceneRoots", "open_scene"]


def open_scene(roots: SceneRoots, scene_name: str, *, and_gone: bool = False) -> Scene:
    """Open a scene by name.

    Args:
        and_gone: also where its ground truth is not there: it has no cameras then, and no frames.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
        InvalidScene: there is no such scene under the ground-truth root, or its folder is a link out of the roots.
        InvalidFile: its registry entry cannot be read.
    """
    tree = roots.tree(scene_name)
    if not (and_gone or tree.ground_truth.base.is_dir()):
        near = difflib.get_close_matches(scene_name, _folder_names(roots.canonical_gt), n=3)
        raise InvalidScene(
            "there is no such scene",
            file=tree.ground_truth.base,
            found=scene_name,
            wanted="a folder of this name" + (f"; close to it: {', '.join(near)}" if near else ""),
            remedy="correct the name, or the setting of the ground-truth root",
        )
    for base in (tree.ground_truth.base, tree.estimated.base, tree.renders_dir):
        if base.exists():
            roots.check_inside(base)
    return Scene(roots=roots, tree=tree, registry=read_registry(roots, scene_name))


def _folder_names(root: Path) -> list[str]:
    return [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []


@dataclass(frozen=True, eq=False)
class Scene(SceneFiles):
    """One scene: everything about it that does not need a pixel decoded."""

    registry: SceneRegistryEntry | None = None
    _cameras: dict[int, tuple[bytes, Camera]] = field(default_factory=dict, repr=False)
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.tree.scene_name

    @property
    def dataset(self) -> str:
        return dataset_of(self.name)

    # ---- cameras and frames

    def camera_ids(self) -> list[int]:
        """Cameras that have an image folder, in numeric order."""
        return list_numbers(self.tree.ground_truth.images_dir)

    @property
    def registered_camera(self) -> int | None:
        """The source camera that the registry names, whether or not it has images; None without an entry."""
        return self.registry.cam_id if self.registry is not None else None

    def source_camera(self) -> int:
        """The camera whose video the estimates come from, by the registry.

        Raises:
            InvalidScene: there is no registry entry, or it names a camera without images.
        """
        if self.registry is None:
            raise InvalidScene(
                f"the scene `{self.name}` has no registry entry, so its source camera is not known",
                file=self.tree.registry_entry,
                wanted=f'{{"seq_name": "{self.name}", "cam_id": <the camera of the monocular video>}}',
                remedy="write this file, or name a camera in the experiment: generation.source_camera: <camera id>",
            )
        if self.registry.cam_id not in self.camera_ids():
            raise InvalidScene(
                "the registry names a source camera that has no images",
                file=self.tree.registry_entry,
                key="cam_id",
                found=self.registry.cam_id,
                wanted=f"one of {self.camera_ids()}",
                remedy="correct cam_id, or bring the images of that camera",
            )
        return self.registry.cam_id

    def skip_frames(self) -> set[int]:
        """Frame numbers to leave out of everything: `skip_frames.csv` of either root.

        Raises:
            InvalidFile: a file holds something other than numbers.
        """
        return set(self._skip_frames)

    @cached_property
    def _skip_frames(self) -> frozenset[int]:
        numbers: set[int] = set()
        for folders in (self.tree.ground_truth, self.tree.estimated):
            path = file_with_content(folders.skip_frames, self.roots)
            if path is not None:
                numbers |= read_skip_frames(path)
        return frozenset(numbers)

    def frames(self, cam_id: int | None = None, *, apply_skip_frames: bool = True) -> list[str]:
        """Frames with an image, in numeric order: of one camera, or of any (None)."""
        cameras = self.camera_ids() if cam_id is None else [cam_id]
        found = {fname for camera in cameras for fname in self.image_files(camera).paths}
        skipped = self._skip_frames if apply_skip_frames else frozenset()
        return sorted((fname for fname in found if int(fname) not in skipped), key=int)

    def camera(self, cam_id: int, fname: str) -> Camera:
        """Calibration of a camera at a frame. A static camera's is parsed once and shared by its frames.

        Raises:
            InvalidScene: the camera has no image to take the size from.
            InvalidFile: the camera file is missing, empty, or not a calibration.
        """
        path = self.camera_files(cam_id).paths.get(check_frame(fname))
        if path is None:
            raise InvalidFile(
                "the camera has no calibration at a frame",
                file=self.tree.ground_truth.camera(cam_id, fname),
                wanted="intrinsics (1, 3, 3) and extrinsics (1, 3, 4)",
                remedy="write one file a frame, also where the camera does not move; or add the frame to skip_frames.csv",
            )
        content = read_bounded(path, MAX_CAMERA_BYTES)
        known = self._cameras.get(cam_id)
        if known is None or known[0] != content:
            height, width = self.image_size(cam_id)
            known = (content, parse_camera(content, path, cam_id, height, width))
            self._cameras[cam_id] = known
        return known[1]

    def body_frames(self, model: BodyModel, *, estimated: bool = False, apply_skip_frames: bool = True) -> list[str]:
        """Frames with a body-model file, in numeric order."""
        skipped = self._skip_frames if apply_skip_frames else frozenset()
        paths = self.body_files(model, estimated=estimated).paths
        return [fname for fname in paths if int(fname) not in skipped]

    def image_size(self, cam_id: int) -> tuple[int, int]:
        """(height, width) of a camera's images: of the first whose header can be read.

        Raises:
            InvalidScene: the camera has no readable image.
        """
        if cam_id not in self._sizes:
            self._sizes[cam_id] = self._first_size(cam_id)
        return self._sizes[cam_id]

    def _first_size(self, cam_id: int) -> tuple[int, int]:
        from thesis_assets.images.codecs import image_size

        unreadable: InvalidFile | None = None
        for path in self.image_files(cam_id).paths.values():
            try:
                return image_size(path)
            except InvalidFile as error:  # that one frame is dropped by the export; the others still say the size
                unreadable = error
        raise InvalidScene(
            f"camera {cam_id} of `{self.name}` has no readable image",
            file=self.tree.ground_truth.images_dir / str(cam_id),
            found=unreadable.problem if unreadable else "no image with content",
            wanted=f"<frame>{IMAGE_SUFFIXES[0]}",
        )

    # ---- people

    def person_ids(self, cam_id: int) -> list[int]:
        """People that have a mask folder at a camera, in numeric order."""
        return list_numbers(self.tree.ground_truth.masks_dir / str(check_camera(cam_id)))

    def n_people(self) -> int:
        """How many people the masks show, else the bodies of the first frame; 0 where neither is there."""
        by_mask = {person for cam_id in self.camera_ids() for person in self.person_ids(cam_id)}
        if by_mask:
            return len(by_mask)
        models: tuple[BodyModel, ...] = ("smplx", "smpl")
        for model in models:
            for fname in self.body_frames(model):
                path = self.body_path(model, fname)
                if path is not None:
                    return read_bodies(path, model).n_people
        return 0

    def genders(self) -> list[str]:
        """Gender a person from `meta.npz`, ground truth before estimates; empty where there is none.

        Raises:
            InvalidFile: the file has no `genders`, or they are not text.
        """
        for folders in (self.tree.ground_truth, self.tree.estimated):
            path = file_with_content(folders.meta, self.roots)
            if path is not None:
                return read_genders(path)
        return []

    def identity_mapping(self) -> dict[int, int] | None:
        """Estimated person index to ground-truth person index, where the registry has one by hand."""
        if self.registry is None or self.registry.identity_alignment is None:
            return None
        mapping = self.registry.identity_alignment.manual_preproc_to_gt
        return dict(mapping) if mapping is not None else None
