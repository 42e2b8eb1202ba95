"""The two files that an adoption writes for a person to keep: `.env`, and an experiment file a snapshot or evaluated tree.

Neither overwrites what is there: a value in `.env` stays, an experiment of another text gets another name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from thesis_assets import storage
from thesis_assets.adoption.findings import Complaint
from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.reading import parse_experiment, read_yaml

_HEADER = "# Adopted from {origin}: written once, yours to change.\n"


def environment_text(path: Path, settings: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The text of `.env` with the missing settings added, and those that it has with another value (they stay).

    Returns:
        The whole new text (as it is, where nothing is missing), and name to the value that is there.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    present = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#")
    )
    present = {name.strip().removeprefix("export "): value.strip().strip("'\"") for name, value in present.items()}
    missing = {name: value for name, value in settings.items() if name not in present}
    other = {name: present[name] for name, value in settings.items() if name in present and present[name] != value}
    if not missing:
        return text, other
    lines = [f"{name}={_quoted(value)}" for name, value in missing.items()]
    start = text if not text or text.endswith("\n") else text + "\n"
    return start + "\n".join(lines) + "\n", other


def _quoted(value: str) -> str:
    plain = all(char.isalnum() or char in "/._-:{}~+@," for char in value)
    return value if plain else "'" + value.replace("'", "\\'") + "'"


def experiment_text(value: Mapping[str, Any], origin: Path, complaints: Sequence[Complaint]) -> str:
    """The text of an experiment file: where it comes from, what was found wrong, and the keys that are not defaults."""
    notes = "".join(f"# - {' '.join(str(complaint).split())}\n" for complaint in complaints)
    found = f"# What was found wrong:\n{notes}" if notes else ""
    body = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return _HEADER.format(origin=origin) + found + body


def write_experiment(folder: Path, text: str, exp_name: str) -> Path:
    """Write the file where there is none of that name; one that is there has the same keys (`free_name`) and stays.

    Raises:
        InvalidExperiment: the text is no valid experiment.
    """
    path = folder / f"{exp_name}.yaml"
    parse_experiment(text, path)
    if not path.is_file():
        storage.write_text(path, text)
    return path


def free_name(folder: Path, wanted: str, value: Mapping[str, Any], is_free: Callable[[str], bool]) -> str:
    """The name itself, or where another experiment has it `<name>-adopted`, `<name>-adopted2`, ...

    Args:
        is_free: whether data may be written under a name.
    """
    number = 0
    while True:
        name = wanted if number == 0 else f"{wanted}-adopted{number if number > 1 else ''}"
        path = folder / f"{name}.yaml"
        same = not path.is_file() or _value(path) == {"exp_name": name, **value}
        if same and is_free(name):
            return name
        number += 1


def _value(path: Path) -> object:
    try:
        return read_yaml(path)[0]
    except InvalidExperiment:  # a file that cannot be read is another's all the same
        return None
