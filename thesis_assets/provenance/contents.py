"""What files hold: digests, read only where size and time do not say that nothing changed, and each file once.

As in git's index: a file whose size and time are as noted, and that is older than the note, was not changed since. Where they
differ, the bytes are read: times that were lost by a copy make nothing stale.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thesis_assets.storage import sha256_bytes, sha256_file

Stat = tuple[int, int]
"""Size in bytes, modification time in nanoseconds."""
CLOCK_TICK_NS = 20_000_000
"""File systems stamp with the kernel's coarse clock: a file this much younger than a note may change without a new time."""
_AT_A_TIME = 64
_SMALL = 256 * 1024
"""A file of at most so many bytes is read in one go: a file object costs more than its content."""
_TOGETHER = 16
"""Fewer files than this are read one by one: threads cost more than they save."""


class Contents:
    """Digests of files for one look at them: files with several names (hard links) are read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], str] = {}

    def sha256(self, path: Path | str) -> str:
        """Of a file's bytes.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        status = os.stat(path)  # noqa: PTH116 - a Path a file costs three times the time of the call
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _digest(path, status.st_size)
        return found

    def sha256_of(self, paths: Iterable[Path | str]) -> list[str | None]:
        """Of several files, side by side; None where one cannot be read."""
        asked = list(paths)
        if len(asked) < _TOGETHER:
            return [self._or_none(path) for path in asked]
        workers = min(8, os.cpu_count() or 1)
        # A task of a pool costs more than a small file: threads take several files at a time.
        n_each = max(1, min(_AT_A_TIME, len(asked) // (4 * workers)))
        parts = [asked[start : start + n_each] for start in range(0, len(asked), n_each)]
        with ThreadPoolExecutor(workers) as pool:
            found = pool.map(lambda part: [self._or_none(path) for path in part], parts)
            return [sha256 for of_part in found for sha256 in of_part]

    def saw(self, path: Path | str, sha256: str) -> None:
        """Someone who read the file for another reason tells its digest."""
        status = os.stat(path)  # noqa: PTH116
        self._known[status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns] = sha256

    def _or_none(self, path: Path | str) -> str | None:
        try:
            return self.sha256(path)
        except OSError:
            return None


def _digest(path: Path | str, size: int) -> str:
    if size <= _SMALL:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            content = os.read(descriptor, size + 1)
        finally:
            os.close(descriptor)
        if len(content) == size:
            return sha256_bytes(content)
    return sha256_file(Path(path))


def stat_of(path: Path | str) -> Stat | None:
    """None where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


def is_unchanged(now: Stat, noted: Stat | None, noted_ns: int) -> bool:
    """Whether a file is what it was at the note, by its size and time alone."""
    return now == noted and now[1] + CLOCK_TICK_NS < noted_ns
