"""Metric tables and result files, there and back."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.means import mean_of
from thesis_assets.evaluation.metric_tables import read_results, read_table, table_text
from thesis_assets.schemas.evaluation import NVS_FRAME_COLUMNS, NVS_RESULT_KEYS, format_results

VALUES = st.none() | st.floats(-1e6, 1e6)
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: st.integers(0, 999) if name in ("camera_id", "frame_id") else VALUES for name in NVS_FRAME_COLUMNS}
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda row: (row["camera_id"], row["frame_id"]),
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_a_table_comes_back_within_six_decimals(rows: list[dict[str, float | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(table_text(NVS_FRAME_COLUMNS, rows))
        table = read_table(path, NVS_FRAME_COLUMNS)
    for found, wanted in zip(table, rows, strict=True):
        for name, value in wanted.items():
            assert found[name] == (None if value is None else pytest.approx(value, abs=1e-6))


def test_further_columns_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("camera_id,psnr,mine\n4,20.5,hello\n")
    assert read_table(path, ("camera_id", "psnr")) == [{"camera_id": 4.0, "psnr": 20.5}]


def test_an_optional_column_that_is_absent_is_empty_and_one_that_is_needed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("frame_id,rr_mpjpe_mm,rr_mve_mm,pcdr\n3,80.5,90.25,1\n")
    columns = ("frame_id", "rr_mpjpe_mm", "rr_mve_mm", "cd_mm", "pcdr")
    assert read_table(path, columns) == [dict(zip(columns, (3, 80.5, 90.25, None, 1), strict=True))]
    path.write_text("frame_id,rr_mpjpe_mm,rr_mve_mm,cd_mm,pcdr\n3,80.5,90.25,nan,1\n")
    assert read_table(path, columns) == [dict(zip(columns, (3, 80.5, 90.25, None, 1), strict=True))]
    path.write_text("frame_id,rr_mpjpe_mm,cd_mm,pcdr\n3,80.5,,1\n")
    with pytest.raises(InvalidFile, match="other columns"):
        read_table(path, columns)


def test_numbers_of_others_keep_the_decimals_that_they_came_with(tmp_path: Path) -> None:
    value = 20.123456789012345
    rows = [{"camera_id": 4, "psnr": value}, {"camera_id": 5, "psnr": 20.5}]
    assert table_text(("camera_id", "psnr"), rows).splitlines()[1] == "4,20.123457"
    path = tmp_path / "table.csv"
    path.write_text(table_text(("camera_id", "psnr"), rows, as_they_are=True))
    assert path.read_text().splitlines()[2] == "5,20.500000"
    assert [row["psnr"] for row in read_table(path, ("camera_id", "psnr"))] == [value, 20.5]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("camera_id,psnr\n4,1\n5,1\n4,2\n", "two rows of one camera and frame"),
        ("", "empty"),
        ("psnr,camera_id\n1,2\n", "other columns"),
        ("camera_id,psnr\n", "no rows"),
        ("camera_id,psnr\n4\n", "cut short"),
        ("camera_id,psnr\n4,abc\n", "not a finite number"),
        ("camera_id,psnr\n4,inf\n", "not a finite number"),
        ("camera_id,psnr\n,1\n", "not a finite number"),
    ],
)
def test_a_table_that_breaks_its_contract_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InvalidFile, match=problem) as caught:
        read_table(path, ("camera_id", "psnr"))
    assert caught.value.file == str(path)


def test_results_have_four_decimals_and_nan_for_what_is_absent(tmp_path: Path) -> None:
    values = {"psnr": 20.10923, "ssim": 0.9, "lpips": None, "psnr_channel_sum": 15.3381}
    text = format_results(values)
    assert text == "psnr: 20.1092\nssim: 0.9000\nlpips: nan\npsnr_channel_sum: 15.3381\n"
    path = tmp_path / "results.txt"
    path.write_text(text)
    assert read_results(path, NVS_RESULT_KEYS) == {**values, "psnr": 20.1092}


@pytest.mark.parametrize(
    "text", ["", "psnr 20\n", "psnr: 20\n", "psnr: 20\nssim: 0.9\nlpips: nan\npsnr_channel_sum: 15."]
)
def test_results_that_are_cut_short_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.txt"
    path.write_text(text)
    with pytest.raises(InvalidFile):
        read_results(path, NVS_RESULT_KEYS)


def test_a_mean_leaves_out_empty_values() -> None:
    assert mean_of([{"psnr": 1.0}, {"psnr": None}, {"psnr": 2.0}], "psnr") == 1.5
    assert mean_of([{"psnr": None}], "psnr") is None
