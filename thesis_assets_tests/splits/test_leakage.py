import dagster as dg
import pytest

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import DifixTree
from thesis_assets.operations.metadata import check_result
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.splits.leakage import (
    check_group_non_leakage,
    check_group_rules,
    check_not_empty,
    check_partition,
    check_reserved_exist,
    check_reserved_scenes,
)
from thesis_assets.splits.manifests import group_finder, reserved_groups
from thesis_assets.splits.near_duplicates import check_near_duplicates
from thesis_assets.splits.photographs import check_photographs
from thesis_assets_tests.splits.rows import group_of, pair_rows, scene_rows


def test_a_pair_in_both_splits_is_named_with_a_sample_of_each():
    train, test = pair_rows("pair00", "pair01"), pair_rows("pair02")
    assert check_group_non_leakage(train, test, group_of).passed
    outcome = check_group_non_leakage(train, [*test, train[0]], group_of)
    assert not outcome.passed
    assert "hi4d/pair00" in outcome.offenders[0]
    assert train[0].sample_id in outcome.offenders[0]
    assert outcome.counts == {"train_groups": 2, "test_groups": 2, "offenders": 1}


def test_a_row_that_hides_its_group_is_found_by_the_rules():
    train, test = pair_rows("pair00"), pair_rows("pair01")
    hidden = [row.model_copy(update={"group_id": "pair77"}) for row in pair_rows("pair00")]
    assert check_group_non_leakage(train, test + hidden).passed
    outcome = check_group_non_leakage(train, test + hidden, group_of)
    assert not outcome.passed
    assert "hi4d_pair00_dance" in outcome.offenders[0]


def test_reserved_people_in_training_are_named():
    train = pair_rows("pair00", "pair15")
    assert check_reserved_scenes(train, {"hi4d/pair16"}).passed
    outcome = check_reserved_scenes(train, {"hi4d/pair15"})
    assert not outcome.passed
    assert outcome.counts["offenders"] == 2
    assert "hi4d_pair15_dance" in outcome.offenders[0]


def test_a_partition_has_each_row_once_unchanged_and_in_order():
    every = pair_rows("pair00", "pair01")
    train, test = every[:2], every[2:]
    assert check_partition(every, train, test).passed
    changed = [train[0].model_copy(update={"reference_fname": "000009"}), train[1]]
    for bad_train, bad_test, word in (
        (train, test[1:], "in neither split"),
        ([*train, test[0]], test, "in train and test"),
        (list(reversed(train)), test, "not sorted"),
        (changed, test, "differs"),
        (train, [*test, *pair_rows("pair09")], "not in all_samples"),
        ([train[0], *train], test, "twice"),
    ):
        outcome = check_partition(every, bad_train, bad_test)
        assert not outcome.passed
        assert any(word in offender for offender in outcome.offenders), (word, outcome.offenders)


def test_an_empty_split_passes_no_check(tmp_path):
    roots = SceneRoots(tmp_path, tmp_path, tmp_path, tmp_path)
    outcomes = [
        check_group_non_leakage([], []),
        check_reserved_scenes([], {"hi4d/pair15"}),
        check_partition([], [], []),
        check_not_empty([], [], train_only=True),
        check_near_duplicates([], [], roots),
        check_photographs(DifixTree(tmp_path, "v1"), [], []),
        check_group_rules([], SplitSpec(train_only=True)),
    ]
    assert [outcome.passed for outcome in outcomes] == [False] * 7


def test_an_empty_half_is_an_offender_unless_it_is_meant():
    rows = pair_rows("pair00")
    assert check_not_empty(rows, [], train_only=True).passed
    assert not check_not_empty(rows, [], train_only=False).passed
    assert not check_not_empty([], rows, train_only=True).passed


def test_groups_whose_names_differ_by_case_are_the_same_people():
    train, test = pair_rows("Pair00"), pair_rows("pair00", dataset="HI4D")
    outcome = check_group_non_leakage(train, test)
    assert not outcome.passed
    assert "hi4d/Pair00 and HI4D/pair00 stands in both splits" in outcome.offenders[0]
    assert not check_reserved_scenes(train, {"HI4D/pair00"}).passed


def split_of(**parts):
    return SplitSpec.model_validate({"train_only": True, **parts})


@pytest.mark.parametrize(
    ("names", "rules", "parted"),
    [
        (["hi4d_pair00_dance", "hi4d_pair00_hug"], {"hi4d": "scene_name"}, True),
        (["hi4d_pair00_dance", "hi4d_pair00_hug"], {}, False),
        (["hi4d_pair00_dance", "hi4d_pair01_hug"], {"hi4d": r"^hi4d_(pair)\d"}, False),
        (["hi4d_pair00_dance", "hi4d_other"], {"hi4d": "scene_name"}, False),
        (["HI4D_Pair00_dance", "HI4D_pair00_hug"], {"HI4D": "scene_name"}, True),
        (["thesis_a", "thesis_b"], {"thesis": "scene_name"}, False),
        (["middlebury_a", "middlebury_b"], {"middlebury": r"^(middlebury)"}, False),
    ],
)
def test_a_rule_may_not_part_what_the_built_in_rule_keeps_together_unless_it_is_meant(names, rules, parted):
    rows = [row for name in names for row in scene_rows(name, "x")]
    outcome = check_group_rules(rows, split_of(group_rules=rules))
    assert outcome.passed is not parted
    assert outcome.counts["parted"] == parted
    assert bool(outcome.offenders) is parted
    meant = check_group_rules(rows, split_of(group_rules=rules, override_builtin_rule=True))
    assert meant.passed
    assert bool(meant.offenders) is parted, "also where it is meant, who is parted is told"


def test_a_reserved_scene_is_part_of_what_a_rule_parts():
    rows = scene_rows("hi4d_pair00_dance", "x")
    split = split_of(group_rules={"hi4d": "scene_name"}, reserved_scenes=["hi4d_pair00_hug"])
    assert not check_group_rules(rows, split).passed


@pytest.mark.parametrize(
    ("reserved", "passed", "warns"),
    [
        ("hi4d_pair00_dance", True, False),
        ("hi4d_pair71_dance", False, True),  # reserves pair71, whom nobody filmed here
        ("hi4d_par00_dance", False, False),  # reserves nobody, and the dataset is here
        ("mmm_someone", False, True),  # of a dataset that is not here
        ("HI4D_pair00_dance", False, False),
    ],
)
def test_a_reserved_scene_that_is_not_here_warns_and_blocks_where_nobody_is_reserved_by_it(reserved, passed, warns):
    outcome = check_reserved_exist(split_of(reserved_scenes=[reserved]), {"hi4d_pair00_dance", "hi4d_pair01_hug"})
    assert (outcome.passed, outcome.warns) == (passed, warns)
    assert passed or reserved in outcome.offenders[0]
    assert passed or "hi4d_pair00_dance" in outcome.offenders[0], "the near name"
    severity = check_result("split_manifests", "reserved_scenes_exist", outcome).severity
    assert severity == (dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR)


def test_a_reserved_name_of_a_dataset_without_samples_reserves_nobody_and_stops_nothing():
    split = split_of(reserved_scenes=["hi4d_pair00_dance", "mmm_someone"])
    finder = group_finder({})
    assert reserved_groups(split, finder, {"hi4d"}) == {"hi4d/pair00"}
    with pytest.raises(InvalidExperiment):
        reserved_groups(split, finder, {"hi4d", "mmm"})
