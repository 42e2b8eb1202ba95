from pathlib import Path

import pytest

from thesis_assets.errors import InvalidExperiment, InvalidKey
from thesis_assets.experiments.reading import read_experiment
from thesis_assets.experiments.writing import fork_experiment, successor_name

TEXT = """\
# The first try; exp_name: v1 stands below.
description: about v1
exp_name: v1  # the name, and v1 once more
generation:
  scenes: ["hi4d_*"]  # all pairs
split: {train_only: true}
"""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "v1.yaml"
    path.write_text(TEXT)
    return path


def test_a_fork_is_the_same_text_under_another_name(first: Path) -> None:
    spec = fork_experiment(first, "v2")
    forked = first.with_name("v2.yaml")
    assert forked.read_text() == TEXT.replace("exp_name: v1  #", "exp_name: v2  #")
    assert read_experiment(forked) == spec == read_experiment(first).model_copy(update={"exp_name": "v2"})
    assert first.read_text() == TEXT


@pytest.mark.parametrize("name", ["2026", "1e3", "true", "2026-01-02", "v2.1"])
def test_a_name_that_yaml_would_read_as_something_else_is_quoted(first: Path, name: str) -> None:
    assert fork_experiment(first, name).exp_name == name
    assert read_experiment(first.with_name(f"{name}.yaml")).exp_name == name


@pytest.mark.parametrize("head", ['exp_name: "v1"', "'exp_name': 'v1'", "\ufeffexp_name: v1"])
def test_quotes_line_ends_and_byte_order_marks_are_no_obstacle(first: Path, head: str) -> None:
    rest = "\r\ngeneration: {scenes: [a_b]}\r\nsplit: {train_only: true}\r\n"
    first.write_bytes((head + rest).encode())
    fork_experiment(first, "v2")
    forked = first.with_name("v2.yaml").read_bytes().decode()
    assert forked.endswith(rest)
    assert "v1" not in forked


def test_a_file_that_is_there_is_never_overwritten(first: Path) -> None:
    other = first.with_name("v2.yaml")
    other.write_text("precious")
    with pytest.raises(InvalidExperiment, match="of that name already"):
        fork_experiment(first, "v2")
    assert other.read_text() == "precious"
    with pytest.raises(InvalidExperiment, match="of that name already"):
        fork_experiment(first, "v1")
    assert first.read_text() == TEXT


def test_a_bad_name_or_a_bad_file_writes_nothing(first: Path) -> None:
    with pytest.raises(InvalidKey):
        fork_experiment(first, "../v2")
    first.write_text(TEXT + "unknown: 1\n")
    with pytest.raises(InvalidExperiment, match="not valid"):
        fork_experiment(first, "v2")
    assert [path.name for path in first.parent.iterdir()] == ["v1.yaml"]


@pytest.mark.parametrize(
    ("name", "following"),
    [("v1", "v1-fork1"), ("v1-fork1", "v1-fork2"), ("v1-fork9", "v1-fork10"), ("my-fork", "my-fork-fork1")],
)
def test_a_fork_that_nobody_named_counts_on(name: str, following: str) -> None:
    assert successor_name(name) == following
