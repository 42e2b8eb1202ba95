"""`cameras.txt` and `images.txt` of a COLMAP sparse model. Source: https://colmap.github.io/format.html.

Does not belong here: the binary form, or what a camera model means.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.importers.capture import MAX_PHOTOGRAPHS
from thesis_assets.scenes.importers.colmap_models import MODELS_BY_NAME, ColmapCamera, ColmapImage

MAX_LINE_BYTES = 64 * 1024 * 1024
"""One line holds all 2D points of an image: 20,000 of them take 1 MB."""
_IMAGE_FIELDS = 10


def read_cameras_text(path: Path) -> dict[int, ColmapCamera]:
    """Cameras by id.

    Raises:
        InvalidFile: missing, or a line is not a camera's; the message has its number.
    """
    cameras: dict[int, ColmapCamera] = {}
    for number, line in _rows(path):
        words = line.split()
        try:
            camera_id, name, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            parameters = tuple(float(word) for word in words[4:])
        except (IndexError, ValueError) as error:
            raise _bad_line(path, number, line, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]") from error
        model = MODELS_BY_NAME.get(name)
        if model is None or len(parameters) != model.n_parameters:
            wanted = "PINHOLE or SIMPLE_PINHOLE" if model is None else f"{model.n_parameters} parameters of {name}"
            raise _bad_line(path, number, line, wanted)
        cameras[camera_id] = ColmapCamera(camera_id, model, width, height, parameters)
    return cameras


def read_images_text(path: Path) -> list[ColmapImage]:
    """Registered images, in the file's order. A name is what stands after the camera's id, spaces included.

    Raises:
        InvalidFile: missing, or a line is not an image's; the message has its number.
    """
    images: list[ColmapImage] = []
    rows = _rows(path, skip_next=True)
    for number, line in rows:
        words = line.split(maxsplit=_IMAGE_FIELDS - 1)
        try:
            image_id, *pose, camera_id, name = (
                int(words[0]),
                *(float(word) for word in words[1:8]),
                int(words[8]),
                words[9],
            )
        except (IndexError, ValueError) as error:
            wanted = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of 2D points, which may be empty"
            raise _bad_line(path, number, line, wanted) from error
        images.append(ColmapImage(image_id, tuple(pose[:4]), tuple(pose[4:]), camera_id, name))
        if len(images) > MAX_PHOTOGRAPHS:
            raise InvalidFile("too many images", file=path, wanted=f"<= {MAX_PHOTOGRAPHS}")
    return images


def _rows(path: Path, *, skip_next: bool = False) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty and no comment.

    Args:
        skip_next: pass over the line behind each of them, whatever it holds: the 2D points, which may be none.
    """
    try:
        with path.open("rb") as handle:
            number = 0
            while line := handle.readline(MAX_LINE_BYTES):
                number += 1
                text = _decoded(line, path, number)
                if not text or text.startswith("#"):
                    continue
                yield number, text
                if skip_next:
                    number += 1
                    if len(handle.readline(MAX_LINE_BYTES)) == MAX_LINE_BYTES:
                        raise InvalidFile("a line is longer than any of its kind", file=path, key=f"line {number}")
    except OSError as error:
        raise InvalidFile("the file cannot be opened", file=path, found=error.strerror) from error


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidFile(
            "a line is not UTF-8 text", file=path, key=f"line {number}", found=ascii(line[:120])
        ) from error


def _bad_line(path: Path, number: int, line: str, wanted: str) -> InvalidFile:
    return InvalidFile(
        "a line of the COLMAP file cannot be read",
        file=path,
        key=f"line {number}",
        found=repr(line[:160]),
        wanted=wanted,
        remedy="export the sparse model again (`colmap model_converter --output_type TXT`)",
    )
