"""A folder for what is slow to make and only read by tests: kept between test runs until the code that made it changes."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "test_artifacts" / "worlds"
MADE_BY = (ROOT / "thesis_assets", ROOT / "thesis_assets_tests" / "worlds.py", ROOT / "constraints.txt")


def source_digest() -> str:
    """Of every file that shapes what is kept."""
    digest = hashlib.sha256()
    for source in MADE_BY:
        files = [source] if source.is_file() else source.rglob("*")
        for path in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextlib.contextmanager
def kept_folder(failed: Callable[[], object]) -> Iterator[Path]:
    """This process's folder, with what an earlier test run left in it, or empty.

    Nothing is taken over from a run that failed or was killed, since a test may have left a change, nor from other sources. Where
    another test run is at work in the folder, this one gets a temporary one.

    Args:
        failed: whether a test has failed, asked at the end.
    """
    folder = KEPT / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    folder.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(prefix="worlds-") as temporary:
                yield Path(temporary)
            return
        mark, digest = folder / "whole", source_digest()
        if not mark.is_file() or mark.read_text() != digest:
            shutil.rmtree(folder)
            folder.mkdir()
        mark.unlink(missing_ok=True)
        yield folder
        if not failed():
            mark.write_text(digest)


@contextlib.contextmanager
def made_once(folder: Path) -> Iterator[bool]:
    """Whether a part of a kept folder is still to be made; it counts as made when the block ends without an error."""
    mark = folder.with_suffix(".made")
    is_new = not mark.is_file()
    yield is_new
    mark.touch()
