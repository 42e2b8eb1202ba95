"""Captures of a few bytes in each format, written by hand as the formats' documents say."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
FX, FY, CX, CY = 40.0, 30.0, 15.0, 13.5

# A camera at (1, 2, 5) that looks along the world's -z with its up along the world's +y: OpenGL's own axes.
CAMERA_TO_WORLD = [[1.0, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 5], [0, 0, 0, 1]]
# The same camera as COLMAP states it: y and z turned (half a turn about x), and t = -R c.
QUATERNION, TRANSLATION = (0.0, 1.0, 0.0, 0.0), (-1.0, 2.0, 5.0)
# One to the right of the camera, half above it, four in front of it.
POINT = np.array([[2.0, 2.5, 1.0]])
PIXEL = np.array([[CX + FX * 1 / 4, CY - FY * 0.5 / 4]])

INTRINSICS = {"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "w": WIDTH, "h": HEIGHT}


@dataclass(frozen=True)
class Row:
    """One COLMAP image."""

    name: str
    image_id: int = 1
    camera_id: int = 1
    quaternion: Sequence[float] = QUATERNION
    translation: Sequence[float] = TRANSLATION
    points: int = 0


def photograph(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH), color: tuple[int, int, int] = (90, 60, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), color).save(path)
    return path


def nerfstudio(folder: Path, frames: Sequence[dict[str, Any]], **shared: Any) -> Path:
    """A transforms.json; a frame without a matrix gets the known camera's."""
    listing = folder / "transforms.json"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"transform_matrix": CAMERA_TO_WORLD, **frame} for frame in frames]
    listing.write_text(json.dumps({**INTRINSICS, **shared, "frames": rows}))
    return listing


def colmap_text(
    folder: Path, rows: Sequence[Row], model: str = "PINHOLE", parameters: Sequence[float] = (FX, FY, CX, CY)
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    numbers = " ".join(map(repr, parameters))
    (folder / "cameras.txt").write_text(f"# a comment\n1 {model} {WIDTH} {HEIGHT} {numbers}\n")
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    for row in rows:
        pose = " ".join(map(repr, map(float, (*row.quaternion, *row.translation))))
        lines += [f"{row.image_id} {pose} {row.camera_id} {row.name}", " ".join(["1.5 2.5 -1"] * row.points)]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def colmap_binary(
    folder: Path, rows: Sequence[Row], model: int = 1, parameters: Sequence[float] = (FX, FY, CX, CY)
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    numbers = struct.pack(f"<{len(parameters)}d", *parameters)
    (folder / "cameras.bin").write_bytes(struct.pack("<QIiQQ", 1, 1, model, WIDTH, HEIGHT) + numbers)
    content = struct.pack("<Q", len(rows))
    for row in rows:
        content += struct.pack("<I4d3dI", row.image_id, *row.quaternion, *row.translation, row.camera_id)
        content += (
            row.name.encode() + b"\0" + struct.pack("<Q", row.points) + struct.pack("<ddq", 1.5, 2.5, -1) * row.points
        )
    (folder / "images.bin").write_bytes(content)
    return folder
