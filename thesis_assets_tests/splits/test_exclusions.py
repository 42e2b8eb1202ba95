"""Samples that a person leaves out: the table, and halves without them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment, InvalidFile
from thesis_assets.experiments.spec import SplitSpec
from thesis_assets.layout import SampleId, frame_name
from thesis_assets.schemas.samples import Exclusion
from thesis_assets.splits.exclusions import as_option, read_exclusions, with_added, write_exclusions
from thesis_assets.splits.leakage import check_partition
from thesis_assets.splits.manifests import group_finder, split_rows, split_unit
from thesis_assets_tests.splits.rows import pair_rows
from thesis_assets_tests.splits.snapshots import write_snapshot

ID = str(SampleId("hi4d_pair00_dance", 16, 4, frame_name(0), frame_name(0)))
OTHER = str(SampleId("hi4d_pair00_dance", 16, 4, frame_name(1), frame_name(1)))
SPLIT = SplitSpec(test_groups={"hi4d": ("pair01",)})
ROWS = pair_rows("pair00", "pair01", n=3)


WORDS = st.text().map(lambda text: " ".join(text.split()))


@given(st.lists(st.builds(Exclusion, sample_id=st.sampled_from([ID, OTHER]), reason=WORDS, who=WORDS)))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, exclusions: list[Exclusion]) -> None:
    path = tmp_path_factory.mktemp("table") / "v1.exclude.csv"
    wanted = with_added([], exclusions)
    write_exclusions(path, wanted)
    assert read_exclusions(path) == sorted(wanted, key=lambda each: each.sample_id)


def test_a_table_that_a_person_or_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(f'\ufeffreason,sample_id\r\n"blurred, and dark", {ID} \r\n'.encode())
    assert read_exclusions(path) == [Exclusion(sample_id=ID, reason="blurred, and dark")]
    assert read_exclusions(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("id\nx\n", 1, "the columns id"),
        ("", 1, "the columns none"),
        ("sample_id,colour\nx,red\n", 1, "the columns sample_id, colour"),
        (f"sample_id\n{ID}\nimage.png\n", 3, "is no sample id"),
        (f"sample_id,reason\n{ID},a,b\n", 2, "another number of cells"),
        (f"sample_id,reason\n{ID}\n", 2, "another number of cells"),
        (f'sample_id\n"{ID}\n', 2, "unexpected end of data"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, text: str, line: int, found: str) -> None:
    path = tmp_path / "e.csv"
    path.write_text(text)
    with pytest.raises(InvalidFile) as refused:
        read_exclusions(path)
    assert refused.value.key == f"line {line}"
    assert found in str(refused.value.found)


def test_bytes_of_another_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(f"sample_id,reason\n{ID},Gr\xfc\xdfe\n".encode("latin-1"))
    with pytest.raises(InvalidFile, match="no table of exclusions"):
        read_exclusions(path)


def test_one_that_is_left_out_already_keeps_who_named_it() -> None:
    first, again = Exclusion(sample_id=ID, who="a"), Exclusion(sample_id=ID, who="b")
    assert with_added([first], [again]) == [first]


def test_halves_are_without_them_and_hold_out_the_same_people() -> None:
    group_of = group_finder({})
    whole = split_rows(ROWS, SPLIT, group_of)
    excluded = {whole.train[0].sample_id, whole.test[1].sample_id}
    found = split_rows(ROWS, SPLIT, group_of, excluded)
    assert found.train == whole.train[1:]
    assert found.test == [whole.test[0], *whole.test[2:]]
    assert (found.train_groups, found.test_groups) == (whole.train_groups, whole.test_groups)
    assert check_partition(ROWS, found.train, found.test, excluded).passed
    assert not check_partition(ROWS, found.train, found.test).passed
    smuggled = check_partition(ROWS, whole.train, found.test, excluded)
    assert "was left out, and is in a split" in smuggled.offenders[0]


@pytest.mark.parametrize("group", ["pair00", "pair01"])
def test_a_half_of_which_nothing_is_left_is_refused(group: str) -> None:
    excluded = {row.sample_id for row in ROWS if row.group_id == group}
    with pytest.raises(InvalidExperiment, match="split is empty"):
        split_rows(ROWS, SPLIT, group_finder({}), excluded)


def test_reasons_shape_nothing_and_a_table_that_is_gone_is_another_option(tmp_path: Path) -> None:
    tree = write_snapshot(tmp_path)
    one = [Exclusion(sample_id=ID, reason="dark")]
    assert as_option([]) is None
    assert as_option(one) == as_option([Exclusion(sample_id=ID, reason="blurred")])
    assert split_unit(tree, SPLIT, one).wanted.options["exclude"] == as_option(one)
    without = split_unit(tree, SPLIT).wanted
    assert "exclude" not in without.options
    assert without.given is not None
    assert "exclude" in without.given
