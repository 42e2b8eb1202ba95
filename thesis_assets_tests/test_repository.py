"""The repository beside the package: what the pages say is so, and the files that other programs read are valid."""

import ast
import importlib
import os
import pkgutil
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from thesis_assets.experiments import ExperimentSpec
from thesis_assets.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# --- pages -----------------------------------------------------------------------------------------------------------


def code_in(page: Path) -> str:
    """The code blocks and the quoted words of a page, a line each."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```\w*\n(.*?)^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*(block.replace("\\\n", " ") for block in blocks), *re.findall(r"`([^`\n]+)`", rest)])


def commands_in(page: Path) -> Iterator[list[str]]:
    """The words after each `thesis-assets` in a page's code, up to a comment or the end of the command."""
    for found in re.finditer(r"(?:^|[\s/\"])thesis-assets ([a-z][^\n#\"|;]*)", code_in(page)):
        yield found[1].split()


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and the words after its name."""
    import typer

    from thesis_assets.cli.main import app

    command: object = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, "a command is missing"
        assert words[0] in command.commands, f"there is no `thesis-assets {words[0]}`"
        command, words = command.commands[words[0]], words[1:]
    return command, words  # type: ignore[return-value]


@EVERY_PAGE
def test_every_command_in_the_pages_is_a_real_one(page: Path) -> None:
    for words in commands_in(page):
        command, arguments = command_of(words)
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        for word in arguments:
            if word.startswith("--"):
                assert word.split("=")[0] in options, f"`thesis-assets {' '.join(words)}`: no {word}"


def test_the_pages_have_commands() -> None:
    assert sum(len(list(commands_in(page))) for page in PAGES) > 20


@EVERY_PAGE
def test_every_make_target_in_the_pages_is_a_real_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"(?:^|\s)make ([a-z-]+)", code_in(page))) <= targets


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")]), ids=lambda path: path.name
)
def test_what_benchmarks_and_scripts_take_from_the_package_is_there(path: Path) -> None:
    """They are run seldom: a name that moved would be found by whoever measures next."""
    taken = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in taken:
        if (node.module or "").startswith(("thesis_assets", "benchmarks")):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_what_benchmarks_replace_in_the_package_is_there() -> None:
    """What they give to `mock.patch` is a name in words, which nothing else looks at."""
    sources = [path.read_text() for path in ROOT.glob("benchmarks/*.py")]
    names = [
        name for source in sources for name in re.findall(r'mock\.patch\("(thesis_assets\.[\w.]+)"(?!.*create)', source)
    ]
    assert len(names) > 3
    for name in names:
        pkgutil.resolve_name(name)


@EVERY_PAGE
def test_every_link_of_the_pages_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@EVERY_PAGE
def test_every_link_to_a_part_of_a_page_leads_to_its_heading(page: Path) -> None:
    for file, heading in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        target = (page.parent / file if file else page).read_text(encoding="utf-8")
        anchors = [
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", target, re.M)
        ]
        assert heading in anchors, f"{file}#{heading}"


WORDS = ("cell", "shard", "level", "open", "frozen", "stale")


def test_the_words_are_defined_once_and_linked_where_they_are_used() -> None:
    tour = ROOT / "docs" / "ui_tour.md"
    _, _, words = tour.read_text(encoding="utf-8").partition("## Words\n")
    assert tuple(re.findall(r"^\| (\w+) \|", words.partition("\n## ")[0], re.M))[1:7] == WORDS
    for page in set(PAGES) - {tour, ROOT / "docs" / "decisions.md"}:
        text = page.read_text(encoding="utf-8")
        if re.search(r"\b(shards?|frozen|stale)\b", text):
            assert "ui_tour.md#words" in text, f"{page.name} uses the words and does not say where they are defined"


@EVERY_PAGE
def test_every_experiment_in_the_pages_is_valid(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        value = yaml.safe_load(block)
        if "exp_name" in value:
            ExperimentSpec.model_validate(value)


def test_the_readmes_graph_is_the_graph() -> None:
    from thesis_assets.graph.nodes import NODES

    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\s*(\w+) --> (\w+)$", readme, re.MULTILINE)) == {
        (upstream, asset) for asset, node in NODES.items() for upstream in (*node.upstream, *node.observed)
    }
    for asset in NODES:
        assert asset in readme


def test_the_settings_that_the_pages_name_are_read() -> None:
    read = {str(field.validation_alias) for field in Settings.model_fields.values()} | {
        "THESIS_ASSETS_REQUIRE_SERVICES",
        "THESIS_FAILED_RUN",
    }
    read |= set(re.findall(r"env: (\w+)", (ROOT / "deploy" / "dagster.postgres.yaml").read_text()))
    named = {word for page in PAGES for word in re.findall(r"\bTHESIS_[A-Z_]+", page.read_text(encoding="utf-8"))}

    assert named <= read
    assert len(named) > 10


# --- files that other programs read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["slurm.md", "izar.md"])
def test_the_settings_of_the_cluster_pages_can_be_written_as_they_stand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thesis_assets.graph.platform import Platform
    from thesis_assets.launch.slurm_jobs import SlurmLauncher

    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n((?:[A-Z_]+=.*\n)+)```", text, re.MULTILINE)
    assert blocks
    (tmp_path / "env").write_text(re.sub(r"=/(scratch|work|tmp)/", f"={tmp_path}/", "".join(blocks)))
    settings = Settings(_env_file=tmp_path / "env")
    launcher = Platform(settings).launcher
    assert isinstance(launcher, SlurmLauncher)
    assert launcher.site.presets["cpu"].asked_gpus == 1
    assert all(line.split()[0] in ("module", "source", "conda") for line in settings.slurm_setup)


def test_both_instance_files_say_the_same_but_for_the_storage() -> None:
    default, postgres = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("dagster.yaml", "deploy/dagster.postgres.yaml")
    )

    assert set(postgres.pop("storage")) == {"postgres"}
    assert postgres == default


def test_dagster_accepts_the_instance_file(tmp_path: Path) -> None:
    import dagster as dg

    shutil.copy(ROOT / "dagster.yaml", tmp_path)

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert instance.run_retries_enabled
        assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False


def test_every_way_to_load_the_code_location_gives_it_the_same_name() -> None:
    # The UI shows the runs of a location by its name; `dagster dev -m` gives it the module's.
    from dagster._core.workspace.load_target import PyProjectFileTarget, WorkspaceFileTarget

    targets = [WorkspaceFileTarget([str(ROOT / "workspace.yaml")]), PyProjectFileTarget(str(ROOT / "pyproject.toml"))]
    names = [origin.location_name for target in targets for origin in target.create_origins()]
    assert names == ["thesis_assets.definitions"] * 2
    project = PYPROJECT["tool"]["dg"]["project"]
    assert project["code_location_name"] == project["code_location_target_module"] == names[0]


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line
    return dict(line.split("==") for line in lines)


def test_everything_that_make_installs_is_pinned_to_a_version_that_fits() -> None:
    versions = pinned()
    extras = PYPROJECT["project"]["optional-dependencies"]

    for text in [*PYPROJECT["project"]["dependencies"], *extras["demo"], *extras["dev"]]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name != PYPROJECT["project"]["name"]:
            assert name in versions, f"run scripts/write_constraints.py: {text} is not pinned"
            assert requirement.specifier.contains(versions[name]), text


@pytest.mark.parametrize("script", [".ci/run", *(path.name for path in (ROOT / "scripts").glob("*.sh"))])
def test_a_shell_script_can_be_run_and_stops_at_its_first_error(script: str) -> None:
    path = ROOT / script if script.startswith(".ci") else ROOT / "scripts" / script

    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=20)


# --- make ------------------------------------------------------------------------------------------------------------


def make_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        if not (folder / name).exists():
            shutil.copy(ROOT / name, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def program(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_a_python_that_is_too_old_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = program(tmp_path / "old-python", 'if [ "$1" = -V ]; then echo "Python 3.9.1"; else exit 1; fi')

    done = make_in(tmp_path, "demo", f"PYTHON={old}")

    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stdout
    assert "Python 3.9.1" in done.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = make_in(tmp_path, "demo", "PYTHON=no-such-python")

    assert done.returncode != 0
    assert "no 'no-such-python' here" in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_what_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    log = tmp_path / "calls.txt"
    program(tmp_path / ".venv" / "bin" / "python", f'echo "$@" >> {log}')
    program(tmp_path / ".venv" / "bin" / "thesis-assets", f'echo "$@" >> {log}')

    make_in(tmp_path, "demo")
    first = log.read_text().splitlines()
    log.write_text("")
    make_in(tmp_path, "demo")

    assert [line.split()[-1] for line in first] == [".[demo]", "demo"]
    assert log.read_text().splitlines() == ["demo"]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_alone_lists_its_targets(tmp_path: Path) -> None:
    listed = make_in(tmp_path).stdout

    for target in ("demo", "test", "ui", "lint", "bench", "soak", "install", "clean"):
        assert f"make {target}" in listed
