"""Every check has a command that mends it, and every such command is one that the command line understands."""

import shlex
from typing import Any

import dagster as dg
import pytest
from typer.main import get_command

from thesis_assets.cli.main import app
from thesis_assets.graph.check_history import MEND
from thesis_assets.graph.checks import CHECKS, remedy_of
from thesis_assets.graph.nodes import NODES
from thesis_assets.operations.check_outcomes import result_of
from thesis_assets.schemas.checks import CheckOutcome

EVERY = [(asset, name) for asset, checks in CHECKS.items() for name in checks]


def key_of(asset: str) -> str:
    return "v1" if NODES[asset].kind == "exp" else "v1|r1"


def parsed(command: str) -> dict[str, Any]:
    """What the last command of the words would be called with, as the command line reads it; nothing is called."""
    program, *words = shlex.split(command)
    assert program == "thesis-assets"
    found: Any = get_command(app)
    while commands := getattr(found, "commands", None):
        name = words.pop(0) if words else ""
        assert name in commands, f"{command}: there is no command {name}"
        found = commands[name]
    return dict(found.make_context("thesis-assets", words).params)


@pytest.mark.parametrize(("asset", "name"), EVERY)
def test_a_failed_check_says_what_mends_it_in_its_own_partition(asset: str, name: str) -> None:
    remedy = remedy_of(asset, name, key_of(asset))
    assert remedy.commands
    assert "{" not in str(remedy)
    for command in remedy.commands:
        options = parsed(command)
        assert options["exp"] == "v1"
        run = options.get("run", (options.get("run_names") or [None])[0])
        assert run in ((None,) if NODES[asset].kind == "exp" else ("r1", None)), "a run that is not the partition's"
        if run is None and NODES[asset].kind == "exp_by_run":
            assert "runs.r1." in command


def test_a_word_that_the_command_line_does_not_know_is_seen() -> None:
    with pytest.raises(AssertionError, match="there is no command mend"):
        parsed("thesis-assets mend --exp v1")
    with pytest.raises(Exception, match="No such option: --really"):
        parsed("thesis-assets run --exp v1 --really")


def test_the_result_in_the_ui_has_the_remedy_where_it_failed_and_not_where_it_passed() -> None:
    asset, name = "nvs", "nvs_required_files"
    failed = result_of(asset, name, CheckOutcome(passed=False, message="missing"), "v1|r1")
    assert failed.metadata[MEND] == dg.MetadataValue.text("`thesis-assets run --exp v1 --run r1`")
    assert MEND not in result_of(asset, name, CheckOutcome(passed=True, message="there"), "v1|r1").metadata
