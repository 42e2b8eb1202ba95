"""Whether an input file of a renderer is there and lies inside its root, links followed."""

from pathlib import Path

from thesis_assets.errors import InvalidScene


def readable_file(path: Path, root: Path) -> Path | None:
    """`path` if it is a file with content; None where it is missing or empty (what a failed step upstream leaves).

    Raises:
        InvalidScene: a symlink leads out of `root`.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return None
    if not path.resolve().is_relative_to(root.resolve()):
        raise InvalidScene(
            "a link leaves its root",
            file=path,
            found=path.resolve(),
            wanted=f"a file below {root}",
            remedy="copy or hard-link the file into the root",
        )
    return path
