"""Whether someone who is reported on was trained on."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from thesis_assets.evaluation.checks import check_evaluated_unseen
from thesis_assets.images import codecs
from thesis_assets.operations.check_outcomes import _evaluation_manifest, _selected_checkpoint
from thesis_assets.operations.report_pages import leaderboard_of
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets_tests.worlds import SMALL, World, read_json


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


@contextlib.contextmanager
def photographed_as(world: World, scene_name: str, other: str) -> Iterator[None]:
    """Let a scene's shard say that one of its photographs was one of another scene's, byte for byte."""
    record, theirs = (world.platform.difix(world.cell()).scene_run(name).made_from for name in (scene_name, other))
    photograph = "canonical_gt/{}/images/16/000001.jpg"
    before, inputs = record.read_bytes(), read_json(theirs)["inputs"]
    changed = json.loads(before)
    changed["inputs"][photograph.format(scene_name)] = inputs[photograph.format(other)]
    record.write_text(json.dumps(changed))
    try:
        yield
    finally:
        record.write_bytes(before)


def test_a_run_that_was_trained_before_photographs_were_compared_is_marked(world: World) -> None:
    with photographed_as(world, "studio_pair00_dance", "studio_pair03_dance"):
        outcome = outcome_of(world, ["studio_pair03_*"])
    assert not outcome.passed
    assert "1 of studio_pair00_dance (train) and studio_pair03_dance (evaluation)" in outcome.offenders[0]
    assert outcome.picture is not None


def test_its_rows_are_marked_by_the_records_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    with monkeypatch.context() as patched:
        patched.setattr(codecs, "read_rgb", opened)
        board = leaderboard_of(world.platform)
    assert board.rows
    assert {row.leaked for row in board.rows} == {""}
    with photographed_as(world, "studio_pair00_dance", "studio_pair03_dance"):
        board = leaderboard_of(world.platform)
    (said,) = {row.leaked for row in board.rows}
    assert said.startswith("trained on data with people on both sides: canonical_gt/studio_pair00_dance/")
    assert "of studio_pair00_dance (train) is canonical_gt/studio_pair03_dance/images/16/000001.jpg" in said
    assert "`thesis-assets checks run --exp small photographs_across_splits`" in said
    assert {row.leaked for row in board.differences if row.difference is not None} == {said}


def test_a_checkpoint_that_was_chosen_on_photographs_of_the_evaluated_is_refused(world: World) -> None:
    def check() -> CheckOutcome:
        return _selected_checkpoint(world.platform, world.cell())["selection_disjoint_from_evaluation"]()

    assert check().passed
    with photographed_as(world, "studio_pair02_hug", "studio_pair03_dance"):
        outcome = check()
    assert not outcome.passed
    assert "1 of studio_pair02_hug (selection) and studio_pair03_dance (evaluation)" in outcome.offenders[0]


def test_a_run_that_was_not_trained_here_has_seen_people_unknown() -> None:
    outcome = check_evaluated_unseen({"studio/pair00"}, None)
    assert outcome.passed
    assert "not trained here" in outcome.message
