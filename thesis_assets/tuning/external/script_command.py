"""The command line of the user's script: its environment, the launcher, and of our settings the flags that it knows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.spec import External
from thesis_assets.tuning.cores import available_cores, threads_per_process
from thesis_assets.tuning.external.start import SCRIPT_FLAGS
from thesis_assets.tuning.launch_command import launcher_words

HELP_SECONDS = 600.0
"""Imports of torch and wandb from a busy network file system take minutes."""
MODEL_FLAGS = ("base_model_id", "pretrained_model_name_or_path")


def in_environment(external: External, words: Sequence[str]) -> list[str]:
    """`words` by the script's interpreter, after the set-up lines, in the same bash; the first line that fails ends it."""
    # What points this interpreter at its own packages would point the script's at them too.
    ours = [name for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV") if name not in external.env]
    clean = ["env", *(word for name in ours for word in ("-u", name))]
    command = [external.python, *words]
    if not external.setup:
        return [*clean, *command]
    return [*clean, "bash", "-c", "\n".join(["set -e", *external.setup, 'exec "$@"']), "bash", *command]


def working_directory(external: External) -> Path | None:
    """Where the script runs; None: where the job does."""
    return Path(external.cwd).expanduser() if external.cwd is not None else None


def known_flags(external: External, env: Mapping[str, str]) -> set[str]:
    """The flags that the script's `--help` lists.

    Raises:
        InvalidFile: it cannot be asked; the message has the end of what it said.
    """
    command = in_environment(external, [external.script, "--help"])
    try:
        told = subprocess.run(
            command,
            cwd=working_directory(external),
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HELP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_help(external, str(error)) from error
    flags = set(re.findall(r"(?<![\w-])--([A-Za-z][\w-]*)", told.stdout)) - {"help"}
    if told.returncode != 0 or not flags:
        raise _no_help(
            external, f"status {told.returncode}\n" + "\n".join((told.stdout + told.stderr).splitlines()[-25:])
        )
    return flags


def _no_help(external: External, found: str) -> InvalidFile:
    return InvalidFile(
        "the trainer script does not say which flags it takes",
        file=external.script,
        key="runs.<run_name>.external",
        found=found,
        wanted="`--help` with status 0: so it is found out which of the published flags this copy has",
        remedy="correct external.python, setup or cwd, until the script starts there; the published one needs a data loader of "
        "your own",
    )


def script_command(
    external: External, settings: Mapping[str, Any], known: Collection[str], *, device: str, resume: Path | None
) -> tuple[list[str], list[str]]:
    """The whole command, and a note for each setting that the script has no flag for.

    Args:
        device: `cpu`, `cuda` or `cuda:<number>`.
        resume: the checkpoint to go on from.
    """
    wanted = {name: settings[name] for name in SCRIPT_FLAGS}
    # One of the two names is enough; a copy that lists both takes the published one.
    spare = MODEL_FLAGS[1] if MODEL_FLAGS[0] in known or MODEL_FLAGS[1] not in known else MODEL_FLAGS[0]
    del wanted[spare]
    wanted["dataloader_num_workers"] = min(wanted["dataloader_num_workers"], max(0, available_cores() - 1))
    if resume is not None:
        wanted["resume"] = str(resume)
    notes = [
        f"{name} = {value}: the script has no such flag"
        for name, value in wanted.items()
        if name not in known and value not in (None, False)
    ]
    flags = [word for name, value in wanted.items() if name in known for word in _words(name, value)]
    launcher = launcher_words(device, settings["num_processes"], settings["mixed_precision"])
    words = ["-m", *launcher, external.script, *flags, *settings["extra_args"]]
    return in_environment(external, words), notes


def _words(name: str, value: object) -> list[str]:
    if value is None or value is False:
        return []
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


def script_environment(external: External, tracker: str, processes: int) -> dict[str, str]:
    """The variables that the script has beside those of the job; the user's own win.

    Args:
        tracker: the run's.
        processes: that train side by side; each has its share of the cores here.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(threads_per_process(processes)))
    # It imports wandb and logs to it in any case.
    quiet = {} if tracker == "wandb" else {"WANDB_MODE": "disabled"}
    return {**quiet, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads, **external.env}
