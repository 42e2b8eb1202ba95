"""What lies in the folders of a scene: frames and numbers in order, files as a sample's record names them, and whether all is at rest.

Empty files count as missing. Links are followed only as far as the roots of the scene data reach. Loaded without numpy.
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from thesis_assets.errors import InvalidScene
from thesis_assets.layout import SceneTree

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""In order of preference, where one frame has several."""

_RECIPE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_FRAME_FILE = re.compile(r"([0-9]{6}|[1-9][0-9]{6,11})(\.[A-Za-z0-9]+)")


@dataclass(frozen=True)
class SceneRoots:
    """Where scenes lie: ground truth, estimates, registry files, renders of other pipelines. Records name files by these words."""

    canonical_gt: Path
    preprocessing: Path
    registry: Path
    renders: Path

    def tree(self, scene_name: str, recipe: str = "") -> SceneTree:
        """The paths of one scene, with the renders of a recipe's folder.

        Raises:
            InvalidKey: the name is unsafe, or has no dataset in front.
        """
        return SceneTree(self.canonical_gt, self.preprocessing, self.registry, self.renders, scene_name, recipe)

    def check_inside(self, path: Path) -> Path:
        """Return `path` if it lies, links followed, below one of the roots.

        Raises:
            InvalidScene: a link leads elsewhere.
        """
        real = path.resolve()
        roots = [root.resolve() for root in vars(self).values()]
        if not any(real.is_relative_to(root) for root in roots):
            raise InvalidScene(
                "a path leaves the roots of the scene data",
                file=path,
                found=real,
                wanted="below " + " or ".join(str(root) for root in dict.fromkeys(roots)),
                remedy="copy or hard-link the files into the root, or name the place the link leads to as the root",
            )
        return path


@dataclass(frozen=True)
class FrameFiles:
    """The files of one folder that belong to frames.

    Attributes:
        paths: frame name to file, in numeric order; only files with content.
        empty: frames whose file has no bytes (they failed upstream), in numeric order.
        others: names of files that are no frame of the expected kind.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def list_frames(folder: Path, suffixes: Iterable[str], roots: SceneRoots) -> FrameFiles:
    """Frame files of a folder. A folder that is not there has none.

    Raises:
        InvalidScene: the folder, or a link in it, leaves the roots.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return FrameFiles()
    roots.check_inside(folder)
    order = {suffix: rank for rank, suffix in enumerate(suffixes)}
    found: dict[str, tuple[int, Path]] = {}
    empty: set[str] = set()
    others: list[str] = []
    for entry in entries:
        match = _FRAME_FILE.fullmatch(entry.name)
        if match is None or match[2].lower() not in order:
            others.append(entry.name)
            continue
        fname, rank = match[1], order[match[2].lower()]
        if not _has_content(entry, roots):
            empty.add(fname)
        elif fname not in found or rank < found[fname][0]:
            found[fname] = (rank, folder / entry.name)
    return FrameFiles(
        paths={fname: found[fname][1] for fname in sorted(found, key=int)},
        empty=tuple(sorted(empty - found.keys(), key=int)),
        others=tuple(others),
    )


def file_with_content(path: Path, roots: SceneRoots) -> Path | None:
    """`path` if it is a file with content inside the roots, None where it is missing or empty.

    Raises:
        InvalidScene: a link on the way leaves the roots.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return None
    return roots.check_inside(path)


def list_numbers(folder: Path) -> list[int]:
    """Subfolders of `folder` whose names are plain integers (`4`, not `04`), in numeric order."""
    try:
        with os.scandir(folder) as entries:
            return sorted(int(entry.name) for entry in entries if _NUMBER.fullmatch(entry.name) and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _has_content(entry: os.DirEntry[str], roots: SceneRoots) -> bool:
    try:
        if entry.is_symlink():
            roots.check_inside(Path(entry.path))
        status = entry.stat()
    except FileNotFoundError:  # a link that leads nowhere, or a file removed while we list
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


_DEEPEST_FILE = 2  # masks lie deepest, <cam_id>/<person>/; the bound also ends a loop of links


def recipe_folders(tree: SceneTree) -> list[str]:
    """The folders that stand between a scene's renders and its cameras: of recipes, by name."""
    try:
        with os.scandir(replace(tree, recipe="").renders_dir) as entries:
            return sorted(entry.name for entry in entries if _RECIPE.fullmatch(entry.name) and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def scene_files(
    tree: SceneTree, roots: SceneRoots, render_source: str | None, recipes: Sequence[str] = ("",)
) -> dict[str, str]:
    """Name to path of every file that generation reads from a scene: one listing a folder, no file is opened.

    Names are `<root>/<path below it>`: `canonical_gt/<scene>/images/4/000012.jpg`. Nothing where there is nothing.

    Args:
        render_source: `gaussians` or `precomputed` leaves out the files that the other source reads; None takes both.
            `command` takes the Gaussians, and not the renders: those are what the command makes of the rest.
        recipes: the folders of renders that `precomputed` reads; the empty one holds those of no recipe. None as source takes all.
    """
    truth, estimated = tree.ground_truth, tree.estimated
    places = [truth.images_dir, truth.cameras_dir, truth.masks_dir, truth.skip_frames, estimated.skip_frames]
    places.append(tree.registry_entry)
    if render_source in (None, "gaussians", "command"):
        places.append(estimated.gaussians_dir)
    if render_source in (None, "precomputed"):
        for recipe in recipes if render_source is not None else ["", *recipe_folders(tree)]:
            folder = replace(tree, recipe=recipe).renders_dir
            places += [folder / str(cam_id) for cam_id in list_numbers(folder)]  # ours lie beside them
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
                elif depth < _DEEPEST_FILE:
                    pending.append((entry.path, inner, depth + 1))


def _label(path: Path, roots: SceneRoots) -> str:
    """A name that does not move with the roots: which root, and the path below it."""
    for word, root in vars(roots).items():
        if path.is_relative_to(root):
            return f"{word}/{path.relative_to(root).as_posix()}"
    return path.as_posix()


DEFAULT_QUIET_S = 600.0
MAX_INFO_BYTES = 4 * 1024 * 1024
_STATUS = re.compile(rb"^[ \t]*status[ \t]*:[ \t]*(\w+)[ \t\r]*$", re.MULTILINE)
_ESTIMATOR = re.compile(rb"^[ \t]*estimator[ \t]*:[ \t]*(\S+)[ \t\r]*$", re.MULTILINE)
_DEEPEST_FOLDER = 4  # seg/img_seg_mask/<cam_id>/<person>; the bound also ends a loop of links


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
    # numpy comes with it: a quarter of what loading the graph costs
    from thesis_assets.scenes.bounded_files import read_bounded

    words: list[bytes] = _STATUS.findall(read_bounded(path, MAX_INFO_BYTES))
    return words[-1].decode("ascii", "replace").lower() if words else None


def read_estimators(path: Path) -> list[str]:
    """The models that estimated a scene, by the lines `estimator: <id>` of its `preprocess_info.txt`, in their order, each once.

    Raises:
        InvalidFile: the file is too large to be one.
    """
    from thesis_assets.scenes.bounded_files import read_bounded  # as in `read_status`

    found = _ESTIMATOR.findall(read_bounded(path, MAX_INFO_BYTES))
    return list(dict.fromkeys(word.decode("utf-8", "replace") for word in found))


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
        if depth < _DEEPEST_FOLDER:
            with os.scandir(folder) as entries:
                pending += [(Path(entry.path), depth + 1) for entry in entries if entry.is_dir()]
