"""An arranged capture written as a scene: images, calibrations, masks, other files, the record of their origin, registry entry, Gaussians.

The scene's folder below the ground-truth root appears by one rename, last: whoever lists scenes sees it whole. JPEG photographs
are linked, others converted. Does not belong here: reading a format, choosing camera ids.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

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
from thesis_assets.scenes.importers.capture import Arrangement, Capture, OtherFile, Photograph, PlacedPhotograph
from thesis_assets.scenes.importers.lens import undistorted
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.scenes.scene import write_registry
from thesis_assets.schemas.scenes import ImageOrigin, ImportedImage, ImportRecord, SceneRegistryEntry

LinkMode = Literal["auto", "copy"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_PROGRESS_EVERY_S = 2.0
_MAX_THREADS = 8


@dataclass(frozen=True)
class ImportedScene:
    """What an import wrote. `origins`: how many images came by which way (`schemas.scenes.ImageOrigin`)."""

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
    raw_gt_dir: Path | None = None,
    gaussians: Path | None = None,
    link_mode: LinkMode = "auto",
    on_progress: Callable[[str], None] = lambda line: None,
) -> ImportedScene:
    """Write a scene that is not there yet. On a failure no file of it stays.

    Args:
        source_camera: its id goes into the registry entry; None writes none.
        raw_gt_dir: the original's folder, for the registry entry, where its images lie in `images/<camera>/`.
        gaussians: a standard 3DGS PLY in the capture's world, linked as the scene's `gaussians/static.ply`.
        link_mode: `auto` hard-links what needs no change where the file system can; `copy` makes bytes of their own.

    Raises:
        InvalidKey: the name is unsafe, or has no dataset in front.
        InvalidScene: there is a scene, a registry entry, or a file of Gaussians of that name already.
        InvalidFile: a photograph, a mask or another file cannot be used.
    """
    tree = roots.tree(scene_name)
    entry = registry_entry(scene_name, source_camera, raw_gt_dir) if source_camera is not None else None
    refuse_existing(tree, entry, gaussians)
    with contextlib.ExitStack() as undo:
        with storage.atomic_directory(tree.ground_truth.base) as temporary:
            images = _write_images(SceneFolders(temporary), arrangement, link_mode, on_progress)
            _each("other files", capture.others, partial(_bring, SceneFolders(temporary), link_mode), on_progress)
            record = ImportRecord(
                format=capture.format,
                sources={str(path.absolute()): storage.sha256_file(path) for path in capture.source_files},
                world=dict(capture.world),
                cameras=dict(arrangement.camera_names),
                images=images,
                left_out=list(capture.left_out),
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


def registry_entry(scene_name: str, source_camera: int, raw_gt_dir: Path | None) -> SceneRegistryEntry:
    """The registry entry that an import writes; arguments as of `write_scene`."""
    entry = SceneRegistryEntry(seq_name=scene_name, cam_id=source_camera)
    if raw_gt_dir is None:
        return entry
    raw = SceneFolders(raw_gt_dir.absolute())
    video = raw.images_dir / str(source_camera)
    return entry.model_copy(update={"raw_gt_dir_path": str(raw.base), "video_path": str(video)})


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
    return _each("images", arrangement.placed, partial(_write_image, folders, link_mode), on_progress)


def _each(
    what: str, items: Sequence[Item], do: Callable[[Item], Result], on_progress: Callable[[str], None]
) -> list[Result]:
    """Of every item; decoding and encoding run in threads, they leave the interpreter free."""
    done: list[Result] = []

    def progress(spent: float) -> str:
        rate = len(done) / spent
        left = (len(items) - len(done)) / rate
        return f"{what}: {len(done)} of {len(items)}, {rate:.1f} a second, {left:.0f} s left"

    report = every(_PROGRESS_EVERY_S, on_progress, progress)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for each in pool.map(do, items):
            done.append(each)
            report()
    return done


def _write_image(folders: SceneFolders, link_mode: LinkMode, placed: PlacedPhotograph) -> ImportedImage:
    cam_id, fname, photograph = placed.cam_id, placed.fname, placed.photograph
    content = converted(photograph)
    linked = _put(photograph.path, folders.image(cam_id, fname), content, link_mode)
    origin: ImageOrigin = linked or ("jpeg_q95" if photograph.lens is None else "undistorted_q95")
    camera = Camera(cam_id, photograph.intrinsics, photograph.extrinsics, photograph.height, photograph.width)
    write_camera(folders.camera(cam_id, fname), camera)
    mask = photograph.mask_name
    for person, (source, marked) in masks_of(photograph).items():
        _put(source, folders.mask(cam_id, fname, person), marked, link_mode)
    return ImportedImage(cam_id=cam_id, fname=fname, name=photograph.name, origin=origin, mask=mask)


def _bring(folders: SceneFolders, link_mode: LinkMode, other: OtherFile) -> None:
    content = None if other.convert is None else other.convert(other.source)
    _put(other.source, other.place(folders), content, link_mode)


def _put(source: Path, target: Path, content: bytes | None, link_mode: LinkMode) -> storage.LinkMode | None:
    """Write the content, or link the source where there is none; returns how it was linked."""
    if content is None:
        return storage.link_or_copy(source, target, link_mode=link_mode)
    storage.write_bytes(target, content)
    return None


def check_capture(
    capture: Capture, arrangement: Arrangement, on_progress: Callable[[str], None] = lambda line: None
) -> None:
    """Decode what an import would decode, and write nothing.

    Raises:
        InvalidFile: a photograph, a mask or another file cannot be used.
    """
    _each("images", arrangement.placed, _check_image, on_progress)
    _each("other files", capture.others, _check_other, on_progress)


def _check_image(placed: PlacedPhotograph) -> None:
    converted(placed.photograph)
    masks_of(placed.photograph)


def _check_other(other: OtherFile) -> None:
    if other.convert is not None:
        other.convert(other.source)


def converted(photograph: Photograph) -> bytes | None:
    """A photograph as a JPEG of quality 95 in colour, undistorted; None where it is one already, to be linked or copied as it is.

    What the file is, its first bytes say, not its suffix.

    Raises:
        InvalidFile: it cannot be used.
    """
    source = photograph.path
    check_complete(source)
    if photograph.lens is not None:
        return encode_jpeg(undistorted(read_rgb(source), photograph.intrinsics, photograph.lens), JPEG_QUALITY)
    return None if jpeg_components(source) == 3 else encode_jpeg(read_rgb(source), JPEG_QUALITY)


def masks_of(photograph: Photograph) -> dict[str, tuple[Path, bytes | None]]:
    """The photograph's masks: a person, or `all` -> the file, and its content as a PNG of 0 and 255; None where it is one already.

    Raises:
        InvalidFile: one cannot be read, is of another size, or marks by other values.
    """
    masks = {person: (source, _person_mask(photograph, source)) for person, source in photograph.people.items()}
    if photograph.mask is not None:
        values = _mask_values(photograph, photograph.mask).max(axis=2)
        marked = encode_png((mask_of(values, photograph.mask) * 255).astype(np.uint8))
        return {**masks, "all": (photograph.mask, marked)}
    return masks


def _person_mask(photograph: Photograph, source: Path) -> bytes | None:
    """A mask that marks by any value but 0, such as colours of persons: there is nobody else in it to be lost."""
    red, green, blue = channels = np.moveaxis(_mask_values(photograph, source), 2, 0)
    marked = np.where(
        red | green | blue, np.uint8(255), np.uint8(0)
    )  # `any` over the last axis takes eight times as long
    if photograph.lens is not None:
        return encode_png(undistorted(marked, photograph.intrinsics, photograph.lens, nearest=True))
    return None if all((channel == marked).all() for channel in channels) else encode_png(marked)


def _mask_values(photograph: Photograph, source: Path) -> NDArray[np.uint8]:
    """(H, W, 3) values of a mask of the photograph's size."""
    values, size = read_rgb(source), (photograph.height, photograph.width)
    if values.shape[:2] != size:
        raise InvalidFile(
            "a mask has another size than its photograph",
            file=source,
            found=f"{values.shape[1]} x {values.shape[0]}",
            wanted=f"{size[1]} x {size[0]}",
        )
    return values
