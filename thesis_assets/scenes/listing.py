"""Which frames and folders a directory of a scene holds: numbers in numeric order, empty files as missing.

Links are followed only as far as the roots of the scene data reach.
"""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from thesis_assets.errors import InvalidScene
from thesis_assets.layout import SceneTree

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""In order of preference, where one frame has several."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_FRAME_FILE = re.compile(r"([0-9]{6}|[1-9][0-9]{6,11})(\.[A-Za-z0-9]+)")


@dataclass(frozen=True)
class SceneRoots:
    """Where scenes lie: ground truth, estimates, registry files, renders of other pipelines."""

    canonical_gt: Path
    preprocessing: Path
    registry: Path
    renders: Path

    def tree(self, scene_name: str) -> SceneTree:
        """The paths of one scene.

        Raises:
            InvalidKey: the name is unsafe, or has no dataset in front.
        """
        return SceneTree(self.canonical_gt, self.preprocessing, self.registry, self.renders, scene_name)

    def check_inside(self, path: Path) -> Path:
        """Return `path` if it lies, links followed, below one of the roots.

        Raises:
            InvalidScene: a link leads elsewhere.
        """
        real = path.resolve()
        roots = [root.resolve() for root in (self.canonical_gt, self.preprocessing, self.registry, self.renders)]
        if not any(real.is_relative_to(root) for root in roots):
            raise InvalidScene(
                "a path leaves the roots of the scene data",
                file=path,
                found=real,
                wanted="below " + " or ".join(str(root) for root in dict.fromkeys(roots)),
                remedy="copy or hard-link the files into the root, or name the place the link leads to as the root",
            )
        return path


@dataclass(frozen=True)
class FrameFiles:
    """The files of one folder that belong to frames.

    Attributes:
        paths: frame name to file, in numeric order; only files with content.
        empty: frames whose file has no bytes (they failed upstream), in numeric order.
        others: names of files that are no frame of the expected kind.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def list_frames(folder: Path, suffixes: Iterable[str], roots: SceneRoots) -> FrameFiles:
    """Frame files of a folder. A folder that is not there has none.

    Raises:
        InvalidScene: the folder, or a link in it, leaves the roots.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return FrameFiles()
    roots.check_inside(folder)
    order = {suffix: rank for rank, suffix in enumerate(suffixes)}
    found: dict[str, tuple[int, Path]] = {}
    empty: set[str] = set()
    others: list[str] = []
    for entry in entries:
        match = _FRAME_FILE.fullmatch(entry.name)
        if match is None or match[2].lower() not in order:
            others.append(entry.name)
            continue
        fname, rank = match[1], order[match[2].lower()]
        if not _has_content(entry, roots):
            empty.add(fname)
        elif fname not in found or rank < found[fname][0]:
            found[fname] = (rank, folder / entry.name)
    return FrameFiles(
        paths={fname: found[fname][1] for fname in sorted(found, key=int)},
        empty=tuple(sorted(empty - found.keys(), key=int)),
        others=tuple(others),
    )


def file_with_content(path: Path, roots: SceneRoots) -> Path | None:
    """`path` if it is a file with content inside the roots, None where it is missing or empty.

    Raises:
        InvalidScene: a link on the way leaves the roots.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return None
    return roots.check_inside(path)


def list_numbers(folder: Path) -> list[int]:
    """Subfolders of `folder` whose names are plain integers (`4`, not `04`), in numeric order."""
    try:
        with os.scandir(folder) as entries:
            return sorted(int(entry.name) for entry in entries if _NUMBER.fullmatch(entry.name) and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _has_content(entry: os.DirEntry[str], roots: SceneRoots) -> bool:
    try:
        if entry.is_symlink():
            roots.check_inside(Path(entry.path))
        status = entry.stat()
    except FileNotFoundError:  # a link that leads nowhere, or a file removed while we list
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0
