"""Planning and making the runs of a level: neighbours share a run, undeclared cells are left out, checks are made alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest

from thesis_assets.definitions import build_defs
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.history import RANGE_END, RANGE_START
from thesis_assets.graph.nodes import NODES, data_version
from thesis_assets.graph.states import Plan
from thesis_assets.operations.execution import CODE_LOCATION, contiguous, levels_until, make_checks, make_run
from thesis_assets.operations.failures import failure_reason
from thesis_assets.provenance import read_record
from thesis_assets_tests.worlds import SCENES, SMALL, World

BACKFILL = {"dagster/backfill": "abcdefgh"}


def test_neighbouring_scenes_share_a_run_and_a_gap_makes_two() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("exp_name", ["v1", "v2"])
        instance.add_dynamic_partitions("scene_name", ["d_a", "d_b", "d_c", "d_d"])
        wanted = [Cell("v1", scene_name=name) for name in ("d_d", "d_a", "d_b")]
        groups = [[cell.scene_name for cell in group] for group in contiguous(instance, wanted)]
    assert groups == [["d_a", "d_b"], ["d_d"]]


def test_until_stops_at_the_level_of_its_asset() -> None:
    assert [level.job for level in levels_until("sample_set")][-1] == "prepare_data"
    with pytest.raises(KeyError):
        levels_until("nothing")


class Maker:
    """Makes runs of one world, in this process."""

    def __init__(self, world: World, instance: dg.DagsterInstance) -> None:
        self.world, self.instance = world, instance
        self.definitions = build_defs(settings=world.settings)

    def make(
        self, job: str, assets: Sequence[str], tags: Mapping[str, str], key: str | None = None
    ) -> tuple[bool, str]:
        """Whether the run succeeded, and why not."""
        keys = [dg.AssetKey(asset) for asset in assets]
        result = make_run(
            self.instance, self.definitions.resolve_job_def(job), partition_key=key, tags=tags, assets=keys
        )
        return result.success, " ".join(failure_reason(event) for event in result.get_step_failure_events())

    def made(self, asset: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> Iterator[Maker]:
    """`small` declares the first and the third of four scenes, `all` each of them; so all their keys are registered."""
    world = World(tmp_path_factory.mktemp("levels") / "home", scene_home)
    named = {"generation": {"scenes": [SCENES[0], SCENES[2]]}, "split": {"test_groups": {"studio": ["pair02"]}}}
    world.write(SMALL | named)
    world.write(SMALL | {"exp_name": "all"})
    with world.instance() as instance:
        instance.add_dynamic_partitions("run_name", ["r9"])
        yield Maker(world, instance)


def test_a_range_with_undeclared_cells_in_its_middle_makes_the_declared_ones(maker: Maker) -> None:
    ends = {RANGE_START: f"small|{SCENES[0]}", RANGE_END: f"small|{SCENES[3]}"}
    assert maker.make("export_scenes", ["scene_samples"], ends) == (True, "")
    assert maker.made("scene_samples") == {f"small|{SCENES[0]}", f"small|{SCENES[2]}"}
    for scene in (SCENES[0], SCENES[2]):
        assert (
            Plan(maker.world.platform, maker.instance).state("scene_samples", Cell("small", scene_name=scene)).state
            == "made"
        )


def test_every_cell_of_a_range_tells_dagster_its_own_data_version(maker: Maker) -> None:
    ends = {RANGE_START: f"all|{SCENES[0]}", RANGE_END: f"all|{SCENES[1]}"}
    assert maker.make("export_scenes", ["scene_samples"], ends) == (True, "")
    for scene in SCENES[:2]:
        of_cell = dg.AssetRecordsFilter(dg.AssetKey("scene_samples"), asset_partitions=[f"all|{scene}"])
        event = maker.instance.fetch_materializations(of_cell, limit=1).records[0].asset_materialization
        record = read_record(NODES["scene_samples"].units(maker.world.platform, Cell("all", scene_name=scene))[0].place)
        assert event is not None
        assert record is not None
        assert event.tags["dagster/data_version"] == data_version([record])
        assert event.tags["dagster/code_version"]


def test_undeclared_cells_of_a_backfill_are_skipped_and_asked_for_alone_they_fail(maker: Maker) -> None:
    scene, tuning = f"small|{SCENES[1]}", ["tuned_checkpoint", "selected_checkpoint"]
    assert maker.make("export_scenes", ["scene_samples"], BACKFILL, scene) == (True, "")
    assert maker.make("tune", tuning, BACKFILL, "small|r9") == (True, "")
    assert maker.make("nvs_checks", [], BACKFILL, "small|r9") == (True, "")
    assert scene not in maker.made("scene_samples")
    assert maker.made("tuned_checkpoint") == set()
    succeeded, reason = maker.make("export_scenes", ["scene_samples"], {}, scene)
    assert not succeeded
    assert f"wanted: {SCENES[0]}, {SCENES[2]}" in reason
    succeeded, reason = maker.make("tune", tuning, {}, "small|r9")
    assert not succeeded
    assert "wanted: r1" in reason


def test_checks_started_without_a_partition_name_the_job_and_the_command(maker: Maker) -> None:
    succeeded, reason = maker.make("nvs_checks", [], {})
    assert not succeeded
    assert "the job `nvs_checks`" in reason
    assert "`thesis-assets checks run --exp <name> --run <name> nvs`" in reason


def test_checks_of_one_partition_are_made_alone_as_a_run_of_their_job(maker: Maker) -> None:
    result = make_checks(maker.definitions, maker.instance, "sample_set", Cell("small"), ["every_sample_complete"])
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.partition, evaluation.passed) == ("every_sample_complete", "small", False)
    assert result.dagster_run.job_name == "sample_set_checks"
    assert maker.made("sample_set") == set()


def test_a_run_of_the_command_line_names_the_code_location_that_the_web_server_loads(maker: Maker) -> None:
    assert maker.make("observe_scenes", ["scene_catalog"], {})[0]
    (run,) = maker.instance.get_runs(limit=1)
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == CODE_LOCATION  # as `-m` names what it loads
    # A daemon does not start it again when its process is lost: its command is the person's to give again.
    assert run.tags["dagster/max_retries"] == "0"
