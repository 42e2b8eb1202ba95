"""An experiment's file under another name: a fork, so that a frozen snapshot stays and its successor may grow; a shipped example."""

import os
import re
from pathlib import Path

import yaml

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.reading import ExperimentFolder, parse_experiment, parse_yaml, read_experiment
from thesis_assets.experiments.spec import ExperimentSpec
from thesis_assets.layout import check_key


def fork_experiment(path: Path, exp_name: str, folder: Path | None = None) -> ExperimentSpec:
    """Write `<exp_name>.yaml` from an experiment file: its text with only the value of `exp_name` changed, comments kept.

    Args:
        folder: where it is written; beside the file where none is given.

    Raises:
        InvalidKey: the new name may not become a folder.
        InvalidExperiment: the file is not valid, or there is one of the new name (it is never overwritten).
    """
    check_key(exp_name, "exp_name")
    read_experiment(path)
    target = (folder or path.parent) / f"{exp_name}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = _renamed(path, exp_name)
    spec = parse_experiment(text, target)
    try:
        # Not the atomic writer: its rename would replace a file that appeared meanwhile.
        with target.open("x", encoding="utf-8", newline="") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
    except FileExistsError as error:
        raise InvalidExperiment(
            "there is an experiment file of that name already",
            file=target,
            found=exp_name,
            wanted="a name that is not taken",
            remedy="choose another name: an experiment file is never overwritten",
        ) from error
    return spec


def examples() -> ExperimentFolder:
    """The shipped examples, with every key explained. Nobody reads them as experiments: `thesis-assets experiment new` copies one."""
    return ExperimentFolder(Path(__file__).parent / "examples")


def successor_name(exp_name: str) -> str:
    """The name of a fork that nobody named: `v1` is followed by `v1-fork1`, that by `v1-fork2`."""
    base, _, number = exp_name.rpartition("-fork")
    if base and re.fullmatch("[1-9][0-9]*", number):
        return f"{base}-fork{int(number) + 1}"
    return f"{exp_name}-fork1"


def _renamed(path: Path, exp_name: str) -> str:
    with path.open(encoding="utf-8", newline="") as handle:
        text = handle.read()  # as it stands, line ends too
    node = parse_yaml(text, path)[1]
    assert isinstance(node, yaml.MappingNode), "the file was read as an experiment"
    value = next(value for key, value in node.value if key.value == "exp_name")
    return text[: value.start_mark.index] + _as_yaml(exp_name) + text[value.end_mark.index :]


def _as_yaml(exp_name: str) -> str:
    """The name as a YAML string: quoted where the plain word would be read as a number, a date or a truth value."""
    return exp_name if yaml.safe_load(exp_name) == exp_name else f'"{exp_name}"'
