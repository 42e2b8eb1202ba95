"""A colleague who may only read a finished data home: what looks at it answers, and what would write says so in words."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import thesis_assets
from thesis_assets_tests.worlds import World

NOBODY = 65534


@dataclass(frozen=True)
class Colleague:
    """Another user of this machine. `home`: a folder that only they may write."""

    home: Path
    interpreter: str
    environment: dict[str, str]

    def give(self, *words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Give a command, from the home or another folder."""
        return subprocess.run(
            [self.interpreter, "-W", "ignore", "-m", "thesis_assets.cli.main", *words],
            env={**self.environment, **environment},
            cwd=cwd or self.home,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that everybody may enter: those of pytest are closed to others."""
    with tempfile.TemporaryDirectory(prefix="colleague-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def colleague(finished_world: World, open_folder: Path) -> Colleague:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(Path(thesis_assets.__file__).parents[1]), *packages]),
        "TMPDIR": "/tmp",
        "THESIS_DATA_HOME": str(finished_world.settings.data_home),
        "THESIS_EXPERIMENTS_DIR": str(finished_world.settings.experiments_dir),
        "THESIS_CANONICAL_GT_ROOT_DIR": str(finished_world.platform.roots.canonical_gt),
        "THESIS_PREPROCESSING_ROOT_DIR": str(finished_world.platform.roots.preprocessing),
        "THESIS_RENDERS_ROOT_DIR": str(finished_world.platform.roots.renders),
        "THESIS_SCENE_REGISTRY_DIR": str(finished_world.platform.roots.registry),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    found = Colleague(home, _interpreter(), environment)
    if (probe := found.give("--help")).returncode != 0:
        pytest.skip(f"this checkout may not be read by others: {probe.stderr[-200:]}")
    return found


def _interpreter() -> str:
    """One that others may start: this one, or the system's of the same version."""
    for path in (Path(sys.executable).resolve(), Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if path.is_file() and all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents):
            return str(path)
    pytest.skip("no Python of this version may be started by others")


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_looks_answers_and_changes_nothing(finished_world: World, colleague: Colleague) -> None:
    before = stamps(finished_world.settings.data_home)
    for words, said in (
        (("status", "--exp", "small"), "tuned_checkpoint"),
        (("leaderboard",), "r1"),
        (("lineage", "small/r1"), "the chain holds"),
        (("compare", "--exp", "small", "--run", "r1"), "frames have their pictures"),
    ):
        done = colleague.give(*words)
        assert done.returncode == 0, (words, done.stdout[-500:], done.stderr[-500:])
        assert said in done.stdout, words
    assert stamps(finished_world.settings.data_home) == before


def test_a_comparison_is_written_where_the_colleague_is_and_its_path_is_printed(
    finished_world: World, colleague: Colleague
) -> None:
    done = colleague.give("compare", "--exp", "small", "--run", "r1", "--json")
    assert done.returncode == 0, done.stderr[-500:]
    page = Path(json.loads(done.stdout)["page"])
    assert page.parent == colleague.home
    assert page.name == finished_world.settings.reports.comparison("small", "r1", "unrefined").name
    assert "r1" in page.read_text(encoding="utf-8")
    assert [path.name for path in colleague.home.iterdir() if not path.name.startswith(".")] == [page.name]
    assert "the page is written here" in done.stderr


def test_what_would_write_says_so_in_words(colleague: Colleague, open_folder: Path) -> None:
    for words in (("run", "--exp", "small"), ("compare", "--exp", "small", "--run", "r1")):
        done = colleague.give(*words, cwd=open_folder)
        assert done.returncode == 1, (words, done.stdout[-500:], done.stderr[-500:])
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("setting", ["THESIS_DATA_HOME", "DAGSTER_HOME"])
def test_a_folder_that_may_not_be_entered_is_told_and_not_taken_for_an_empty_one(
    colleague: Colleague, open_folder: Path, setting: str
) -> None:
    closed = open_folder / "closed"
    (closed / "inside").mkdir(parents=True)
    closed.chmod(0)
    for folder in (closed, closed / "inside"):
        for words in (("status",), ("run", "--exp", "small")):
            done = colleague.give(*words, **{setting: str(folder)})
            assert done.returncode == 1, (words, done.stdout[-500:], done.stderr[-500:])
            assert "may not be entered by this user" in done.stderr
            assert f"file: {closed}\n" in done.stderr
            assert setting in done.stderr
            assert "Traceback" not in done.stderr
