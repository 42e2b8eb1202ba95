"""An arranged capture written as a scene: images, calibrations, masks, the record of their origin, registry entry, Gaussians.

The scene's folder below the ground-truth root appears by one rename, last: whoever lists scenes sees it whole. JPEG photographs
are linked, others converted. Does not belong here: reading a format, choosing camera ids.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.images.codecs import JPEG_QUALITY, check_complete, encode_jpeg, encode_png, image_kind, read_rgb
from thesis_assets.launch.telling import every
from thesis_assets.layout import SceneFolders, SceneTree
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.scenes.importers.capture import Arrangement, Capture, PlacedPhotograph
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import write_registry
from thesis_assets.schemas.scenes import ImageOrigin, ImportedImage, ImportRecord, SceneRegistryEntry

LinkMode = Literal["auto", "copy"]

_PROGRESS_EVERY_S = 2.0
_MAX_THREADS = 8


@dataclass(frozen=True)
class ImportedScene:
    """What an import wrote. `origins`: how many images came by which way (`hard_link`, `reflink`, `copy`, `jpeg_q95`)."""

    tree: SceneTree
    origins: Mapping[str, int]
    n_masks: int
    registry: Path | None
    gaussians: Path | None


def write_scene(
    roots: SceneRoots,
    scene_name: str,
    capture: Capture,
    arrangement: Arrangement,
    *,
    source_camera: int | None = None,
    gaussians: Path | None = None,
    link_mode: LinkMode = "auto",
    on_progress: Callable[[str], None] = lambda line: None,
) -> ImportedScene:
    """Write a scene that is not there yet. On a failure no file of it stays.

    Args:
        source_camera: its id goes into the registry entry; None writes none.
        gaussians: a standard 3DGS PLY in the capture's world, linked as the scene's `gaussians/static.ply`.
        link_mode: `auto` hard-links JPEG files and Gaussians where the file system can; `copy` makes bytes of their own.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
        InvalidScene: there is a scene, a registry entry, or a file of Gaussians of that name already.
        InvalidFile: a photograph or mask cannot be used.
    """
    tree = roots.tree(scene_name)
    entry = SceneRegistryEntry(seq_name=scene_name, cam_id=source_camera) if source_camera is not None else None
    refuse_existing(tree, entry, gaussians)
    with contextlib.ExitStack() as undo:
        with storage.atomic_directory(tree.ground_truth.base) as temporary:
            images = _write_images(SceneFolders(temporary), arrangement, link_mode, on_progress)
            record = ImportRecord(
                format=capture.format,
                sources={str(path.absolute()): storage.sha256_file(path) for path in capture.source_files},
                world=dict(capture.world),
                cameras=dict(arrangement.camera_names),
                images=images,
            )
            storage.write_json(SceneFolders(temporary).import_record, record)
            refuse_existing(tree, entry, gaussians)
            _write_beside(tree, entry, gaussians, link_mode, undo)
        undo.pop_all()
    return ImportedScene(
        tree=tree,
        origins=dict(Counter(image.origin for image in images)),
        n_masks=sum(image.mask is not None for image in images),
        registry=tree.registry_entry if entry is not None else None,
        gaussians=tree.estimated.static_gaussians if gaussians is not None else None,
    )


def refuse_existing(tree: SceneTree, entry: SceneRegistryEntry | None, gaussians: Path | None) -> None:
    """Refuse to write over anything. A registry entry or Gaussians of the same content, as a killed import leaves, may stay.

    Raises:
        InvalidScene: with the file or folder that is there.
    """
    there = [tree.ground_truth.base]
    if entry is not None and not _holds_entry(tree.registry_entry, entry):
        there.append(tree.registry_entry)
    if gaussians is not None and not _same_content(tree.estimated.static_gaussians, gaussians):
        there.append(tree.estimated.static_gaussians)
    for path in there:
        if path.exists() or path.is_symlink():
            raise InvalidScene(
                f"the scene `{tree.scene_name}` is there already; nothing is written over it",
                file=path,
                remedy="choose another name, or move it away first",
            )


def _write_beside(
    tree: SceneTree,
    entry: SceneRegistryEntry | None,
    gaussians: Path | None,
    link_mode: LinkMode,
    undo: contextlib.ExitStack,
) -> None:
    """Registry entry and Gaussians, which lie in other roots than the scene's folder."""
    if gaussians is not None and not tree.estimated.static_gaussians.exists():
        undo.callback(tree.estimated.static_gaussians.unlink, missing_ok=True)
        storage.link_or_copy(gaussians, tree.estimated.static_gaussians, link_mode=link_mode)
    if entry is not None and not tree.registry_entry.exists():
        undo.callback(tree.registry_entry.unlink, missing_ok=True)
        write_registry(tree.registry_entry, entry)


def _holds_entry(path: Path, entry: SceneRegistryEntry) -> bool:
    wanted = storage.to_json_bytes(entry.model_dump(mode="json", exclude_none=True))
    return path.is_file() and path.read_bytes() == wanted


def _same_content(path: Path, other: Path) -> bool:
    if not path.is_file() or path.stat().st_size != other.stat().st_size:
        return False
    return path.samefile(other) or storage.sha256_file(path) == storage.sha256_file(other)


def _write_images(
    folders: SceneFolders, arrangement: Arrangement, link_mode: LinkMode, on_progress: Callable[[str], None]
) -> list[ImportedImage]:
    """Every image with its calibration and mask; decoding and encoding run in threads, they leave the interpreter free."""
    placed = arrangement.placed
    images: list[ImportedImage] = []

    def progress(spent: float) -> str:
        rate = len(images) / spent
        left = (len(placed) - len(images)) / rate
        return f"images: {len(images)} of {len(placed)}, {rate:.1f} a second, {left:.0f} s left"

    report = every(_PROGRESS_EVERY_S, on_progress, progress)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for image in pool.map(partial(_write_image, folders, link_mode), placed):
            images.append(image)
            report()
    return images


def _write_image(folders: SceneFolders, link_mode: LinkMode, placed: PlacedPhotograph) -> ImportedImage:
    cam_id, fname, photograph = placed.cam_id, placed.fname, placed.photograph
    origin = _bring_photograph(photograph.path, folders.image(cam_id, fname), link_mode=link_mode)
    camera = Camera(cam_id, photograph.intrinsics, photograph.extrinsics, photograph.height, photograph.width)
    write_camera(folders.camera(cam_id, fname), camera)
    if photograph.mask is not None:
        _bring_mask(photograph.mask, folders.mask(cam_id, fname), (photograph.height, photograph.width))
    return ImportedImage(cam_id=cam_id, fname=fname, name=photograph.name, origin=origin, mask=photograph.mask_name)


_MASK_THRESHOLD = 128


def _bring_photograph(source: Path, target: Path, *, link_mode: Literal["auto", "copy"]) -> ImageOrigin:
    """Make `target` the JPEG of a photograph: a JPEG is linked (or copied), anything else is encoded at quality 95.

    What the file is, its first bytes say, not its suffix.
    """
    with source.open("rb") as handle:
        kind = image_kind(handle.read(16))
    if kind == "jpeg":
        check_complete(source)
        return storage.link_or_copy(source, target, link_mode=link_mode)
    storage.write_bytes(target, encode_jpeg(read_rgb(source), JPEG_QUALITY))
    return "jpeg_q95"


def _bring_mask(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a mask as a PNG of 0 and 255; any channel of 128 or more is 255. `size`: (height, width) of its photograph."""
    values = read_rgb(source).max(axis=2)
    if values.shape != size:
        raise InvalidFile(
            "a mask has another size than its photograph",
            file=source,
            found=f"{values.shape[1]} x {values.shape[0]}",
            wanted=f"{size[1]} x {size[0]}",
        )
    brightest = int(values.max())
    if 0 < brightest < _MASK_THRESHOLD:
        raise InvalidFile(
            "a mask holds no value that marks anything",
            file=source,
            found=f"values up to {brightest}",
            wanted="0 and 255",
            remedy="write people as 255; a mask of 0 and 1 needs its values multiplied by 255",
        )
    storage.write_bytes(target, encode_png(((values >= _MASK_THRESHOLD) * 255).astype(np.uint8)))
