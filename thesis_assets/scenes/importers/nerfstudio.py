"""nerfstudio's `transforms.json` (also that of instant-ngp and of Blender's NeRF scenes) as a capture.

Source: https://docs.nerf.studio/quickstart/data_conventions.html. `transform_matrix` is camera-to-world with OpenGL axes.
Intrinsics are in pixels with pixel centres at half-integers, as nerfstudio casts its rays. `applied_transform` and
`applied_scale` say how the file's world came from COLMAP's; they are part of the matrices already and are *not* undone: the
scene's world is the file's.
Does not belong here: camera ids, frames, writing.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_bounded
from thesis_assets.scenes.importers.capture import (
    MAX_PHOTOGRAPHS,
    Capture,
    Matrix,
    Photograph,
    find_below,
    fitted_intrinsics,
    photograph_size,
    refuse_repeats,
    scaling_notes,
)
from thesis_assets.scenes.importers.nerfstudio_entry import Entry, Values
from thesis_assets.scenes.importers.poses import extrinsics_from_opengl

MAX_TRANSFORMS_BYTES = 256 * 1024 * 1024
FILE_NAME = "transforms.json"

_NOT_TAKEN = ("depth_file_path", "normal_file_path", "semantics_path")
_WORLD_KEYS = ("applied_transform", "applied_scale")
_UNSTATED_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_nerfstudio(source: Path, *, images: Path | None = None) -> Capture:
    """Read a `transforms.json`, or the one in a folder. Values of a frame override those of the whole file.

    Args:
        images: the folder that the file's paths start from; None takes the file's own.

    Raises:
        InvalidFile: the file is missing, too large, or no such listing; a path leaves the folder or is no file; a matrix is
            not finite or no rotation; a lens is distorted by more than `NEGLIGIBLE_DISTORTION`, or is no pinhole's.
    """
    listing = source / FILE_NAME if source.is_dir() else source
    shared = _read_listing(listing)
    root = images or listing.parent
    entries = [Entry(listing, f"frames[{number}]", frame, shared) for number, frame in enumerate(shared["frames"])]
    read = [_photograph(entry, root) for entry in entries]
    photographs = tuple(photograph for photograph, _ in read)
    refuse_repeats((photograph.name for photograph in photographs), listing)
    stated = {photograph.name: size for photograph, size in read}
    return Capture(
        format="nerfstudio",
        source=listing,
        source_files=(listing,),
        photographs=photographs,
        notes=(*scaling_notes(photographs, stated), *_not_taken(shared)),
        world=_world(shared),
    )


def _read_listing(path: Path) -> dict[str, Any]:
    content = read_bounded(path, MAX_TRANSFORMS_BYTES)
    try:
        # The standard parser takes the literal NaN that Python writes, so that its place can be named.
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidFile("the file is not JSON", file=path, found=str(error)[:200]) from error
    frames = value.get("frames") if isinstance(value, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise InvalidFile(
            "the file lists no images",
            file=path,
            key="frames",
            wanted="a list of {file_path, transform_matrix}, as nerfstudio writes it",
        )
    if len(frames) > MAX_PHOTOGRAPHS:
        raise InvalidFile("too many images", file=path, key="frames", found=len(frames), wanted=f"<= {MAX_PHOTOGRAPHS}")
    return dict(value)


def _photograph(entry: Entry, root: Path) -> tuple[Photograph, tuple[int, int]]:
    """The photograph of an entry, and the (height, width) that its camera states."""
    entry.refuse_other_lenses()
    listing, key, values = entry.listing, entry.key, entry.values
    name, path = find_below(
        root, values.get("file_path"), listing=listing, key=f"{key}.file_path", suffixes=_UNSTATED_SUFFIXES
    )
    actual = photograph_size(path, listing=listing, key=key)
    stated = entry.stated_size(actual)
    intrinsics = fitted_intrinsics(entry.intrinsics(stated), stated, actual, path=path, listing=listing, key=key)
    mask_name, mask = None, None
    if values.get("mask_path"):
        mask_name, mask = find_below(root, values["mask_path"], listing=listing, key=f"{key}.mask_path")
    photograph = Photograph(
        name=name,
        path=path,
        height=actual[0],
        width=actual[1],
        intrinsics=intrinsics,
        extrinsics=_extrinsics(entry, name),
        mask=mask,
        mask_name=mask_name,
    )
    return photograph, stated


def _extrinsics(entry: Entry, name: str) -> Matrix:
    value = entry.values.get("transform_matrix")
    try:
        if not isinstance(value, list):
            raise ValueError("there is no matrix")
        matrix = np.array(value)
        if matrix.shape not in ((4, 4), (3, 4)) or matrix.dtype.kind not in "if":
            raise ValueError(f"shape {matrix.shape} of {matrix.dtype}")
        return extrinsics_from_opengl(matrix.astype(np.float64))
    except ValueError as error:
        raise InvalidFile(
            "an image's pose cannot be used",
            file=entry.listing,
            key=f"{entry.key}.transform_matrix",
            found=f"{error} (image {name!r})"[:300],
            wanted="4 x 4 finite numbers, camera to world, OpenGL axes, without scale",
            remedy="correct the pose, or take the image out of the listing",
        ) from error


def _not_taken(shared: Values) -> list[str]:
    counts = Counter(key for frame in shared["frames"] for key in _NOT_TAKEN if frame.get(key))
    notes = [f"not taken over: {key} of {count} images" for key, count in counts.items()]
    return [*notes, *(f"not taken over: {key}" for key in ("ply_file_path",) if shared.get(key))]


def _world(shared: Values) -> dict[str, object]:
    """What the file says of its world, where it is numbers."""
    found: dict[str, object] = {}
    for key in _WORLD_KEYS:
        try:
            numbers = np.array(shared.get(key, []), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            continue
        if numbers.size and np.isfinite(numbers).all():
            found[key] = numbers.tolist()
    return found
