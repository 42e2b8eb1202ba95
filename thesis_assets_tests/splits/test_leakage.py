from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.splits.leakage import (
    check_group_non_leakage,
    check_near_duplicates,
    check_not_empty,
    check_partition,
    check_reserved_scenes,
)
from thesis_assets_tests.splits.rows import group_of, pair_rows


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
    ]
    assert [outcome.passed for outcome in outcomes] == [False] * 5


def test_an_empty_half_is_an_offender_unless_it_is_meant():
    rows = pair_rows("pair00")
    assert check_not_empty(rows, [], train_only=True).passed
    assert not check_not_empty(rows, [], train_only=False).passed
    assert not check_not_empty([], rows, train_only=True).passed
