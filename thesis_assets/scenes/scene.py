"""One scene on disk, read by the scene contract: files, cameras, frames, masks, bodies, and the registry's word on its source camera.

A `Scene` lists a folder the first time it is asked about it and keeps the answer: open the scene again to see changes.
What is missing or empty is None. Does not belong here: which scenes there are (catalog.py), pixels (the images room).
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.images.codecs import image_size
from thesis_assets.layout import SceneFolders, SceneTree, check_camera, check_frame, dataset_of
from thesis_assets.scenes.bodies import BodyModel, read_bodies
from thesis_assets.scenes.bounded_files import read_bounded, read_npz
from thesis_assets.scenes.camera import MAX_CAMERA_BYTES, Camera, parse_camera
from thesis_assets.scenes.listing import (
    IMAGE_SUFFIXES,
    FrameFiles,
    SceneRoots,
    file_with_content,
    list_frames,
    list_numbers,
)
from thesis_assets.schemas.scenes import SceneRegistryEntry


def open_scene(roots: SceneRoots, scene_name: str, *, and_gone: bool = False, recipe: str = "") -> Scene:
    """Open a scene by name.

    Args:
        recipe: the folder of a recipe's renders; empty: its renders are those of no recipe.
        and_gone: also where its ground truth is not there: it has no cameras then, and no frames.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
        InvalidScene: there is no such scene under the ground-truth root, or its folder is a link out of the roots.
        InvalidFile: its registry entry cannot be read.
    """
    tree = roots.tree(scene_name, recipe)
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
    path = file_with_content(tree.registry_entry, roots)
    registry = None if path is None else storage.read_json(path, SceneRegistryEntry, max_bytes=MAX_REGISTRY_BYTES)
    return Scene(roots, tree, registry)


def _folder_names(root: Path) -> list[str]:
    return [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []


@dataclass(frozen=True, eq=False)
class Scene:
    """One scene: everything about it that does not need a pixel decoded.

    A link that leads out of the roots raises InvalidScene, whatever is asked for.
    """

    roots: SceneRoots
    tree: SceneTree
    registry: SceneRegistryEntry | None = None
    _folders: dict[tuple[object, ...], FrameFiles] = field(default_factory=dict, repr=False)
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
        if cam_id in self._sizes:
            return self._sizes[cam_id]
        unreadable: InvalidFile | None = None
        for path in self.image_files(cam_id).paths.values():
            try:
                return self._sizes.setdefault(cam_id, image_size(path))
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
                break
        else:
            return []
        values = read_npz(path).get("genders")
        if values is None or values.dtype.kind not in "US":
            raise InvalidFile(
                "the file does not hold genders as text",
                file=path,
                key="genders",
                found=None if values is None else str(values.dtype),
                wanted='text, such as ["female", "male"]',
            )
        return [text.decode() if isinstance(text, bytes) else str(text) for text in values.reshape(-1).tolist()]

    def identity_mapping(self) -> dict[int, int] | None:
        """Estimated person index to ground-truth person index, where the registry has one by hand."""
        if self.registry is None or self.registry.identity_alignment is None:
            return None
        mapping = self.registry.identity_alignment.manual_preproc_to_gt
        return dict(mapping) if mapping is not None else None

    # ---- files

    def image_files(self, cam_id: int) -> FrameFiles:
        """A camera's image folder: frames with content, empty files, and files that are no frames."""
        return self._listed(
            ("images", cam_id), lambda: self.tree.ground_truth.images_dir / str(check_camera(cam_id)), IMAGE_SUFFIXES
        )

    def body_files(self, model: BodyModel, *, estimated: bool = False) -> FrameFiles:
        """A body model's folder."""
        return self._listed((model, estimated), lambda: self.bodies_dir(model, estimated=estimated), (".npz",))

    def camera_files(self, cam_id: int) -> FrameFiles:
        """A camera's folder of calibrations."""
        return self._listed(
            ("cameras", cam_id), lambda: self.tree.ground_truth.cameras_dir / str(check_camera(cam_id)), (".npz",)
        )

    def gaussian_files(self) -> FrameFiles:
        """The Gaussians of single frames."""
        return self._listed(("gaussians",), lambda: self.tree.estimated.gaussians_dir, (".ply",))

    def has_static_gaussians(self) -> bool:
        """Whether one file of Gaussians stands for all frames."""
        return file_with_content(self.tree.estimated.static_gaussians, self.roots) is not None

    def render_files(self, cam_id: int) -> FrameFiles:
        """A camera's folder of renders by another pipeline."""
        return self._listed(("renders", cam_id), lambda: self.tree.renders_dir / str(check_camera(cam_id)), (".png",))

    def bodies_dir(self, model: BodyModel, *, estimated: bool = False) -> Path:
        """A body model's folder, in the ground truth or the estimates."""
        return self._side(estimated).bodies_dir(model)

    def image_path(self, cam_id: int, fname: str) -> Path | None:
        """The photograph of a camera at a frame, or None where it is missing or empty."""
        return self.image_files(cam_id).paths.get(check_frame(fname))

    def mask_path(self, cam_id: int, fname: str, person: int | str = "all", *, estimated: bool = False) -> Path | None:
        """The mask of a person (or of `all`), or None where it is missing or empty."""

        def folder() -> Path:
            return self._side(estimated).mask(check_camera(cam_id), fname, person).parent

        return self._listed(("masks", cam_id, person, estimated), folder, (".png",)).paths.get(check_frame(fname))

    def depth_path(self, cam_id: int, fname: str, *, estimated: bool = False) -> Path | None:
        """The depth map (float32, metres) of a camera at a frame, or None."""

        def folder() -> Path:
            return self._side(estimated).depth(check_camera(cam_id), fname).parent

        return self._listed(("depths", cam_id, estimated), folder, (".npy",)).paths.get(check_frame(fname))

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

    def _listed(self, what: tuple[object, ...], folder: Callable[[], Path], suffixes: tuple[str, ...]) -> FrameFiles:
        """A folder's files, listed once; asked a view, a path would cost more than the look-up."""
        if what not in self._folders:
            self._folders[what] = list_frames(folder(), suffixes, self.roots)
        return self._folders[what]

    def _side(self, estimated: bool) -> SceneFolders:
        return self.tree.estimated if estimated else self.tree.ground_truth


MAX_REGISTRY_BYTES = 1024 * 1024


def write_registry(path: Path, entry: SceneRegistryEntry) -> None:
    """Write a registry entry; keys without a value are left out."""
    storage.write_json(path, entry.model_dump(mode="json", exclude_none=True))


MAX_SKIP_FRAMES_BYTES = 4 * 1024 * 1024


def read_skip_frames(path: Path) -> set[int]:
    """Frame numbers of one line, comma separated; spaces around a token, line breaks and a last comma do no harm."""
    try:
        text = read_bounded(path, MAX_SKIP_FRAMES_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidFile("the file is not UTF-8 text", file=path, found=str(error)) from error
    numbers: set[int] = set()
    for token in text.replace("\n", ",").replace("\r", ",").split(","):
        word = token.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdigit() and len(word) <= 18):
            raise InvalidFile(
                "a token is not a frame number",
                file=path,
                found=ascii(word[:80]),
                wanted="numbers, comma separated, such as: 5, 12, 13, 27",
            )
        numbers.add(int(word))
    return numbers


def write_genders(path: Path, genders: Sequence[str]) -> None:
    """Write `meta.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, genders=np.array(list(genders), dtype=np.str_))
    storage.write_bytes(path, buffer.getvalue())
