"""A colleague who may only read a finished data home: what looks at it answers, and what would write says so in words."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets_tests.worlds import World

NOBODY = 65534


@pytest.fixture
def colleague(
    finished_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Gives a command as another user of this machine."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    interpreter = _interpreter()
    home = tmp_path_factory.mktemp("colleague")
    os.chown(home, NOBODY, NOBODY)
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("site-packages")),
        "TMPDIR": "/tmp",
        "THESIS_DATA_HOME": str(finished_world.settings.data_home),
        "THESIS_EXPERIMENTS_DIR": str(finished_world.settings.experiments_dir),
        "THESIS_CANONICAL_GT_ROOT_DIR": str(finished_world.platform.roots.canonical_gt),
        "THESIS_PREPROCESSING_ROOT_DIR": str(finished_world.platform.roots.preprocessing),
        "THESIS_RENDERS_ROOT_DIR": str(finished_world.platform.roots.renders),
        "THESIS_SCENE_REGISTRY_DIR": str(finished_world.platform.roots.registry),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }

    def give(*words: str) -> subprocess.CompletedProcess[str]:
        command = [interpreter, "-W", "ignore", "-m", "thesis_assets.cli.main", *words]
        return subprocess.run(
            command,
            env=environment,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )

    if (probe := give("--help")).returncode != 0:
        pytest.skip(f"this checkout may not be read by others: {probe.stderr[-200:]}")
    return give


def _interpreter() -> str:
    """One that others may start: this one, or the system's of the same version."""
    for path in (Path(sys.executable).resolve(), Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if path.is_file() and all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents):
            return str(path)
    pytest.skip("no Python of this version may be started by others")


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_looks_answers_and_changes_nothing(
    finished_world: World, colleague: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    before = stamps(finished_world.settings.data_home)
    for words, said in (
        (("status", "--exp", "small"), "tuned_checkpoint"),
        (("leaderboard",), "r1"),
        (("lineage", "small/r1"), "the chain holds"),
    ):
        done = colleague(*words)
        assert done.returncode == 0, (words, done.stdout[-500:], done.stderr[-500:])
        assert said in done.stdout, words
    assert stamps(finished_world.settings.data_home) == before


def test_what_would_write_says_so_in_words(colleague: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for words in (("run", "--exp", "small"), ("compare", "--exp", "small", "--run", "r1")):
        done = colleague(*words)
        assert done.returncode == 1, (words, done.stdout[-500:], done.stderr[-500:])
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
