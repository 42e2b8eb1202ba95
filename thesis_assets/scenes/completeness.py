"""Whether the steps before this platform have finished with a scene: their own word, else folders that have come to rest."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.layout import SceneTree
from thesis_assets.scenes.listing import SceneRoots, file_with_content

DEFAULT_QUIET_S = 600.0
MAX_INFO_BYTES = 4 * 1024 * 1024
_STATUS = re.compile(rb"^[ \t]*status[ \t]*:[ \t]*(\w+)[ \t\r]*$", re.MULTILINE)
_DEEPEST = 4  # seg/img_seg_mask/<cam_id>/<person>; the bound also ends a loop of links


@dataclass(frozen=True)
class Completeness:
    """Whether a scene is finished, and how we know.

    Attributes:
        declared: `misc/preprocess_info.txt` decided it; what is missing then is missing for good.
    """

    complete: bool
    declared: bool
    reason: str


def upstream_completeness(
    tree: SceneTree, roots: SceneRoots, *, quiet_s: float = DEFAULT_QUIET_S, now: float | None = None
) -> Completeness:
    """Whether a scene's files are still being written.

    `misc/preprocess_info.txt` decides where it has a line `status: ...`; else no folder of the scene may have changed for
    `quiet_s` seconds.

    Args:
        now: seconds since the epoch; None takes the clock.

    Raises:
        InvalidFile: the file is too large to be one.
        InvalidScene: it is a link out of the roots.
    """
    for folders in (tree.estimated, tree.ground_truth):
        path = file_with_content(folders.preprocess_info, roots)
        status = read_status(path) if path is not None else None
        if status is not None:
            return Completeness(status == "success", True, f"{folders.preprocess_info} says status: {status}")
    quiet = (time.time() if now is None else now) - newest_change(tree)
    if quiet < quiet_s:
        return Completeness(False, False, f"its folders changed {quiet:.0f} s ago; {quiet_s:.0f} s of rest are wanted")
    return Completeness(True, False, f"its folders have rested for at least {quiet_s:.0f} s")


def read_status(path: Path) -> str | None:
    """The last `status: <word>` line of a `preprocess_info.txt` in lower case, or None where it has none."""
    from thesis_assets.scenes.bounded_files import (
        read_bounded,
    )  # numpy comes with it: a quarter of what loading the graph costs

    words: list[bytes] = _STATUS.findall(read_bounded(path, MAX_INFO_BYTES))
    return words[-1].decode("ascii", "replace").lower() if words else None


def newest_change(tree: SceneTree) -> float:
    """When a folder of a scene changed last, in seconds since the epoch; 0 for a scene without folders."""
    return max((seconds for _, seconds in _folder_times(tree)), default=0.0)


def folder_stamp(tree: SceneTree) -> str:
    """Digest of a scene's folders and their modification times: it moves when a file is added, renamed or removed.

    The registry entry counts as a folder: it decides which camera is the source.
    """
    lines = sorted(f"{path} {seconds!r}" for path, seconds in _folder_times(tree))
    if tree.registry_entry.is_file():
        lines.append(f"registry {tree.registry_entry.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _folder_times(tree: SceneTree) -> Iterator[tuple[Path, float]]:
    """Modification times of a scene's folders: adding or renaming a file changes its folder's."""
    pending = [(path, 0) for path in (tree.ground_truth.base, tree.estimated.base, tree.renders_dir) if path.is_dir()]
    while pending:
        folder, depth = pending.pop()
        yield folder, folder.stat().st_mtime
        if depth < _DEEPEST:
            with os.scandir(folder) as entries:
                pending += [(Path(entry.path), depth + 1) for entry in entries if entry.is_dir()]
