"""What the settings give to every process that is started: caches, folders, and the conda environment of the user's commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments.command_template import CONDA_ENV, Environment, in_environment
from thesis_assets.graph.platform import Platform
from thesis_assets.launch.child_environment import HYDRA_ROOT, child_variables, hydra_run_folder
from thesis_assets.launch.jobs import Call, Calling, Job, run_job
from thesis_assets.launch.local_jobs import LocalLauncher
from thesis_assets.layout import CommandTree, JobTree
from thesis_assets.settings import Settings

NAMES = ("HF_HOME", "WANDB_DIR", HYDRA_ROOT, CONDA_ENV)
PRINTS = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "HF_TOKEN_PATH", "CONDA_EXE", "CONDA_DEFAULT_ENV", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def launcher(tmp_path: Path) -> LocalLauncher:
    """The platform's own, by settings that name all four."""
    settings = Settings(
        _env_file=None,
        data_home=tmp_path / "data",
        hf_cache_dir=tmp_path / "hf",
        wandb_root=tmp_path / "wandb",
        hydra_root=tmp_path / "hydra",
        conda_env="difix",
        device="cpu",
    )
    launcher = Platform(settings).launcher
    assert isinstance(launcher, LocalLauncher)
    return launcher


def wanted(base: Path) -> dict[str, str]:
    return dict(zip(NAMES, [str(base / "hf"), str(base / "wandb"), str(base / "hydra"), "difix"], strict=True))


def variables_of(process_said: dict[str, str]) -> dict[str, str]:
    return {name: process_said[name] for name in NAMES if name in process_said}


def child_says(_: int) -> dict[str, str]:
    """What a process finds that a call starts."""
    said = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True)
    return variables_of(json.loads(said.stdout))


def test_a_job_has_them_and_what_it_sets_itself_wins(tmp_path: Path, launcher: LocalLauncher) -> None:
    out = tmp_path / "out.log"
    words = [sys.executable, "-c", PRINTS]
    job = Job(
        "t", words, tmp_path / "job.json", tmp_path / "exit.json", out, tmp_path / "err.log", env={"HF_HOME": "own"}
    )

    run_job(launcher, job)

    assert variables_of(json.loads(out.read_text())) == {**wanted(tmp_path), "HF_HOME": "own"}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_call_starts_has_them_and_afterwards_this_process_has_not(
    tmp_path: Path, launcher: LocalLauncher, workers: int
) -> None:
    calls = [Call(str(number), number, "", JobTree(tmp_path / str(number))) for number in range(2)]

    outcomes = launcher.map(child_says, calls, Calling(workers=workers))

    assert outcomes == [wanted(tmp_path)] * 2
    assert not set(NAMES) & os.environ.keys()


def test_nothing_is_handed_on_where_nothing_is_set(tmp_path: Path) -> None:
    assert Platform(Settings(_env_file=None, data_home=tmp_path)).child_variables == {}


def test_wandb_finds_its_folder_or_the_setting_is_named(tmp_path: Path) -> None:
    given = {"hf_home": None, "hydra_root": None, "conda_env": None}
    child_variables(wandb_dir=tmp_path / "a" / "b", **given)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(ThesisAssetsError, match="THESIS_WANDB_ROOT_DIR"):
        child_variables(wandb_dir=tmp_path / "file" / "b", **given)


def test_a_login_of_the_hub_is_still_found_when_its_cache_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given = {"wandb_dir": None, "hydra_root": None, "conda_env": None}
    assert "HF_TOKEN_PATH" not in child_variables(hf_home=tmp_path / "hf", **given)
    token = tmp_path / "huggingface" / "token"
    token.parent.mkdir()
    token.touch()
    assert child_variables(hf_home=tmp_path / "hf", **given)["HF_TOKEN_PATH"] == str(token)


def test_hydra_has_a_folder_a_run_below_its_root_or_beside_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = CommandTree(tmp_path / "logs")
    assert hydra_run_folder(command, {}, "v1", "r1", "studio_a") == tmp_path / "logs" / "hydra"
    monkeypatch.setenv(HYDRA_ROOT, str(tmp_path / "hydra"))
    assert hydra_run_folder(command, {}, "v1", "r1", "studio_a") == tmp_path / "hydra/v1/r1/studio_a"
    assert hydra_run_folder(command, {}, "v1", None, "studio_a") == tmp_path / "hydra/v1/_renders/studio_a"
    own = {HYDRA_ROOT: str(tmp_path / "own")}
    assert hydra_run_folder(command, own, "v1", "r1", "studio_a") == tmp_path / "own/v1/r1/studio_a"


# --- conda -----------------------------------------------------------------------------------------------------------

CONDA_SH = """
conda() {
  [ "$1" = activate ] && [ -d "$BASE/envs/$2" ] || { echo "EnvironmentNameNotFound: $2" >&2; return 1; }
  export CONDA_DEFAULT_ENV="$2" PATH="$BASE/envs/$2/bin:$PATH"
}
"""


@pytest.fixture
def conda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of conda with the environments `difix` and `gs`, each with a `python` that says where it is from."""
    base = tmp_path / "mini conda"
    for name in ("difix", "gs"):
        python = base / "envs" / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho {name} "$CONDA_DEFAULT_ENV" "$@"\n')
        python.chmod(0o755)
    script = base / "etc" / "profile.d" / "conda.sh"
    script.parent.mkdir(parents=True)
    script.write_text(CONDA_SH.replace("$BASE", f"{base}").lstrip())
    monkeypatch.setenv("CONDA_EXE", str(base / "bin" / "conda"))
    monkeypatch.setenv(CONDA_ENV, "difix")
    return base


def run(environment: Environment) -> subprocess.CompletedProcess[str]:
    words = in_environment(["python", "a b"], environment)
    return subprocess.run(
        words, env={**os.environ, **environment.env}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.usefixtures("conda")
def test_a_command_runs_in_the_conda_environment_of_the_settings() -> None:
    assert run(Environment()).stdout == "difix difix a b\n"


@pytest.mark.usefixtures("conda")
def test_an_environment_that_the_experiment_names_wins() -> None:
    assert run(Environment(env={CONDA_ENV: "gs"})).stdout == "gs gs a b\n"
    setup = ('source "${CONDA_EXE%/bin/conda}/etc/profile.d/conda.sh"', "conda activate gs")
    assert run(Environment(setup=setup)).stdout == "gs gs a b\n"
    assert run(Environment(python="/bin/echo")).stdout == "a b\n"
    assert in_environment(["python"], Environment(env={CONDA_ENV: ""})) == ["python"]


def test_conda_may_come_by_a_line_of_the_set_up(conda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONDA_EXE")
    assert run(Environment(setup=(f"export CONDA_EXE='{conda}/bin/conda'",))).stdout == "difix difix a b\n"


@pytest.mark.usefixtures("conda")
def test_a_machine_without_conda_and_an_environment_that_is_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = run(Environment(env={CONDA_ENV: "nobody"}))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "THESIS_CONDA_ENV=nobody cannot be activated" in missing.stderr
    monkeypatch.delenv("CONDA_EXE")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    nowhere = run(Environment())
    assert (nowhere.returncode, nowhere.stdout) == (127, "")
    assert "THESIS_CONDA_ENV=difix, and conda is not found here" in nowhere.stderr
    assert "name the interpreter by python, or unset THESIS_CONDA_ENV" in nowhere.stderr
