"""An experiment that is laid aside: out of everything that names experiments, untouched on disk, and back as it was."""

from collections.abc import Callable

import dagster as dg
import pytest

from thesis_assets.errors import Undeclared
from thesis_assets.graph.cells import Cell
from thesis_assets.operations.registration import plan_registration
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import experiment
from thesis_assets_tests.end_to_end.equal_worlds import stamps
from thesis_assets_tests.worlds import World


@pytest.fixture
def two(data_of_scenes: Callable[[int], World]) -> World:
    """The data of `v1` is made; `v2` has the same scenes and a run of its own."""
    world = data_of_scenes(2)
    world.write(experiment("v2", runs={"other": {"max_train_steps": 10}}))
    return world


def keys(world: World) -> dict[str, set[str]]:
    with world.instance() as instance:
        return {name: {*instance.get_dynamic_partitions(name)} for name in ("exp_name", "scene_name", "run_name")}


def test_an_archived_experiment_is_out_of_everything_and_comes_back_as_it_was(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(monkeypatch, two, "sync").exit_code == 0
    assert invoke(monkeypatch, two, "leaderboard").exit_code == 0
    states, registered = json_of(invoke(monkeypatch, two, "status", "--json")), keys(two)
    base = two.platform.difix(Cell("v1")).base
    before, index = stamps(base), two.settings.reports.index
    assert len(before) > 20
    assert "v1" in index.read_text()
    assert "v1" in two.settings.reports.checks.read_text()

    said = json_of(invoke(monkeypatch, two, "archive", "--exp", "v1", "--json"))
    assert said["keys"] == {"exp_name": ["v1"], "scene_name": [], "run_name": ["r1"]}
    left = keys(two)
    assert left["exp_name"] == registered["exp_name"] - {"v1"}
    assert left["run_name"] == registered["run_name"] - {"r1"}
    assert left["scene_name"] == registered["scene_name"], "another experiment has them"
    assert {row["cell"].partition("|")[0] for row in json_of(invoke(monkeypatch, two, "status", "--json"))} == {"v2"}
    with two.instance() as instance:
        plan = plan_registration(two.platform, instance)
    assert "v1" not in " ".join([*plan.warnings, *plan.cells, *plan.added["exp_name"]])
    assert "v1" not in index.read_text()
    assert "v1" not in two.settings.reports.checks.read_text()
    assert stamps(base) == before
    assert json_of(invoke(monkeypatch, two, "archive", "--json")) == {"archived": ["v1"]}

    refused = invoke(monkeypatch, two, "run", "--exp", "v1", "--dry-run")
    assert isinstance(refused.exception, Undeclared)
    assert "`thesis-assets archive --exp v1 --back`" in str(refused.exception)
    taken = invoke(monkeypatch, two, "experiment", "new", "v1")
    assert "an archived experiment has that name" in str(taken.exception)

    assert invoke(monkeypatch, two, "archive", "--exp", "v1", "--back").exit_code == 0
    assert keys(two) == registered
    assert json_of(invoke(monkeypatch, two, "status", "--json")) == states
    assert stamps(base) == before
    assert "v1" in index.read_text()
    again = invoke(monkeypatch, two, "archive", "--exp", "v1", "--back")
    assert isinstance(again.exception, Undeclared)
    assert "no such experiment in the archive" in str(again.exception)


def test_a_file_of_that_name_is_never_written_over(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = two.platform.experiments
    folder.archive.directory.mkdir()
    folder.archive.path("v1").write_text("an older one\n")
    text = folder.path("v1").read_text()
    for back in ([], ["--back"]):
        refused = invoke(monkeypatch, two, "archive", "--exp", "v1", *back)
        assert "never overwritten" in str(refused.exception)
    assert (folder.path("v1").read_text(), folder.archive.path("v1").read_text()) == (text, "an older one\n")


def test_an_experiment_at_work_is_not_archived(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with two.instance() as instance:
        instance.add_run(
            dg.DagsterRun(
                job_name="tune",
                run_id="00000000-0000-0000-0000-000000000001",
                status=dg.DagsterRunStatus.STARTED,
                asset_selection=frozenset({dg.AssetKey("tuned_checkpoint")}),
                tags={"dagster/partition": "v1|r1"},
            )
        )
    refused = invoke(monkeypatch, two, "archive", "--exp", "v1")
    assert "is being made" in str(refused.exception)
    assert "run 00000000" in str(refused.exception)
    assert two.platform.experiments.path("v1").is_file()
    assert invoke(monkeypatch, two, "archive", "--exp", "v2").exit_code == 0
