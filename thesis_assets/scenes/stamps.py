"""The identity of a scene's files: by content where they are few, by size and modification time where they are thousands."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from thesis_assets import storage
from thesis_assets.layout import SceneTree
from thesis_assets.scenes.listing import SceneRoots

_DEEPEST = 2  # masks lie deepest, <cam_id>/<person>/; the bound also ends a loop of links


def content_digest(paths: Iterable[Path], roots: SceneRoots) -> str:
    """Hex digest of the names (below their root) and contents of files, in whatever order they come.

    Raises:
        InvalidScene: a path leaves the roots.
    """
    rows = sorted((_label(path, roots), storage.sha256_file(roots.check_inside(path))) for path in set(paths))
    return storage.sha256_value(rows)


def generation_stamp(tree: SceneTree, roots: SceneRoots, render_source: str | None) -> str:
    """Hex digest of path, size and modification time of every file that generation reads from a scene.

    Args:
        render_source: `gaussians` or `precomputed` leaves out the files that the other source reads; None takes both.
            `command` takes the Gaussians, and not the renders: those are what the command makes of the rest.
    """
    truth, estimated = tree.ground_truth, tree.estimated
    places = [truth.images_dir, truth.cameras_dir, truth.masks_dir, truth.skip_frames, estimated.skip_frames]
    places.append(tree.registry_entry)
    if render_source in (None, "gaussians", "command"):
        places.append(estimated.gaussians_dir)
    if render_source in (None, "precomputed"):
        places.append(tree.renders_dir)
    rows = sorted(row for place in places for row in _stamped(place, roots))
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


def _stamped(place: Path, roots: SceneRoots) -> Iterator[str]:
    """`label size mtime` of a file, or of every file below a folder; nothing where there is nothing."""
    if not place.exists():
        return
    label = _label(place, roots)
    if not place.is_dir():
        yield f"{label} {storage.file_stamp(place)}"
        return
    pending = [(str(place), label, 0)]
    while pending:
        folder, name, depth = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                inner = f"{name}/{entry.name}"
                if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - a Path a file costs twice the time
                    continue
                if entry.is_dir():
                    if depth < _DEEPEST:
                        pending.append((entry.path, inner, depth + 1))
                else:
                    status = entry.stat()
                    yield f"{inner} {status.st_size}-{status.st_mtime_ns}"


def _label(path: Path, roots: SceneRoots) -> str:
    """A name that does not move with the roots: which root, and the path below it."""
    for word, root in (
        ("canonical_gt", roots.canonical_gt),
        ("preprocessing", roots.preprocessing),
        ("registry", roots.registry),
        ("renders", roots.renders),
    ):
        if path.is_relative_to(root):
            return f"{word}/{path.relative_to(root).as_posix()}"
    return path.as_posix()
