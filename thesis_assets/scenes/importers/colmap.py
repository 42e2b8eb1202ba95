"""A COLMAP sparse model, text or binary, as a capture. Its poses are world-to-camera with OpenCV axes.

Models of COLMAP 3.12 and newer, with `rigs` and `frames` beside them, state every image's own pose in `images` too, which is
what is read.
Does not belong here: camera ids, frames, writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.importers.capture import (
    Capture,
    Photograph,
    find_below,
    fitted_intrinsics,
    photograph_size,
    refuse_repeats,
    scaling_notes,
)
from thesis_assets.scenes.importers.colmap_binary import read_cameras_binary, read_images_binary
from thesis_assets.scenes.importers.colmap_models import ColmapCamera, ColmapImage, pinhole_of
from thesis_assets.scenes.importers.colmap_text import read_cameras_text, read_images_text
from thesis_assets.scenes.importers.poses import extrinsics_from_quaternion

_MODEL_FOLDERS = (".", "sparse/0", "sparse")
_SUFFIXES = (".bin", ".txt")
"""Where a folder holds both, binary is read, as COLMAP does."""


def read_colmap(source: Path, *, images: Path | None = None) -> Capture:
    """Read a sparse model.

    Args:
        source: the folder of `cameras` and `images`, or a project's that holds it as `sparse/0` or `sparse`.
        images: the folder that the images' names start from; None looks for `images` in the model's folder and the two
            above it.

    Raises:
        InvalidFile: there is no model, or it is cut short or not readable; there is no images folder; a name leaves it or is
            no file; a pose is not finite; a lens is distorted.
    """
    folder, suffix = _find_model(source)
    cameras_file, images_file = folder / f"cameras{suffix}", folder / f"images{suffix}"
    cameras = read_cameras_binary(cameras_file) if suffix == ".bin" else read_cameras_text(cameras_file)
    rows = read_images_binary(images_file) if suffix == ".bin" else read_images_text(images_file)
    if not rows:
        raise InvalidFile("the sparse model has no registered image", file=images_file, remedy="run the mapper again")
    root = images or _find_images(folder)
    photographs = tuple(_photograph(row, cameras, root, cameras_file, images_file) for row in rows)
    refuse_repeats((photograph.name for photograph in photographs), images_file)
    stated = {
        photograph.name: (cameras[row.camera_id].height, cameras[row.camera_id].width)
        for photograph, row in zip(photographs, rows, strict=True)
    }
    return Capture(
        format="colmap",
        source=folder,
        source_files=(cameras_file, images_file),
        photographs=photographs,
        notes=tuple(scaling_notes(photographs, stated)),
    )


def _find_model(source: Path) -> tuple[Path, str]:
    for name in _MODEL_FOLDERS:
        folder = source / name
        for suffix in _SUFFIXES:
            if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
                return folder, suffix
    raise InvalidFile(
        "there is no COLMAP sparse model",
        file=source,
        wanted="cameras.bin and images.bin, or cameras.txt and images.txt, here, in sparse/0 or in sparse",
        remedy="name the folder that `colmap mapper` or `colmap image_undistorter` wrote",
    )


def _find_images(folder: Path) -> Path:
    model = folder.resolve()
    for place in (model, *model.parents[:2]):
        if (place / "images").is_dir():
            return place / "images"
    raise InvalidFile(
        "the images of the sparse model are not known",
        file=model,
        wanted="a folder `images` in it or in one of the two folders above it",
        remedy="name it: --images <folder>",
    )


def _photograph(
    row: ColmapImage, cameras: Mapping[int, ColmapCamera], root: Path, cameras_file: Path, images_file: Path
) -> Photograph:
    key = f"image {row.image_id}"
    camera = cameras.get(row.camera_id)
    if camera is None:
        raise InvalidFile(
            "an image names a camera that is not there",
            file=images_file,
            key=key,
            found=row.camera_id,
            wanted=f"a camera of {cameras_file.name}",
        )
    intrinsics = pinhole_of(camera, cameras_file)
    name, path = find_below(root, row.name, listing=images_file, key=key)
    actual = photograph_size(path, listing=images_file, key=key)
    try:
        extrinsics = extrinsics_from_quaternion(np.array(row.quaternion), np.array(row.translation))
    except ValueError as error:
        raise InvalidFile(
            "an image's pose cannot be used",
            file=images_file,
            key=key,
            found=f"{error} (image {row.name!r})"[:300],
            wanted="seven finite numbers, QW QX QY QZ TX TY TZ",
        ) from error
    return Photograph(
        name=name,
        path=path,
        height=actual[0],
        width=actual[1],
        intrinsics=fitted_intrinsics(
            intrinsics, (camera.height, camera.width), actual, path=path, listing=images_file, key=key
        ),
        extrinsics=extrinsics,
    )
