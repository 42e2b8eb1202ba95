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
from typing import Literal, TypeVar

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidScene
from thesis_assets.images.codecs import (
    JPEG_QUALITY,
    check_complete,
    encode_jpeg,
    encode_png,
    jpeg_components,
    mask_of,
    read_rgb,
)
from thesis_assets.launch.telling import every
from thesis_assets.layout import SceneFolders, SceneTree
from thesis_assets.scenes.camera import Camera, write_camera
from thesis_assets.scenes.importers.capture import Arrangement, Capture, Photograph, PlacedPhotograph
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import write_registry
from thesis_assets.schemas.scenes import ImageOrigin, ImportedImage, ImportRecord, SceneRegistryEntry

LinkMode = Literal["auto", "copy"]
Result = TypeVar("Result")

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
    return _each(arrangement, partial(_write_image, folders, link_mode), on_progress)


def _each(
    arrangement: Arrangement, do: Callable[[PlacedPhotograph], Result], on_progress: Callable[[str], None]
) -> list[Result]:
    """Of every image; decoding and encoding run in threads, they leave the interpreter free."""
    placed = arrangement.placed
    done: list[Result] = []

    def progress(spent: float) -> str:
        rate = len(done) / spent
        left = (len(placed) - len(done)) / rate
        return f"images: {len(done)} of {len(placed)}, {rate:.1f} a second, {left:.0f} s left"

    report = every(_PROGRESS_EVERY_S, on_progress, progress)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for each in pool.map(do, placed):
            done.append(each)
            report()
    return done


def _write_image(folders: SceneFolders, link_mode: LinkMode, placed: PlacedPhotograph) -> ImportedImage:
    cam_id, fname, photograph = placed.cam_id, placed.fname, placed.photograph
    target, content = folders.image(cam_id, fname), converted(photograph.path)
    if content is None:
        origin: ImageOrigin = storage.link_or_copy(photograph.path, target, link_mode=link_mode)
    else:
        storage.write_bytes(target, content)
        origin = "jpeg_q95"
    camera = Camera(cam_id, photograph.intrinsics, photograph.extrinsics, photograph.height, photograph.width)
    write_camera(folders.camera(cam_id, fname), camera)
    mask = mask_bytes(photograph)
    if mask is not None:
        storage.write_bytes(folders.mask(cam_id, fname), mask)
    return ImportedImage(cam_id=cam_id, fname=fname, name=photograph.name, origin=origin, mask=photograph.mask_name)


def check_photographs(arrangement: Arrangement, on_progress: Callable[[str], None] = lambda line: None) -> None:
    """Decode what an import would decode, and write nothing.

    Raises:
        InvalidFile: a photograph or mask cannot be used.
    """
    _each(arrangement, _checked, on_progress)


def _checked(placed: PlacedPhotograph) -> None:
    converted(placed.photograph.path)
    mask_bytes(placed.photograph)


def converted(source: Path) -> bytes | None:
    """A photograph as a JPEG of quality 95 in colour; None where it is one already, to be linked or copied as it is.

    What the file is, its first bytes say, not its suffix.

    Raises:
        InvalidFile: it cannot be used.
    """
    check_complete(source)
    return None if jpeg_components(source) == 3 else encode_jpeg(read_rgb(source), JPEG_QUALITY)


def mask_bytes(photograph: Photograph) -> bytes | None:
    """The photograph's mask as a PNG of 0 and 255, of whichever channel is brightest; None where it has none.

    Raises:
        InvalidFile: it cannot be read, is of another size, or marks by other values.
    """
    source, size = photograph.mask, (photograph.height, photograph.width)
    if source is None:
        return None
    values = read_rgb(source).max(axis=2)
    if values.shape != size:
        raise InvalidFile(
            "a mask has another size than its photograph",
            file=source,
            found=f"{values.shape[1]} x {values.shape[0]}",
            wanted=f"{size[1]} x {size[0]}",
        )
    return encode_png((mask_of(values, source) * 255).astype(np.uint8))
