"""Deriving a run from a declared one: written into the experiment's file beside it, which keeps its comments."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.reading import read_experiment, read_yaml
from thesis_assets.layout import check_key
from thesis_assets.storage import write_text

_CHANGE = re.compile(r"runs\.([A-Za-z0-9][A-Za-z0-9._-]*?)\.([a-z_][a-z0-9_.]*)=(.*)", re.DOTALL)


def declare_derived_runs(path: Path, changes: Sequence[str]) -> list[str]:
    """Declare, for every run that `runs.<run>.<key>=<value>` names, a new run with those keys changed.

    A declared run is never changed: its checkpoints were made with what the file said. The new name says what differs
    (`tiny_a-learning_rate-0.001`); deriving the same again finds it declared. Returns the new runs' names.

    Raises:
        InvalidExperiment: a change has another form, names no declared run, or makes the file invalid (which then stays as
            it was).
    """
    spec = read_experiment(path)
    by_run: dict[str, dict[str, str]] = {}
    for change in changes:
        match = _CHANGE.fullmatch(change)
        if not match:
            raise InvalidExperiment(
                "not a change of a run", key="--set", found=change, wanted="runs.<run>.<key>=<value>"
            )
        run, key, value = match.groups()
        if run not in spec.runs:
            raise InvalidExperiment(
                "there is no such run to derive from", file=path, key="--set", found=run, wanted=", ".join(spec.runs)
            )
        by_run.setdefault(run, {})[key] = value
    names = []
    for run, keys in by_run.items():
        suffix = "-".join(f"{key}-{value}" for key, value in sorted(keys.items()))
        name = check_key(re.sub(r"[^A-Za-z0-9._-]", "_", f"{run}-{suffix}").replace("..", "_"), "run_name")
        names.append(name)
        if name not in read_experiment(path).runs:
            _insert_run(path, run, name, keys)
    return names


def _insert_run(path: Path, source: str, name: str, keys: dict[str, str]) -> None:
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
    derived = dict(value["runs"][source])
    for dotted, text in keys.items():
        target = derived
        *folders, last = dotted.split(".")
        for folder in folders:
            target[folder] = dict(target.get(folder) or {})
            target = target[folder]
        target[last] = yaml.safe_load(text)
    indent = " " * runs.value[0][0].start_mark.column
    block = yaml.safe_dump({name: derived}, sort_keys=False, allow_unicode=True)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    last_line = _last_content_line(lines, runs)
    added = [f"{indent}# derived from {source}\n", *(indent + line + "\n" for line in block.splitlines())]
    if not lines[last_line].endswith("\n"):
        lines[last_line] += "\n"
    _write_valid(path, "".join([*lines[: last_line + 1], *added, *lines[last_line + 1 :]]))


def _last_content_line(lines: list[str], runs: yaml.MappingNode) -> int:
    """The last line of the block that is not blank or a comment: the block's end mark stands before the next key."""
    line = min(runs.end_mark.line, len(lines)) - 1
    while not lines[line].strip() or lines[line].lstrip().startswith("#"):
        line -= 1
    return line


def _write_valid(path: Path, text: str) -> None:
    before = path.read_text(encoding="utf-8")
    write_text(path, text)
    try:
        read_experiment(path)
    except InvalidExperiment:
        write_text(path, before)
        raise
