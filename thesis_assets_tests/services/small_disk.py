"""File systems of a few pages or megabytes for tests, mounted and taken away again: a tmpfs, and an ext4 in a file."""

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
    reason = _refused(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)])
    if reason:
        if os.environ.get("THESIS_ASSETS_REQUIRE_SERVICES") == "1" and os.geteuid() == 0:
            pytest.fail(f"a small file system cannot be mounted: {reason}")
        pytest.skip(f"needs root and mount: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], timeout=20, check=True)


@contextmanager
def mounted_ext4(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount one, with real blocks and inodes, on `folder`. Skips the test where that is not allowed: in a container without loop
    devices, for instance."""
    folder.mkdir()
    image = folder.with_name(f"{folder.name}.img")
    with image.open("wb") as handle:
        handle.truncate(megabytes << 20)
    reason = _refused(["mkfs.ext4", "-q", str(image)]) or _refused(["mount", "-o", "loop", str(image), str(folder)])
    if reason:
        pytest.skip(f"needs root, mkfs.ext4 and loop devices: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], timeout=20, check=True)


def make_read_only(folder: Path) -> None:
    """From now on nobody may write there."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, timeout=20)


def _refused(command: list[str]) -> str:
    """Why a command was not done; empty where it was."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return f"there is no `{command[0]}` here"
    return done.stderr.strip() or f"`{command[0]}` ended with {done.returncode}" if done.returncode else ""


def resize(folder: Path, size: str) -> None:
    """Make space, or take it."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, timeout=20)
