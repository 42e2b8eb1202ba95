import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import SampleId, frame_name
from thesis_assets.samples.sample_rows import read_rows, row_of, rows_sha256, sample_of, unique_rows, write_rows
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.storage import sha256_file

ROW = row_of(SampleId("hi4d_pair00_dance", 16, 4, "000123", "000120"), "pair00")
names = st.from_regex(r"[a-z0-9]{1,5}_[A-Za-z0-9.-]{1,9}", fullmatch=True).filter(lambda name: ".." not in name)
samples = st.builds(
    SampleId, names, st.integers(0, 99), st.integers(0, 99), *[st.integers(0, 10**7).map(frame_name)] * 2
)


@given(st.lists(st.tuples(samples, names), max_size=5))
def test_rows_survive_a_round_trip_and_know_their_sample(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [row_of(sample, group) for sample, group in drawn]
    digest = write_rows(path, rows)
    assert read_rows(path) == rows
    assert [sample_of(row) for row in read_rows(path)] == [sample for sample, _ in drawn]
    assert digest == rows_sha256(rows) == sha256_file(path)


def test_a_row_read_in_the_fast_way_is_a_row_like_any_other(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [ROW])
    (row,) = read_rows(tmp_path / "rows.jsonl")
    assert isinstance(row, SampleRow)
    assert row.model_dump() == ROW.model_dump()
    assert row.model_copy(update={"group_id": "x"}).group_id == "x"
    assert row.model_dump_json() == ROW.model_dump_json()


def test_keys_in_another_order_are_read_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(dict(reversed(ROW.model_dump().items()))) + "\n")
    assert read_rows(path) == [ROW]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"image_path": "../../secret.png"}, "image_path"),
        ({"image_path": "/etc/passwd"}, "image_path"),
        ({"sample_id": "another"}, "sample_id"),
        ({"dataset": "mmm"}, "dataset"),
        ({"target_cam_id": "16"}, "target_cam_id"),
        ({"target_cam_id": -1}, "cam_id"),
        ({"target_cam_id": True}, "target_cam_id"),
        ({"target_fname": "12"}, "fname"),
        ({"scene_name": "../x_y"}, "scene_name"),
        ({"group_id": "a/b"}, "group_id"),
        ({"more": 1}, "more"),
    ],
)
def test_a_row_that_is_not_one_is_refused_with_its_line_and_key(tmp_path, change, key):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW.model_dump()) + "\n" + json.dumps({**ROW.model_dump(), **change}) + "\n")
    with pytest.raises(InvalidFile) as caught:
        read_rows(path)
    assert caught.value.key == f"line 2: {key}"
    assert caught.value.remedy


def test_equal_rows_count_once_and_different_ones_of_one_id_are_refused(tmp_path):
    other = row_of(SampleId("hi4d_pair00_dance", 28, 4, "000123", "000120"), "pair00")
    assert unique_rows([other, ROW, other], tmp_path) == [ROW, other]
    with pytest.raises(InvalidFile) as caught:
        unique_rows([ROW, ROW.model_copy(update={"group_id": "pair99"})], tmp_path)
    assert "group_id" in caught.value.key
    assert "'pair00' and 'pair99'" in caught.value.found
