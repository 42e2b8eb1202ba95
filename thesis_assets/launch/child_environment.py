"""The variables that every process which the platform starts is given by its settings: one set for trainers, commands and jobs.

A launcher hands them to its jobs and calls, and what these start inherits them. A variable of the same name that an experiment sets in
its own `env` comes later, and wins. Does not belong here: set-up lines, and which interpreter (`experiments.command_template`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.experiments.command_template import CONDA_ENV
from thesis_assets.layout import CommandTree, hydra_run_dir

HYDRA_ROOT = "THESIS_HYDRA_ROOT_DIR"
"""Below it lies a folder a run of each command of the user's; Hydra itself reads no variable for that."""


def child_variables(
    *, hf_home: Path | None, wandb_dir: Path | None, hydra_root: Path | None, conda_env: str | None
) -> dict[str, str]:
    """What children find in their environment; nothing for what is None. The folder of wandb is made.

    Args:
        hf_home: where the Hub's client keeps what it downloads.
        wandb_dir: where wandb writes its runs; without the folder it would write them to /tmp.
        hydra_root: see `HYDRA_ROOT`.
        conda_env: name or folder of the environment in which the user's commands run.

    Raises:
        ThesisAssetsError: the folder of wandb cannot be made.
    """
    found: dict[str, str] = {}
    if hf_home is not None:
        found |= {"HF_HOME": str(_absolute(hf_home)), **_token_of_the_login()}
    if wandb_dir is not None:
        found["WANDB_DIR"] = str(_made(_absolute(wandb_dir)))
    if hydra_root is not None:
        found[HYDRA_ROOT] = str(_absolute(hydra_root))
    if conda_env is not None:
        found[CONDA_ENV] = conda_env
    return found


def hydra_run_folder(
    command: CommandTree, own: Mapping[str, str], exp_name: str, run_name: str | None, scene_name: str
) -> Path:
    """What a command may give Hydra as `hydra.run.dir`: one folder, however often it is started; beside its logs without a root.

    Args:
        command: where it executes.
        own: variables that its experiment sets.
        run_name: None for a command that renders: it is of no run.
    """
    root = {**os.environ, **own}.get(HYDRA_ROOT)
    folder = hydra_run_dir(_absolute(Path(root)), exp_name, run_name, scene_name) if root else command.hydra_run_dir
    return folder.absolute()


@contextlib.contextmanager
def with_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Have the variables in this process, and in those that it starts, for the length of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ThesisAssetsError(
            "the folder of wandb cannot be made",
            file=folder,
            key="THESIS_WANDB_ROOT_DIR",
            found=error.strerror,
            remedy="correct the setting, or unset it: wandb then writes beside the run",
        ) from error
    return folder


def _token_of_the_login() -> dict[str, str]:
    """Where `hf auth login` left its token: the Hub's client looks for it below HF_HOME, and that is another folder now."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    token = Path(os.environ.get("HF_HOME") or cache / "huggingface") / "token"
    return {"HF_TOKEN_PATH": str(token)} if "HF_TOKEN_PATH" not in os.environ and token.is_file() else {}
