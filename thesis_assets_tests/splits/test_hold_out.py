import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.samples.sample_rows import group_key
from thesis_assets.splits.leakage import (
    check_group_non_leakage,
    check_not_empty,
    check_partition,
    check_reserved_scenes,
)
from thesis_assets.splits.manifests import reserved_groups, split_rows
from thesis_assets_tests.splits.rows import group_of, ids, pair_rows, scene_rows


def test_named_groups_are_held_out_with_all_their_scenes():
    rows = [*scene_rows("hi4d_pair00_dance", "pair00"), *scene_rows("hi4d_pair00_hug", "pair00"), *pair_rows("pair01")]
    result = split_rows(rows, SplitSpec(test_groups={"hi4d": ("pair00",)}), group_of)
    assert result.test_groups == ["hi4d/pair00"]
    assert result.train_groups == ["hi4d/pair01"]
    assert ids(result.test) == ids(rows[:4])
    assert ids(result.train) == ids(rows[4:])


def test_a_group_name_of_another_dataset_is_not_held_out_with_it():
    rows = [*pair_rows("pair00"), *pair_rows("pair00", dataset="studio")]
    result = split_rows(rows, SplitSpec(test_groups={"hi4d": ("pair00",)}), group_of)
    assert result.train_groups == ["studio/pair00"]


def test_the_group_of_a_reserved_scene_is_never_trained_on():
    rows = pair_rows("pair00", "pair01", "pair02")
    split = SplitSpec(test_groups={"hi4d": ("pair00",)}, reserved_scenes=("hi4d_pair02_fight",))
    result = split_rows(rows, split, group_of)
    assert result.test_groups == ["hi4d/pair00", "hi4d/pair02"]
    train_only = SplitSpec(train_only=True, reserved_scenes=("hi4d_pair02_fight",))
    assert split_rows(rows, train_only, group_of).test_groups == ["hi4d/pair02"]


def test_train_only_holds_nothing_out():
    result = split_rows(pair_rows("pair00"), SplitSpec(train_only=True), group_of)
    assert len(result.train) == 2
    assert result.test == []


@pytest.mark.parametrize(
    ("rows", "split", "found", "wanted"),
    [
        (pair_rows("pair00"), SplitSpec(test_groups={"hi4d": ("pair99",)}), "pair99", "pair00"),
        (pair_rows("pair00"), SplitSpec(test_groups={"mmm": ("x",)}), "x", "a dataset of hi4d"),
        (pair_rows("pair00"), SplitSpec(test_groups={"hi4d": ("pair00",)}), "hi4d/pair00", "neither held out"),
        (pair_rows("pair00"), SplitSpec(test_fraction=0.2), "hi4d/pair00", "at least one test group"),
        (pair_rows("pair00"), SplitSpec(test_groups={"hi4d": ()}), "hi4d/pair00", "at least one test group"),
        ([], SplitSpec(train_only=True), "no sample at all", "at least one group"),
    ],
)
def test_a_split_that_cannot_be_made_says_what_is_there_and_what_to_write(rows, split, found, wanted):
    with pytest.raises(InvalidExperiment) as caught:
        split_rows(rows, split, group_of)
    assert caught.value.key.startswith("split")
    assert found in caught.value.found
    assert wanted in caught.value.wanted
    assert caught.value.remedy


def test_a_fraction_comes_close_by_number_of_samples_not_of_groups():
    rows = [
        *scene_rows("a_big_x", "big", 80),
        *[r for i in range(20) for r in scene_rows(f"a_s{i:02d}_x", f"s{i:02d}", 1)],
    ]
    for seed in range(20):
        result = split_rows(rows, SplitSpec(test_fraction=0.1, seed=seed), group_of)
        assert len(result.test) == 10
        assert "a/big" in result.train_groups


def test_a_fraction_is_drawn_by_the_seed_alone():
    rows = pair_rows(*[f"pair{i:02d}" for i in range(30)])
    draws = {
        seed: tuple(split_rows(rows, SplitSpec(test_fraction=0.2, seed=seed), group_of).test_groups)
        for seed in range(5)
    }
    assert len(set(draws.values())) == 5
    again = split_rows(list(reversed(rows)), SplitSpec(test_fraction=0.2, seed=3), group_of)
    assert tuple(again.test_groups) == draws[3]


group_structures = st.dictionaries(
    keys=st.tuples(st.sampled_from(["hi4d", "mmm", "studio"]), st.integers(0, 8)),
    values=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    min_size=1,
    max_size=12,
)
hold_outs = st.one_of(
    st.builds(
        lambda fraction, seed: {"test_fraction": fraction, "seed": seed}, st.floats(0.01, 0.99), st.integers(0, 99)
    ),
    st.just({"train_only": True}),
    st.sets(st.tuples(st.sampled_from(["hi4d", "mmm", "studio"]), st.integers(0, 8)), min_size=1, max_size=4).map(
        lambda chosen: {"test_groups": chosen}
    ),
)


@given(group_structures, hold_outs, st.sets(st.tuples(st.sampled_from(["hi4d", "mmm"]), st.integers(0, 9)), max_size=3))
def test_no_group_is_ever_on_both_sides_and_every_row_lands_on_exactly_one(structure, hold_out, reserved):
    rows = []
    for (dataset, number), scenes in structure.items():
        for action, n in enumerate(scenes):
            rows += scene_rows(f"{dataset}_pair{number:02d}_a{action}", f"pair{number:02d}", n)
    rows.sort(key=lambda row: row.sample_id)
    if "test_groups" in hold_out:
        names = {}
        for dataset, number in sorted(hold_out["test_groups"]):
            names.setdefault(dataset, []).append(f"pair{number:02d}")
        hold_out = {"test_groups": names}
    split = SplitSpec(**hold_out, reserved_scenes=tuple(f"{d}_pair{n:02d}_kept" for d, n in sorted(reserved)))
    try:
        result = split_rows(rows, split, group_of)
    except InvalidExperiment:
        return  # a split that cannot be made is refused, never made otherwise
    assert not set(map(group_key, result.train)) & set(map(group_key, result.test))
    assert sorted(ids(result.train) + ids(result.test)) == ids(rows)
    assert {group_key(row) for row in result.train} == set(result.train_groups)
    assert {group_key(row) for row in result.test} == set(result.test_groups)
    kept = reserved_groups(split, group_of, {row.dataset for row in rows})
    assert not kept & set(result.train_groups)
    assert check_group_non_leakage(result.train, result.test, group_of).passed
    assert check_partition(rows, result.train, result.test).passed
    assert check_reserved_scenes(result.train, kept).passed
    assert check_not_empty(result.train, result.test, train_only=split.train_only).passed


@given(group_structures.filter(lambda structure: len(structure) >= 2), st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_fraction_never_fails_where_there_are_two_groups(structure, fraction, seed):
    rows = [
        row
        for (dataset, number), scenes in structure.items()
        for row in scene_rows(f"{dataset}_pair{number:02d}_x", f"pair{number:02d}", sum(scenes))
    ]
    result = split_rows(rows, SplitSpec(test_fraction=fraction, seed=seed), group_of)
    assert result.train
    assert result.test
