"""A history of runs on a file system that is full: commands end in words, and go on after room is made."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thesis_assets_tests.services.small_disk import mounted
from thesis_assets_tests.worlds import World, thesis_assets

COMMANDS = (("status",), ("run", "--exp", "small", "--until", "scene_samples"))


@pytest.fixture
def world(new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Its history lies on a disk of its own, of 16 MB."""
    made = new_world()
    disk = tmp_path / "disk"
    monkeypatch.setattr(World, "environment", {**made.environment, "DAGSTER_HOME": str(disk / "history")})
    with mounted(disk, "16m"):
        yield made


def fill(disk: Path, room: int = 0) -> Path:
    """Take what room there is but so many bytes. Returns the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as handle:
        with contextlib.suppress(OSError):
            while True:
                handle.write(bytes(4096))
        handle.truncate(handle.tell() - room)
    return ballast


def told(done: subprocess.CompletedProcess[str], history: Path) -> None:
    assert done.returncode == 1, (done.stdout[-500:], done.stderr[-1500:])
    assert "Traceback" not in done.stderr + done.stdout
    assert "error: the history of runs cannot be" in done.stderr
    assert str(history) in done.stderr
    assert "make room" in done.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("history", ["new", "there"])
def test_a_full_disk_under_the_history_is_told_and_the_command_goes_on_after_room_is_made(
    world: World, tmp_path: Path, history: str, words: tuple[str, ...]
) -> None:
    disk = tmp_path / "disk"
    if history == "there":
        assert thesis_assets(world, "status").returncode == 0
    ballast = fill(disk)

    told(thesis_assets(world, *words), disk / "history")

    ballast.unlink()
    done = thesis_assets(world, *words)
    assert done.returncode == 0, done.stderr[-1500:]


@pytest.mark.parametrize("room", [40_000, 200_000])
def test_a_disk_that_fills_up_while_a_run_is_made_is_told_and_the_run_goes_on(
    world: World, tmp_path: Path, room: int
) -> None:
    disk = tmp_path / "disk"
    assert thesis_assets(world, "status").returncode == 0
    ballast = fill(disk, room)

    told(thesis_assets(world, *COMMANDS[1]), disk / "history")

    ballast.unlink()
    done = thesis_assets(world, *COMMANDS[1])
    assert done.returncode == 0, done.stderr[-1500:]
