"""`thesis-assets experiment new`: a copy of an example to start from."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from thesis_assets.experiments.writing import examples
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import tiny_world

ROOT = Path(__file__).parents[2]


def test_it_writes_the_annotated_example_under_the_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tiny_world(tmp_path)
    said = json_of(invoke(monkeypatch, world, "experiment", "new", "mine", "--json"))
    written = world.platform.experiments.path("mine")
    example = examples().path("hi4d_v1").read_text(encoding="utf-8")
    assert said == {"exp_name": "mine", "from": "hi4d_v1", "file": str(written)}
    assert written.read_text(encoding="utf-8") == example.replace("exp_name: hi4d_v1", "exp_name: mine")
    assert world.platform.experiments.read("mine").runs.keys() == examples().read("hi4d_v1").runs.keys()
    assert "sync --dry-run" in invoke(monkeypatch, world, "experiment", "new", "second", "--from", "hi4d_v1").output


def test_it_writes_over_nothing_and_takes_no_bad_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tiny_world(tmp_path)
    folder = world.settings.experiments_dir
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("mine\n")
    for arguments, said in (
        (("mine",), "already"),
        (("../mine",), "exp_name"),
        (("other", "--from", "nothing"), "hi4d_v1"),
    ):
        result = invoke(monkeypatch, world, "experiment", "new", *arguments)
        assert result.exit_code == 1
        assert said in str(result.exception)
    assert [path.name for path in folder.iterdir()] == ["mine.yaml"]
    assert (folder / "mine.yaml").read_text() == "mine\n"


def test_examples_are_no_experiments() -> None:
    from thesis_assets.experiments import ExperimentFolder

    assert ExperimentFolder(ROOT / "experiments").names() == ["demo", "motorcycle"]


def test_an_installed_package_has_the_examples(tmp_path: Path) -> None:
    """They lie beside the other experiments, for people to find, and are linked into the package."""
    pytest.importorskip("setuptools", reason="setuptools, which builds the wheel, is not installed")
    checkout = tmp_path / "checkout"
    for folder in ("thesis_assets", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__", "*.js", "*.css")
        shutil.copytree(ROOT / folder, checkout / folder, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, checkout)
    backend = f"import setuptools.build_meta as backend; print(backend.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", backend], cwd=checkout, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    name = "thesis_assets/experiments/examples/hi4d_v1.yaml"
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        assert wheel.read(name) == examples().path("hi4d_v1").read_bytes()
