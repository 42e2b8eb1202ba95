"""Writing an experiment's file from another: a fork or a shipped example under a new name, a run derived from a declared one. Comments stay."""

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from thesis_assets.errors import InvalidExperiment, Undeclared
from thesis_assets.experiments.reading import (
    ExperimentFolder,
    parse_experiment,
    parse_yaml,
    read_experiment,
    read_yaml,
    to_yaml,
)
from thesis_assets.experiments.spec import ExperimentSpec
from thesis_assets.experiments.sweeps import SWEEP
from thesis_assets.layout import check_key
from thesis_assets.storage import write_text


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
    laid_aside = ExperimentFolder(target.parent).archive.path(exp_name)
    if laid_aside.exists():
        raise InvalidExperiment(
            "an archived experiment has that name, and its data is there",
            file=laid_aside,
            found=exp_name,
            wanted="a name that is not taken",
            remedy=f"choose another name, or bring that one back: `thesis-assets archive --exp {exp_name} --back`",
        )
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
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(
            ExperimentFolder(path.parent).exclusions(path.stem), ExperimentFolder(target.parent).exclusions(exp_name)
        )
    return spec


def lay_aside(folder: ExperimentFolder, exp_name: str) -> Path:
    """Move an experiment's file to the archive, valid or not. Returns where it is now.

    Raises:
        Undeclared: there is no such file.
        InvalidExperiment: the archive has one of that name.
    """
    if not folder.path(exp_name).is_file():
        folder.read(exp_name)  # says what there is
    return _moved(folder, folder.archive, exp_name)


def bring_back(folder: ExperimentFolder, exp_name: str) -> Path:
    """The way back.

    Raises:
        Undeclared: the archive has no such file.
        InvalidExperiment: there is an experiment of that name again.
    """
    if not folder.archive.path(exp_name).is_file():
        raise Undeclared(
            "there is no such experiment in the archive",
            file=folder.archive.directory,
            found=exp_name,
            wanted=", ".join(folder.archive.names()) or "at least one experiment file",
            remedy="`thesis-assets archive` lists what is there",
        )
    return _moved(folder.archive, folder, exp_name)


def _moved(folder: ExperimentFolder, other: ExperimentFolder, exp_name: str) -> Path:
    path, target = folder.path(exp_name), other.path(exp_name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise InvalidExperiment(
            "there is an experiment file of that name already",
            file=target,
            found=path,
            wanted="a name that is not taken",
            remedy="rename or remove one of the two: an experiment file is never overwritten",
        )
    with contextlib.suppress(FileNotFoundError):
        folder.exclusions(exp_name).rename(other.exclusions(exp_name))
    path.rename(target)
    return target


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
    # Quoted where the plain word would be read as a number, a date or a truth value.
    written = to_yaml(exp_name).splitlines()[0]
    return text[: value.start_mark.index] + written + text[value.end_mark.index :]


_CHANGE = re.compile(r"runs\.([A-Za-z0-9][A-Za-z0-9._-]*?)\.([a-z_][a-z0-9_.]*)=(.*)", re.DOTALL)


def declare_derived_runs(folder: ExperimentFolder, exp_name: str, changes: Sequence[str]) -> list[str]:
    """Declare in an experiment's file, for every run that `runs.<run>.<key>=<value>` names, a new run with those keys changed.

    A declared run is never changed: its checkpoints were made with what the file said. The new name says what differs
    (`tiny_a-learning_rate-0.001`); deriving the same again finds it declared. Returns the new runs' names.

    Raises:
        InvalidExperiment: a change has another form, names no declared run, or makes the file invalid (which then stays as
            it was).
    """
    path, spec = folder.path(exp_name), folder.read(exp_name)
    by_run: dict[str, dict[str, str]] = {}
    for change in changes:
        match = _CHANGE.fullmatch(change)
        if not match:
            raise InvalidExperiment(
                "not a change of a run", key="--set", found=change, wanted="runs.<run>.<key>=<value>"
            )
        run, key, value = match.groups()
        if run not in spec.runs:
            points = spec.sweeps.runs_of(run)
            raise InvalidExperiment(
                "this is a sweep, and no run to derive from" if points else "there is no such run to derive from",
                file=path,
                key="--set",
                found=run,
                wanted=", ".join(points or spec.runs),
                remedy="name one of its points, or change the sweep in the file" if points else None,
            )
        by_run.setdefault(run, {})[key] = value
    names = []
    for run, keys in by_run.items():
        suffix = "-".join(f"{key}-{value}" for key, value in sorted(keys.items()))
        name = check_key(re.sub(r"[^A-Za-z0-9._-]", "_", f"{run}-{suffix}").replace("..", "_"), "run_name")
        names.append(name)
        if name not in read_experiment(path).runs:
            _insert_run(path, spec, run, name, keys)
    return names


def _insert_run(path: Path, spec: ExperimentSpec, source: str, name: str, keys: dict[str, str]) -> None:
    value, node = read_yaml(path)
    assert isinstance(value, dict)
    assert isinstance(node, yaml.MappingNode)
    runs = next(child for key, child in node.value if key.value == "runs")
    if runs.flow_style:
        raise InvalidExperiment(
            "a run cannot be added to `runs` in braces",
            file=path,
            key="runs",
            remedy="write `runs` as an indented block",
        )
    point = spec.sweeps.points.get(source)
    own = {key: each for key, each in value["runs"][point.sweep if point else source].items() if key != SWEEP}
    derived = {**own, **(point.values if point else {})}
    for dotted, text in keys.items():
        target = derived
        *folders, last = dotted.split(".")
        for folder in folders:
            target[folder] = dict(target.get(folder) or {})
            target = target[folder]
        target[last] = parse_yaml(text, path)[0]
    indent = " " * runs.value[0][0].start_mark.column
    block = to_yaml({name: derived})
    before = path.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    # The last line of the block that is not blank or a comment: the block's end mark stands before the next key.
    last_line = min(runs.end_mark.line, len(lines)) - 1
    while not lines[last_line].strip() or lines[last_line].lstrip().startswith("#"):
        last_line -= 1
    added = [f"{indent}# derived from {source}\n", *(indent + line + "\n" for line in block.splitlines())]
    if not lines[last_line].endswith("\n"):
        lines[last_line] += "\n"
    write_text(path, "".join([*lines[: last_line + 1], *added, *lines[last_line + 1 :]]))
    try:
        read_experiment(path)
    except InvalidExperiment:
        write_text(path, before)
        raise
