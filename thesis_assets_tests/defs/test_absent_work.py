"""Tasks that are asked for and that no scene can have: told in the terminal and on the check, and failed where nothing else is asked for."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from thesis_assets.graph.check_history import check_rows
from thesis_assets.operations.check_outcomes import joined, result_of, said_absent
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets_tests.defs.sensor_ticks import experiment
from thesis_assets_tests.worlds import TINY_RUN, World

WHY = "the scene has no ground-truth smpl bodies"


@pytest.fixture
def world(data_of_scenes: Callable[[int], World]) -> Callable[..., World]:
    """Two scenes without bodies, whose run is trained in two steps; evaluated by some tasks."""

    def make(*tasks: str) -> World:
        made = data_of_scenes(2)
        run = {**TINY_RUN, "max_train_steps": 2, "selection": {"rule": "last"}}
        evaluation = {"scenes": ["hi4d_pair00_hug"], "tasks": list(tasks), "epochs": [0]}
        made.write(experiment("v1", runs={"r1": run}, evaluation=evaluation))
        return made

    return make


def status_of(world: World, check: str) -> tuple[str, str]:
    """How a check stands, and what it says."""
    with world.instance() as instance:
        return next((row.status, row.message) for row in check_rows(instance) if row.check == check)


def test_a_task_that_no_scene_can_have_is_a_warning_that_blocks_nothing(world: Callable[..., World]) -> None:
    made = world("nvs", "pose_smpl")
    report = made.run("v1")
    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    (line,) = [line for line in made.lines if line.startswith("warning pose_smpl.pose_smpl_required_files")]
    assert f"absent: {WHY}" in line
    status, message = status_of(made, "pose_smpl_required_files")
    assert status == "warning"
    assert f"hi4d_pair00_hug: absent: {WHY}" in message
    assert status_of(made, "nvs_required_files")[0] == "passed"


def test_an_evaluation_of_which_nothing_can_be_made_fails_with_the_reasons(world: Callable[..., World]) -> None:
    made = world("pose_smpl", "pose_smplx")
    report = made.run("v1")
    assert report.exit_code == 1
    (error,) = [error for outcome in report.outcomes for error in outcome.errors]
    assert "nothing that the evaluation asks for can be made" in error
    assert f"hi4d_pair00_hug, pose_smpl: {WHY}" in error
    assert "hi4d_pair00_hug, pose_smplx: the scene has no ground-truth smplx bodies" in error
    assert status_of(made, "pose_smplx_required_files")[0] == "warning"


def outcomes(**absent: bool) -> CheckOutcome:
    """Joined over scenes, of which some cannot have the task."""
    return joined(
        {
            name: CheckOutcome.of([], message=f"absent: {WHY}" if gone else "there", counts={"absent": int(gone)})
            for name, gone in absent.items()
        }
    )


def test_one_scene_that_has_the_task_is_enough_and_a_lost_file_is_a_failure_all_the_same() -> None:
    assert said_absent(outcomes(a=True, b=False)).passed
    assert said_absent(outcomes()).passed
    lost = CheckOutcome.of(["metrics.csv"], message="lost", counts={"scenes": 1, "absent": 0})
    assert said_absent(lost) == lost


def test_the_check_in_the_ui_says_absent_with_the_reason_and_how_many() -> None:
    name = "pose_smpl_required_files"
    result: Any = result_of("pose_smpl", name, said_absent(outcomes(a=True, b=True)), "v1|r1")
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"a: absent: {WHY}; b: absent: {WHY}" in result.description
    assert result.metadata["absent"] == dg.MetadataValue.int(2)
