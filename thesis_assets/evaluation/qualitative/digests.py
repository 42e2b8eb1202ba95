"""Whether a recording is current: a digest of everything it was made from, in a small file beside it.

An .rrd is not byte-deterministic, so its own bytes cannot say that nothing changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.recording import RecordingIdentity
from thesis_assets.evaluation.qualitative.tracks import ExportOptions
from thesis_assets.layout import TEMPORARY_PREFIX, EvaluationTree
from thesis_assets.schemas.evaluation import RecordingDigest

EXPORT_VERSION = 4
"""Raised whenever the same tree would give another recording."""


def input_digest(
    root: Path,
    files: Iterable[Path],
    identity: RecordingIdentity,
    options: ExportOptions,
    tasks: Sequence[str] = (),
) -> str:
    """Digest of file contents by their path below `root`, and of everything else that shapes a recording.

    Contents, not times: a tree that was made again with the same bytes is not uploaded again.
    """
    content = {path.relative_to(root).as_posix(): storage.sha256_file(path) for path in sorted(set(files))}
    return storage.sha256_value(
        {
            "export_version": EXPORT_VERSION,
            "rerun_sdk": sdk_version(),
            "identity": asdict(identity),
            "options": asdict(options),
            "tasks": list(tasks),
            "files": content,
        }
    )


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders, except half-written ones, by name. None where the folder is not there."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY_PREFIX))
        found += [Path(directory) / name for name in sorted(names) if not name.startswith(TEMPORARY_PREFIX)]
    return [path for path in found if path.is_file()]


def current_digest(recording: Path, digest: str) -> RecordingDigest | None:
    """The side file of `recording` if it is there, whole, and of inputs with this digest; else None."""
    side_file = EvaluationTree.recording_digest(recording)
    try:
        found = storage.read_json(side_file, RecordingDigest)
        size = recording.stat().st_size
    except (InvalidFile, OSError):
        return None
    return found if found.input_digest == digest and found.bytes == size else None


def write_digest(recording: Path, digest: str, absent: list[str]) -> RecordingDigest:
    """Write the side file of a finished recording: after it, so that one without is not finished."""
    written = RecordingDigest(
        input_digest=digest, rerun_sdk=sdk_version(), bytes=recording.stat().st_size, absent=absent
    )
    storage.write_json(EvaluationTree.recording_digest(recording), written)
    return written


def sdk_version() -> str:
    """Of the installed Rerun SDK, without importing it."""
    return version("rerun-sdk")
