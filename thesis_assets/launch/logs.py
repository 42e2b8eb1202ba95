"""Log files of commands: the end of one for a message, and passing on what comes while it grows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

BLOCK_BYTES = 64 * 1024


def log_tail(path: Path, *, lines: int = 25, start: int = 0, max_bytes: int = BLOCK_BYTES) -> str:
    """The last lines of a log file, from byte `start` on; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(start, size - max_bytes))
        text = handle.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


class LogRelay:
    """Copies what is appended to two log files from now on to this process's stdout and stderr."""

    def __init__(self, stdout: Path, stderr: Path) -> None:
        self._offsets = {path: path.stat().st_size if path.is_file() else 0 for path in (stdout, stderr)}
        self._stdout, self._stderr = stdout, stderr

    def relay(self) -> None:
        """Copy what came since the last call."""
        # Looked up each time: who captures a step's output exchanges them.
        self._copy(self._stdout, sys.stdout)
        self._copy(self._stderr, sys.stderr)

    def _copy(self, path: Path, to: TextIO) -> None:
        if not path.is_file():
            return
        with path.open("rb") as handle:
            handle.seek(self._offsets[path])
            # What is there now, and not what is appended meanwhile: a chatty job must not keep its follower here.
            content = handle.read(max(0, path.stat().st_size - self._offsets[path]))
        if content:
            self._offsets[path] += len(content)
            to.write(content.decode("utf-8", errors="replace"))
            to.flush()
