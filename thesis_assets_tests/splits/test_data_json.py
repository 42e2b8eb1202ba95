import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, SnapshotChanged
from thesis_assets.layout import DifixTree
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.schemas.samples import DataJson
from thesis_assets.splits.data_json import (
    check_data_json,
    content_of_file,
    content_of_rows,
    prompt_of,
    write_data_json,
)
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets_tests.splits.rows import ids, pair_rows
from thesis_assets_tests.splits.snapshots import PROMPT, write_snapshot


def test_the_trainer_gets_absolute_paths_in_manifest_order(tmp_path):
    tree = DifixTree(tmp_path, "v1")
    train, test = pair_rows("pair00", "pair02"), pair_rows("pair01")
    write_data_json(tree, train, test, PROMPT)
    value = json.loads(tree.data_json.read_bytes())
    assert list(value) == ["train", "test"]
    assert list(value["train"]) == ids(train)
    assert list(value["test"]) == ids(test)
    assert value["train"][train[0].sample_id] == {
        "image": str(tree.base / train[0].image_path),
        "target_image": str(tree.base / train[0].target_image_path),
        "ref_image": str(tree.base / train[0].ref_image_path),
        "prompt": PROMPT,
    }
    DataJson.model_validate(value)
    assert (len(value["train"]), len(value["test"])) == (4, 2)
    assert content_of_rows(train, test, PROMPT).sha256 == content_of_file(tree.data_json).sha256


@given(st.text(max_size=30), st.integers(0, 3), st.integers(0, 3), st.integers(1, 2))
def test_any_prompt_and_any_number_of_rows_make_one_valid_file(tmp_path_factory, prompt, n_train, n_test, lines):
    tree = DifixTree(tmp_path_factory.mktemp("difix"), "v1")
    train, test = pair_rows("pair00", n=n_train), pair_rows("pair01", n=n_test)
    write_data_json(tree, train, test, prompt)
    value = json.loads(tree.data_json.read_bytes())
    assert (len(value["train"]), len(value["test"])) == (n_train, n_test)
    assert prompt_of(tree.data_json) == (prompt if n_train + n_test else None)
    assert check_data_json(tree, train, test, prompt).passed


def test_more_samples_than_a_block_holds_stay_one_file(tmp_path):
    tree = DifixTree(tmp_path, "v1")
    rows = pair_rows("pair00", n=2500)
    write_data_json(tree, rows, [], PROMPT)
    assert len(json.loads(tree.data_json.read_bytes())["train"]) == 2500


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda value, key: value["train"].pop(key), "is not in data.json"),
        (lambda value, key: value["test"].update({key: value["train"][key]}), "is not in split_test"),
        (lambda value, key: value["train"][key].update(image="/elsewhere.png"), "/elsewhere.png"),
        (lambda value, key: value["train"][key].update(prompt="other"), "other"),
        (lambda value, _: value.update(more={}), "nothing else"),
        (lambda value, key: value["train"].update({key: value["train"].pop(key)}), "another order"),
    ],
)
def test_every_kind_of_difference_is_named(tmp_path, change, word):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    assert check_data_json(tree, train, test, PROMPT).passed
    value = storage.read_json_value(tree.data_json)
    change(value, train[0].sample_id)
    storage.write_json(tree.data_json, value)
    outcome = check_data_json(tree, train, test, PROMPT)
    assert not outcome.passed
    assert word in outcome.offenders[0]


def test_a_missing_or_broken_file_fails_the_check(tmp_path):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    tree.data_json.write_text('{"train": ')
    assert not check_data_json(tree, train, test, PROMPT).passed
    tree.data_json.unlink()
    assert "missing" in check_data_json(tree, train, test, PROMPT).offenders[0]
    with pytest.raises(InvalidFile):
        prompt_of(tree.data_json)


def test_a_frozen_data_json_does_not_change(tmp_path):
    tree = write_snapshot(tmp_path)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    freeze(tree, "a run")
    write_data_json(tree, train, test, PROMPT)
    with pytest.raises(SnapshotChanged, match=r"data\.json would change"):
        write_data_json(tree, train, test, "another prompt")
    assert check_data_json(tree, train, test, PROMPT).passed
