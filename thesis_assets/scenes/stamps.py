"""The files of a scene that generation reads, by names that do not move with the roots: what a sample is made from."""

import os
from collections.abc import Iterator
from pathlib import Path

from thesis_assets.layout import SceneTree
from thesis_assets.scenes.listing import SceneRoots, list_numbers

_DEEPEST = 2  # masks lie deepest, <cam_id>/<person>/; the bound also ends a loop of links


def scene_files(tree: SceneTree, roots: SceneRoots, render_source: str | None) -> dict[str, str]:
    """Name to path of every file that generation reads from a scene: one listing a folder, no file is opened.

    Names are `<root>/<path below it>`: `canonical_gt/<scene>/images/4/000012.jpg`. Nothing where there is nothing.

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
        places += [tree.renders_dir / str(cam_id) for cam_id in list_numbers(tree.renders_dir)]  # ours lie beside them
    return {name: path for place in places for name, path in _files(place, roots)}


def _files(place: Path, roots: SceneRoots) -> Iterator[tuple[str, str]]:
    """Name and path of a file, or of every file below a folder, but for hidden ones."""
    if not place.exists():
        return
    label = _label(place, roots)
    if not place.is_dir():
        yield label, str(place)
        return
    pending = [(str(place), label, 0)]
    while pending:
        folder, name, depth = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                inner = f"{name}/{entry.name}"
                if entry.name.startswith("."):  # of a file manager, or on its way
                    continue
                if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - a Path a file costs twice the time
                    continue
                if not entry.is_dir():
                    yield inner, entry.path
                elif depth < _DEEPEST:
                    pending.append((entry.path, inner, depth + 1))


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
