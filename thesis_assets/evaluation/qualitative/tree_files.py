"""Files of an evaluation tree by frame, camera and person, in numeric order; empty files count as missing.

Does not belong here: what the files hold, or where they go in a recording.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from thesis_assets.evaluation.qualitative.tracks import Absences, FrameFiles
from thesis_assets.layout import TEMPORARY_PREFIX

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_FRAME = re.compile(r"[0-9]{6}|[1-9][0-9]{6,11}")
_OURS = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}|(.+\.)?made_from(\.stats)?\.json$")
_CAMERA = re.compile(r"(?:cam_)?(0|[1-9][0-9]{0,9})")


def frame_files(folder: Path, suffixes: tuple[str, ...], absences: Absences) -> FrameFiles:
    """Frames of a folder that is perhaps not there: number to file.

    Where a frame has several files the first suffix in `suffixes` wins. Empty files, and links that leave the tree, are noted.
    """
    found: dict[int, tuple[int, Path]] = {}
    for path in _entries(folder):
        rank = suffixes.index(path.suffix.lower()) if path.suffix.lower() in suffixes else None
        if rank is None or not _FRAME.fullmatch(path.stem) or not path.is_file():
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(absences.root.resolve()):
            absences.left_out(path, "a link that leaves the tree")
        elif path.stat().st_size == 0:
            absences.left_out(path, "the file is empty")
        else:
            number = int(path.stem)
            if number not in found or rank < found[number][0]:
                found[number] = (rank, path)
    return {number: found[number][1] for number in sorted(found)}


def camera_folders(folder: Path) -> dict[int, Path]:
    """Camera id to subfolder (`16` or `cam_16`), ascending."""
    matches = ((_CAMERA.fullmatch(path.name), path) for path in _entries(folder) if path.is_dir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def person_folders(folder: Path) -> dict[int, Path]:
    """Person number to subfolder (`0` or `00`), ascending."""
    return dict(sorted((int(path.name), path) for path in _entries(folder) if path.is_dir() and path.name.isdecimal()))


def files_below(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders, by name, without half-written ones and records. None where it is not there."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY_PREFIX))
        found += [Path(directory) / name for name in sorted(names) if not _OURS.match(name)]
    return [path for path in found if path.is_file()]


def subfolders(folder: Path) -> list[Path]:
    """Folders in `folder`, by name."""
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names]
