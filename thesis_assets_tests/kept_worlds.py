"""A folder for what is slow to make and only read by tests: kept between test runs until the code that made it changes."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "test_artifacts" / "worlds"
TESTS = ROOT / "thesis_assets_tests"
MADE_BY = (
    ROOT / "thesis_assets",
    ROOT / "constraints.txt",
    TESTS / "conftest.py",
    TESTS / "worlds.py",
    TESTS / "defs" / "sensor_ticks.py",
    TESTS / "samples" / "tiny_scenes.py",
)


def source_digest() -> str:
    """Of every file that shapes what is kept."""
    digest = hashlib.sha256()
    for source in MADE_BY:
        files = [source] if source.is_file() else source.rglob("*")
        for path in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextlib.contextmanager
def kept_folder() -> Iterator["KeptFolder"]:
    """This process's folder. Where another test run is at work in it, this one gets a temporary one."""
    base = KEPT / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    base.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{base.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(prefix="worlds-") as temporary:
                yield KeptFolder(Path(temporary))
        else:
            yield KeptFolder(base)


class KeptFolder:
    """What is made in `live` is copied to `whole`, and comes back from there at the start of the next test run: what a test
    changed, or left half when it was killed, is not taken over. Paths, times and links between the files stay as they were made.
    """

    def __init__(self, base: Path) -> None:
        self.live, self._whole, self._mark = base / "live", base / "whole", base / "made_by"
        self._digest = source_digest()
        _remove(self.live)
        if self._mark.is_file() and self._mark.read_text() == self._digest:
            _copy(self._whole, self.live)
        else:
            _remove(self._whole)
            self.live.mkdir()

    def make_once(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder of `live` that `make` fills, unless an earlier test run has."""
        folder = self.live / name
        if not folder.is_dir():
            make(folder)
            self._mark.unlink(missing_ok=True)
            _remove(self._whole)
            _copy(self.live, self._whole)
            self._mark.write_text(self._digest)
        return folder

    def bring_back(self, name: str) -> None:
        """A folder of `live` as `make_once` left it."""
        _remove(self.live / name)
        _copy(self._whole / name, self.live / name)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def _copy(source: Path, target: Path) -> None:
    """With times and hard links, which `shutil.copytree` does not keep."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=120)
