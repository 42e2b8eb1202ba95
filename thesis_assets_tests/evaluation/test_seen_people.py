"""Whether someone who is reported on was trained on."""

from collections.abc import Iterator

import pytest

from thesis_assets.defs.checks.evaluation import _evaluation_manifest
from thesis_assets.evaluation.seen_people import check_evaluated_unseen
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets_tests.worlds import SMALL, World


@pytest.fixture
def world(finished_world: World) -> Iterator[World]:
    """The finished world; its file is put back."""
    yield finished_world
    finished_world.write(SMALL)


def outcome_of(world: World, scenes: list[str]) -> CheckOutcome:
    evaluation = {**SMALL["evaluation"], "scenes": scenes}
    world.write({**SMALL, "evaluation": evaluation})
    return _evaluation_manifest(world.platform, world.cell())["evaluated_people_unseen"]()


def test_held_out_people_are_unseen(world: World) -> None:
    assert outcome_of(world, ["studio_pair03_*"]).passed


def test_people_of_the_training_half_are_named(world: World) -> None:
    outcome = outcome_of(world, ["studio_pair03_*", "studio_pair00_*"])
    assert not outcome.passed
    assert outcome.offenders == ["studio/pair00"]
    assert "studio/pair00" in outcome.message


def test_a_run_that_was_not_trained_here_has_seen_people_unknown() -> None:
    outcome = check_evaluated_unseen({"studio/pair00"}, None)
    assert outcome.passed
    assert "not trained here" in outcome.message
