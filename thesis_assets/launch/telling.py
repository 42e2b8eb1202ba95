"""How a mapped function says how far it is, wherever it runs: lines to a function here, or to a file that the starter reads.

A worker on another host has no queue to its starter; a file on the shared file system both have.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SUFFIX = ".lines"
SECONDS_A_LINE = 5.0

_listener: Callable[[str], None] | None = None


def tell(line: str) -> None:
    """Say something to whoever started the map that this function is an item of; nothing where nobody listens."""
    if _listener is not None:
        _listener(line)


@contextlib.contextmanager
def told_to(listener: Callable[[str], None] | None) -> Iterator[None]:
    """What is told in this process meanwhile goes to `listener`; what that tells itself, to who listened before."""
    global _listener
    before = _listener
    _listener = None if listener is None else _outward(listener, before)
    try:
        yield
    finally:
        _listener = before


def _outward(listener: Callable[[str], None], before: Callable[[str], None] | None) -> Callable[[str], None]:
    """An item of a map may be a map itself, whose lines its listener tells on."""

    def hear(line: str) -> None:
        global _listener
        now, _listener = _listener, before
        try:
            listener(line)
        finally:
            _listener = now

    return hear


def every(seconds: float, say: Callable[[str], None], line: Callable[[float], str]) -> Callable[[], None]:
    """A function to be called often that says a line every so many seconds.

    Args:
        line: from the seconds since the start to what is said.
    """
    started = said = time.monotonic()

    def report() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= seconds:
            said = now
            say(line(now - started))

    return report


def counted(
    title: str, what: str, total: int, kept: int = 0, say: Callable[[str], None] = tell
) -> Callable[[int], None]:
    """A function that is given how many are done by now, and says now and then: how many, how fast, how long still.

    Args:
        title: whose they are.
        what: of which there are `total`.
        kept: that were there already; they do not count in the rate.
    """
    done = 0

    def line(seconds: float) -> str:
        left = f", {(total - kept - done) * seconds / done:.0f} s left" if done else ""
        return f"{title}: {kept + done} of {total} {what}, {done / seconds:.1f}/s{left}"

    report = every(SECONDS_A_LINE, say, line)

    def now(count: int) -> None:
        nonlocal done
        done = count
        report()

    return now


def tell_to_file(folder: Path) -> None:
    """From now on, what this process tells is appended to a file of its own in `folder`."""
    global _listener
    path = folder / f"{socket.gethostname()}-{os.getpid()}{SUFFIX}"

    def write(line: str) -> None:
        with path.open("ab") as handle:
            handle.write(line.replace("\n", " ").encode() + b"\n")

    _listener = write


class ToldLines:
    """Reads what was told to files of a folder since it was last asked. A line that is not finished yet is left for later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def new(self) -> list[str]:
        """The new lines, file by file."""
        lines = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with path.open("rb") as handle:
                handle.seek(self._offsets.get(path, 0))
                content = handle.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            lines += whole.decode(errors="replace").splitlines()
        return lines
