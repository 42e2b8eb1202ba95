"""Errors a person can act on: what is wrong, in which file and key, what was found, what is wanted, what to do.

Belongs here: exception types shared by several rooms. Does not belong here: anything that decides whether there is an error.
"""

import difflib
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path


class ThesisAssetsError(Exception):
    """A failure with its place and its remedy.

    Args:
        problem: one sentence that says what is wrong.
        file: the file or directory it is about.
        key: the key inside the file (`generation.frames.stride`), a column, or an array name.
        found: the value that is there.
        wanted: the value or form that would be right.
        remedy: what the reader should do next.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: Path | str | None = None,
        key: str | None = None,
        found: object = None,
        wanted: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = str(file) if file is not None else None
        self.key = key
        self.found = found
        self.wanted = wanted
        self.remedy = remedy
        super().__init__(problem)

    def __str__(self) -> str:
        return printable("\n  ".join([self.problem, *self._told("file", "key", "found", "wanted", "remedy")]))

    @property
    def in_one_line(self) -> str:
        """The message as a note among others: `the file is missing: /data/a.json; wanted: ...`."""
        problem = self.problem + (f": {self.file}" if self.file is not None else "")
        return " ".join(printable("; ".join([problem, *self._told("key", "found", "wanted", "remedy")])).split())

    def _told(self, *names: str) -> list[str]:
        return [f"{name}: {value}" for name in names if (value := getattr(self, name)) is not None]

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive pickling by default; worker processes send them back.
        state = {name: getattr(self, name) for name in ("file", "key", "found", "wanted", "remedy")}
        return (_rebuild, (type(self), self.problem, state))


def command_for(asset: str, exp_name: str, run_name: str = "") -> str:
    """The command that makes an asset, with what it is made from: to stand in a remedy."""
    run = f" --run {run_name}" if run_name else ""
    return f"thesis-assets run --exp {exp_name}{run} --until {asset}"


def pip_install(what: str) -> str:
    """The command that installs something into the environment that this runs in, whichever the shell has in front."""
    return f"{shlex.quote(sys.executable)} -m pip install {what}"


def printable(text: str) -> str:
    """Text for a terminal, a log or a mail: control characters, but line ends, as escapes. Names come from disk and from people."""
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1] for character in text
    )


def near_names(names: Sequence[str], patterns: Sequence[str], limit: int = 3) -> str:
    """In words, which of the names are near to what is asked for (names, or globs); else some of those that there are."""
    if not names:
        return "there is none"
    near: dict[str, float] = {}
    for pattern in patterns:
        # What a pattern fixes is its start; where it begins with a wildcard, its end.
        start = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        end = "" if start else re.split(r"[*?\]]", pattern)[-1]
        for name in names:
            part = name[: len(start)] if start else name[-len(end) :] if end else ""
            likeness = difflib.SequenceMatcher(None, part.lower(), (start or end).lower()).ratio()
            if part and likeness >= 0.6:
                near[name] = max(likeness, near.get(name, 0.0))
    if near:
        found = sorted(near, key=lambda name: (-near[name], name))[:limit]
        return f"near: {', '.join(found)}" + (f" and {len(near) - limit} more" if len(near) > limit else "")
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} there, such as {', '.join(names[:limit])}"


def first_names(names: Sequence[str], limit: int = 4) -> str:
    """Some names of many, each once, and how many more there are."""
    once = list(dict.fromkeys(names))
    return ", ".join(once[:limit]) + (f" and {len(once) - limit} more" if len(once) > limit else "")


def _rebuild(kind: type[ThesisAssetsError], problem: str, state: dict[str, object]) -> ThesisAssetsError:
    return kind(problem, **state)  # type: ignore[arg-type]


def reason_of(error: Exception) -> str:
    """Why something is left out, in one line. What names no file, being neither ours nor the system's, has its kind and place."""
    text = str(error)
    if not isinstance(error, ThesisAssetsError | OSError):
        # From another process an error comes with a cause whose text is the traceback there.
        whole = "".join(traceback.format_tb(error.__traceback__)) + str(error.__cause__)
        places = re.findall(r'File "([^"\n]+)", line ([0-9]+)', whole)
        text = f"a fault of the program, {type(error).__name__}: {text}" + "".join(
            f" ({file}:{line})" for file, line in places[-1:]
        )
    return printable(" ".join(text.split()))


class InvalidKey(ThesisAssetsError):
    """A name that may not become a folder or a partition key."""


class InvalidExperiment(ThesisAssetsError):
    """An experiment file that cannot be used as it stands."""


class Undeclared(InvalidExperiment):
    """A name that no experiment file declares. From a command that was given it, wrong use: exit code 2."""


class InvalidScene(ThesisAssetsError):
    """A scene directory, or a file in it, that breaks the scene contract."""


class InvalidFile(ThesisAssetsError):
    """A file of ours that is missing, truncated, or has another shape than its schema."""


class SnapshotChanged(ThesisAssetsError):
    """Data or configuration changed under a name that must stay what it was."""


class Leak(ThesisAssetsError):
    """People of a test or reserved group would reach training or selection."""


class NotBuiltYet(ThesisAssetsError):
    """A declared option whose implementation does not exist in this version."""


class CellLocked(ThesisAssetsError):
    """Another process works on the same cell."""


class DiskFull(ThesisAssetsError):
    """No space, no inode or no quota is left where something is written."""


class ProcessLost(ThesisAssetsError):
    """A process was killed, or its node died: the same again, from where it stands, may succeed."""
