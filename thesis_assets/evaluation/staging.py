"""Writing a directory under a temporary name while naming its files by their final places, then publishing it by one rename."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets import storage
from thesis_assets.layout import TEMPORARY_PREFIX
from thesis_assets.provenance import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.codecs import PngEncoder

_RECORDS = ("made_from.json", "made_from.stats.json")


@dataclass(frozen=True)
class Staging:
    """A directory in the making. Paths are given as `layout` names them, below `final`. Workers may fill it side by side.

    `written`: what this process wrote here, digested while it was in memory.
    """

    final: Path
    temporary: Path
    written: dict[Path, Output] = field(default_factory=dict)

    def place(self, path: Path) -> Path:
        """Where `path` is written now; its folder is made."""
        placed = self.temporary / path.relative_to(self.final)
        placed.parent.mkdir(parents=True, exist_ok=True)
        return placed

    @classmethod
    def begin(cls, final: Path) -> Staging:
        """An empty directory in the making, whose owner publishes or discards it."""
        temporary = storage.temporary_sibling(final)
        temporary.mkdir(parents=True)
        return cls(final, temporary)

    def publish(self) -> None:
        """Put the directory in place by one rename."""
        storage.publish_directory(self.temporary, self.final)

    def discard(self) -> None:
        """Remove what was not published."""
        if self.temporary.exists():
            shutil.rmtree(self.temporary)

    def write(self, path: Path, content: bytes, pixels: str | None = None) -> None:
        """Write a file anew. One that was linked here loses its link first: else its source would be written too."""
        placed = self.place(path)
        placed.unlink(missing_ok=True)
        placed.write_bytes(content)
        self.written[path] = Output(len(content), storage.sha256_bytes(content), pixels)

    def write_png(self, path: Path, pixels: NDArray[np.uint8], encoder: PngEncoder) -> None:
        """Encode and write an image, (H, W, 3) or (H, W)."""
        import numpy as np

        from thesis_assets.images.codecs import encode_png

        digest = storage.sha256_bytes(np.ascontiguousarray(pixels).tobytes())
        self.write(path, encode_png(pixels, encoder), digest)

    def link(self, source: Path, path: Path) -> storage.LinkMode:
        self.written.pop(path, None)
        return storage.link_or_copy(source, self.place(path))

    def link_all(self, source: Path) -> None:
        """Link every file below the directory `source` to the same relative path here; its record is of there, and stays."""
        for path in files_below(source):
            self.link(path, self.final / path.relative_to(source))


@contextlib.contextmanager
def staged(final: Path, written: dict[Path, Output] | None = None) -> Iterator[Staging]:
    """Yield a staging of `final`; publish it on success, remove it on failure.

    Args:
        written: told what is written.
    """
    with storage.atomic_directory(final) as temporary:
        yield Staging(final, temporary, {} if written is None else written)


def files_below(*folders: Path) -> list[Path]:
    """Every file of an output: not records and their caches, and not what is being written."""
    return [path for folder in folders for path in _files_below(folder)]


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY_PREFIX))
        yield from (
            Path(place, name)
            for name in sorted(names)
            if name not in _RECORDS and not name.startswith(TEMPORARY_PREFIX)
        )
