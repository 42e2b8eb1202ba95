"""A file system of a few pages or megabytes, for tests of a full disk: a tmpfs, mounted and taken away again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount it on `folder`. Skips the test where that is not allowed.

    Args:
        size: as `mount` has it, `400k` or `16m`.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=20, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "there is no `mount` here"
    if reason:
        if os.environ.get("THESIS_ASSETS_REQUIRE_SERVICES") == "1" and os.geteuid() == 0:
            pytest.fail(f"a small file system cannot be mounted: {reason}")
        pytest.skip(f"needs root and mount: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], timeout=20, check=True)


def resize(folder: Path, size: str) -> None:
    """Make space, or take it."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, timeout=20)
