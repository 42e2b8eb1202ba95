"""What commands say of what is declared and not made yet: of what, and the whole command that makes it."""

from collections.abc import Callable

import dagster as dg
import pytest

from thesis_assets.cli.console import dagster_instance
from thesis_assets.recordings import checks
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.worlds import World

CELL = ("--exp", "small", "--run", "r1")
SCENE = "studio_pair03_dance"
MAKES_IT = "`thesis-assets run --exp small --run r1`"


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    """One experiment with a run, evaluated on one scene that it names; nothing is made."""
    return new_world()


def test_the_leaderboard_of_a_run_names_it_and_its_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in (CELL, ("--run", "r1")):
        done = invoke(monkeypatch, world, "leaderboard", *options)
        assert done.exit_code == 0
        assert f"nothing of r1 is evaluated yet; next: {MAKES_IT}" in done.output


def test_checks_name_what_they_would_look_at_and_its_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, world, "checks", "run", *CELL, "nvs")
    assert done.exit_code == 1
    assert "nvs of small|r1: not made yet" in done.output
    assert MAKES_IT in done.output


def test_recordings_that_are_not_there_are_asked_for_with_a_whole_command(
    world: World, finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = str(invoke(monkeypatch, world, "rerun", "open", *CELL).exception)
    assert f"remedy: {MAKES_IT} makes them" in said
    monkeypatch.setattr(checks, "recordings_of", lambda tree: [])
    said = str(invoke(monkeypatch, finished_world, "rerun", "open", *CELL, "--scene", SCENE).exception)
    assert f"`thesis-assets rerun export-all --exp small --run r1 --scene {SCENE}`" in said


def test_a_lineage_says_once_that_a_file_is_missing_and_what_makes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = invoke(monkeypatch, world, "lineage", f"small/r1/{SCENE}")
    assert done.exit_code == 3
    assert "the file is missing: /" in " ".join(done.output.split())
    assert "missing file:" not in " ".join(done.output.split())
    assert "the chain breaks in one place" in done.output
    assert f"next: {MAKES_IT}, for what is missing" in done.output


def test_failed_and_warning_checks_are_counted_where_one_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke(monkeypatch, world, "sync")
    assert "blocking check" not in invoke(monkeypatch, world, "status").output

    def report(check: str, *, blocks: bool) -> None:
        severity = dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN
        with dagster_instance(world.settings) as instance:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey("sample_set"),
                    check_name=check,
                    passed=False,
                    metadata={},
                    severity=severity,
                    blocking=blocks,
                    partition="small",
                )
            )

    report("dropped_share_below", blocks=False)
    assert "blocking check" not in invoke(monkeypatch, world, "status").output
    page = invoke(monkeypatch, world, "checks", "report")
    assert "1 checks, 0 failed, 1 warnings" in page.output
    assert "to mend it" not in page.output, "an empty table"

    report("every_sample_complete", blocks=True)
    for options in ((), ("--exp", "small")):
        last = invoke(monkeypatch, world, "status", *options).output.splitlines()[-1]
        assert last == "1 blocking check failed: `thesis-assets checks report --open`"
    assert invoke(monkeypatch, world, "checks", "report").exit_code == 3
