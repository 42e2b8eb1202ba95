"""A name that nobody declared, given to a command: wrong use, with the names that there are."""

import sys
from collections.abc import Callable

import pytest

from thesis_assets.cli.main import main
from thesis_assets_tests.worlds import World


@pytest.fixture
def given(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """A command in this process as the shell has it: its exit code, and what it says on standard error."""
    world = new_world()
    world.home.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(world.home)
    for name, value in {**world.environment, "OMP_WAIT_POLICY": "PASSIVE"}.items():
        monkeypatch.setenv(name, value)

    def give(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["thesis-assets", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(str(ended.value.code or 0)), " ".join(capsys.readouterr().err.split())

    return give


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "status",
        "freeze",
        "fork --as other",
        "set-aside",
        "prune",
        "leaderboard",
        "compare --run r1",
        "lineage",
        "rerun open --run r1",
        "checks run",
        "checks samples",
        "backfill --missing",
        "checkpoint verify --run r1",
    ],
)
def test_an_experiment_that_is_not_declared_is_wrong_use_and_near_names_are_named(
    given: Callable[..., tuple[int, str]], command: str
) -> None:
    words = command.split()
    code, said = given(*words, *(["smlal"] if command == "lineage" else ["--exp", "smlal"]))
    assert code == 2
    assert "near: small" in said
    assert "thesis-assets experiment new smlal" in said


@pytest.mark.parametrize(
    "command",
    [
        "run --exp small",
        "leaderboard --exp small",
        "leaderboard",
        "compare --exp small",
        "rerun open --exp small",
        "rerun export-all --exp small",
        "checks run --exp small",
        "backfill --missing --exp small",
        "prune --exp small",
        "checkpoint verify --exp small",
        "publish --exp small --dry-run --repo a/b",
    ],
)
def test_a_run_that_is_not_declared_is_wrong_use_and_the_declared_ones_are_named(
    given: Callable[..., tuple[int, str]], command: str
) -> None:
    code, said = given(*command.split(), "--run", "r9")
    assert code == 2
    assert "found: r9 wanted: r1" in said.replace("small/", "")


@pytest.mark.parametrize(
    ("command", "near"),
    [
        ("run --exp small --until difix_dat", "near: difix_data"),
        ("checks run --exp small nsv", "near: nvs"),
        ("checks run --exp small every_sample_complet", "near: every_sample_complete"),
        ("checks run --exp small scene_samples", "no checks of its own; those of what is made from it: sample_set"),
        ("compare --exp small --run r1 --against r9", "wanted: r1"),
    ],
)
def test_a_mistyped_asset_or_check_is_wrong_use_and_few_near_names_are_named(
    given: Callable[..., tuple[int, str]], command: str, near: str
) -> None:
    code, said = given(*command.split())
    assert code == 2
    assert near in said
    assert said.count(", ") < 6
