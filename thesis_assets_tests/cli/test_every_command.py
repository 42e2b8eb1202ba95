"""What holds for every command: JSON on request, help in words, code 2 for wrong use, no question."""

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from thesis_assets.cli import main
from thesis_assets.cli.main import app
from thesis_assets_tests.defs.sensor_ticks import tiny_world
from thesis_assets_tests.worlds import thesis_assets

STAY_OPEN = {"ui", "serve", "rerun open", "rerun catalog"}
"""Servers and viewers: what they would print as JSON never comes to an end."""


def commands() -> Iterator[tuple[str, click.Command]]:
    def below(command: object, name: str) -> Iterator[tuple[str, click.Command]]:
        if hasattr(command, "commands"):
            for word, inner in command.commands.items():
                yield from below(inner, f"{name} {word}".strip())
        else:
            yield name, command  # type: ignore[misc]

    yield from below(typer.main.get_command(app), "")


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_and_prints_json_on_request(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip()
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options or name in STAY_OPEN
    for parameter in command.params:
        assert not getattr(parameter, "prompt", None), f"{name} asks for {parameter.name}"


@pytest.mark.parametrize("name", ["", *COMMANDS, *sorted({name.rpartition(" ")[0] for name in COMMANDS} - {""})])
def test_help_is_printed_whole(name: str) -> None:
    """`lineage --help` ended in a traceback: its `[/<task>]` was read as a closing tag."""
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0, result.exception
    command = COMMANDS.get(name)
    words = " ".join(result.output.split())
    for text in [command.help, *(getattr(each, "help", "") for each in command.params)] if command else []:
        assert " ".join((text or "").split()) in words


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_is_not_there_is_wrong_use(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--no-such-option"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_no_command_waits_for_an_answer() -> None:
    questions = {"input", "confirm", "prompt", "getpass"}
    found = [
        f"{path.name}:{node.lineno}"
        for path in Path(main.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in questions
    ]
    assert found == []


def test_a_command_says_nothing_of_the_libraries_below_it(tmp_path: Path) -> None:
    """Loading the definitions warned 60 times of what Dagster may still change."""
    world = tiny_world(tmp_path)
    world.home.mkdir()
    done = thesis_assets(world, "sync")
    assert done.returncode == 0
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("group", sorted({name.rpartition(" ")[0] for name in COMMANDS}))
def test_the_list_of_commands_has_whole_sentences(group: str) -> None:
    listed = CliRunner().invoke(app, [*group.split(), "--help"], env={"COLUMNS": "80"}).output
    assert "..." not in listed.partition("Commands:")[2]
