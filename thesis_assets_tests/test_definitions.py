"""What the UI shows at every asset: owners, tags, where its body stands, the page that explains it; what follows by itself."""

from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from thesis_assets.definitions import build_defs
from thesis_assets.graph.nodes import GPU_ASSETS, NODES, SCENE_FILES
from thesis_assets.settings import Settings

GRAPH = build_defs(settings=Settings(_env_file=None, owners="team:bodies, someone@example.org")).resolve_asset_graph()


@pytest.mark.parametrize("asset", [SCENE_FILES, *NODES])
def test_an_asset_says_who_owns_it_what_it_costs_and_where_its_body_stands(asset: str) -> None:
    node = GRAPH.get(dg.AssetKey(asset))
    assert node.owners == ["team:bodies", "someone@example.org"]
    assert node.description
    assert node.kinds
    assert node.tags["compute"] == ("gpu" if asset in GPU_ASSETS else "cpu")
    body, *pages = node.metadata["dagster/code_references"].code_references
    lines = Path(body.file_path).read_text().splitlines()
    assert any(f"def {asset}(" in line for line in lines[body.line_number - 1 : body.line_number + 12])
    assert all(Path(page.file_path).is_file() for page in pages)


def test_nothing_that_needs_a_gpu_starts_by_itself() -> None:
    by_themselves = {key.to_user_string() for key in GRAPH.get_all_asset_keys() if GRAPH.get(key).automation_condition}
    assert by_themselves == {
        *("scene_catalog", "sample_set", "split_manifests", "difix_data"),
        *("evaluation_manifest", "leaderboard", "check_report"),
    }
    assert not by_themselves & GPU_ASSETS


@pytest.mark.parametrize("owner", ["bodies", "team:", "a b@c.org", "x@y"])
def test_an_owner_that_the_ui_cannot_show_is_refused_with_its_variable(owner: str) -> None:
    with pytest.raises(ValidationError, match="THESIS_OWNERS"):
        Settings(_env_file=None, owners=owner)


@pytest.mark.parametrize(("auto_start", "on"), [("nothing", False), ("data", True), ("everything", True)])
def test_sensors_that_start_work_are_off_where_nothing_is_to_start(auto_start: str, on: bool) -> None:
    repository = build_defs(settings=Settings(_env_file=None, auto_start=auto_start)).get_repository_def()  # type: ignore[arg-type]
    running = {
        sensor.name for sensor in repository.sensor_defs if sensor.default_status == dg.DefaultSensorStatus.RUNNING
    }
    assert {"experiment_files", "lost_runs", "failed_runs"} <= running
    assert ({"new_scenes", "stale_data", "cheap_assets"} <= running) == on


def test_schedules_that_start_work_are_off_until_somebody_turns_them_on() -> None:
    schedules = build_defs().get_repository_def().schedule_defs
    on = {schedule.name: schedule.default_status == dg.DefaultScheduleStatus.RUNNING for schedule in schedules}
    assert on == {"new_dataset_backfill": False, "weekly_integrity_audit": False, "nightly_scene_files": True}
