"""Group rules: who is in a scene."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment, InvalidKey
from thesis_assets.scenes import matching
from thesis_assets.scenes.matching import group_id


@pytest.mark.parametrize(
    ("scene", "group"),
    [
        ("hi4d_pair15_fight", "pair15"),
        ("hi4d_pair15_hug_2", "pair15"),
        ("studio_pair03_dance", "pair03"),
        ("middlebury_motorcycle", "middlebury_motorcycle"),
    ],
)
def test_built_in_rules(scene: str, group: str) -> None:
    assert group_id(scene, {}) == group


@given(number=st.integers(0, 99), action=st.from_regex(r"[a-z]{1,10}", fullmatch=True))
def test_the_action_never_changes_the_pair(number: int, action: str) -> None:
    assert group_id(f"hi4d_pair{number:02d}_{action}", {}) == f"pair{number:02d}"


def test_an_unknown_dataset_is_an_error_with_the_lines_to_write() -> None:
    with pytest.raises(InvalidExperiment) as caught:
        group_id("mmm_dance_01", {})
    assert caught.value.key == "split.group_rules.mmm"
    assert "mmm: scene_name" in str(caught.value)
    assert "hi4d" in str(caught.value)


def test_the_lines_that_the_error_proposes_are_a_rule_that_works() -> None:
    assert group_id("mmm_dance_01", {"mmm": "scene_name"}) == "mmm_dance_01"
    assert group_id("mmm_pair07_dance", {"mmm": r"^mmm_(pair\d+)_"}) == "pair07"


def test_the_experiments_rule_wins_over_the_built_in_one() -> None:
    assert group_id("hi4d_pair15_fight", {"hi4d": "scene_name"}) == "hi4d_pair15_fight"


def test_a_rule_that_does_not_fit_the_name_is_an_error_never_a_default() -> None:
    with pytest.raises(InvalidExperiment) as caught:
        group_id("hi4d_couple15_fight", {})
    assert caught.value.key == "split.group_rules.hi4d"


def test_a_name_without_a_dataset_is_refused() -> None:
    with pytest.raises(InvalidKey):
        group_id("fight", {})


def test_a_plug_in_serves_its_dataset_below_the_experiments_own_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_plug_ins", lambda: {"wild": lambda name: name.split("_")[1]})
    assert group_id("wild_alice_walks", {}) == "alice"
    assert group_id("wild_alice_walks", {"wild": "scene_name"}) == "wild_alice_walks"


@pytest.mark.parametrize("group", ["", None, "../x"])
def test_a_plug_in_that_gives_no_usable_group_is_an_error(monkeypatch: pytest.MonkeyPatch, group: object) -> None:
    monkeypatch.setattr(matching, "_plug_ins", lambda: {"wild": lambda name: group})
    with pytest.raises((InvalidExperiment, InvalidKey)):
        group_id("wild_alice_walks", {})
