"""The command line in this process: a second saved at each call. What an exit code or a traceback is, is left to `worlds`."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from thesis_assets.cli.main import app
from thesis_assets_tests.worlds import World


def invoke(monkeypatch: pytest.MonkeyPatch, world: World, *arguments: str, **environment: str) -> Result:
    """One command with the world's settings."""
    world.home.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(world.home)
    for name, value in {**world.environment, **environment}.items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(app, list(arguments))


def json_of(result: Result) -> Any:
    """The JSON value that a command printed."""
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)
