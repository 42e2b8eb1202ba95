"""What killed processes left behind: temporary files and folders, lock files that nobody holds.

Nothing reads any of it, so it only takes space and makes people wonder. Does not belong here: runs that Dagster still believes
in (`lost_runs`).
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thesis_assets.layout import TEMPORARY_PREFIX
from thesis_assets.settings import Settings
from thesis_assets.storage import remove_free_lock

REST_SECONDS = 3600.0
"""A temporary file that changed later may belong to a process on another host, which cannot be seen from here."""
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r".+\.[0-9a-f]{12}\.partial")


@dataclass(frozen=True)
class Leftover:
    """One thing that can go."""

    path: Path
    kind: Literal["temporary", "lock"]
    bytes: int
    rested: float
    """Seconds since it changed."""


def leftovers(settings: Settings, now: float, *, rest_seconds: float = REST_SECONDS) -> list[Leftover]:
    """What lies below the roots and belongs to nobody: temporary names at rest that no process here holds open, free locks."""
    held = _open_files()
    found: list[Leftover] = []
    for path in _ours(_outermost(settings)):
        if path.suffix == ".lock":
            found.append(Leftover(path, "lock", path.stat().st_size, now - path.stat().st_mtime))
            continue
        size, newest = _size_and_change(path)
        in_use = any(Path(name).is_relative_to(path) for name in held)
        if not in_use and now - newest >= rest_seconds:
            found.append(Leftover(path, "temporary", size, now - newest))
    return found


def remove(leftover: Leftover) -> bool:
    """Remove one; false where somebody has taken it meanwhile."""
    if leftover.kind == "lock":
        return remove_free_lock(leftover.path)
    if leftover.path.is_dir() and not leftover.path.is_symlink():
        shutil.rmtree(leftover.path)
    else:
        leftover.path.unlink(missing_ok=True)
    return True


def _outermost(settings: Settings) -> list[Path]:
    """The roots, each folder once: by default they lie inside the data home."""
    roots = sorted({root.resolve() for root in (*settings.roots.values(), settings.experiments_dir) if root.is_dir()})
    return [root for root in roots if not any(root != other and root.is_relative_to(other) for other in roots)]


def _ours(roots: list[Path]) -> Iterator[Path]:
    """Temporary names of the atomic writer, and locks that nobody holds. Links are not followed."""
    for root in roots:
        for folder, folders, names in os.walk(root):
            inside = Path(folder)
            temporary = [name for name in folders if _TEMPORARY.fullmatch(name)]
            folders[:] = [name for name in folders if name not in temporary]
            yield from (inside / name for name in (*temporary, *names) if _TEMPORARY.fullmatch(name))
            if inside.name in ("locks", ".locks"):
                yield from (inside / name for name in names if name.endswith(".lock") and _is_free(inside / name))


def _is_free(path: Path) -> bool:
    import fcntl

    try:
        with path.open("r+") as handle:
            fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # held, or gone, or not ours to open
    return True


def _size_and_change(path: Path) -> tuple[int, float]:
    """Bytes below a path, and the newest modification in it."""
    size, newest = 0, path.lstat().st_mtime
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            try:
                status = os.lstat(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            size += status.st_size if name != "." else 0
            newest = max(newest, status.st_mtime)
    return (size or path.lstat().st_size if path.is_file() else size), newest


def _open_files() -> set[str]:
    """Paths that processes of this host hold open, as far as this user may see."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/fd"):
        try:
            found |= {os.readlink(f"{process}/{name}") for name in os.listdir(process)}  # noqa: PTH115, PTH208
        except OSError:
            continue  # ended meanwhile, or another user's
    return found
