"""Records, looks and their words: what is as wanted stays so through lost times, and what was changed is named."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from thesis_assets.provenance import (
    Contents,
    Older,
    Place,
    Unit,
    Verdict,
    Wanted,
    begin,
    examine,
    kept_defaults,
    kept_options,
    mend,
    strike,
    take_over,
)
from thesis_assets.provenance.making import CHANGED_MEANWHILE

LONG_AGO = 1_700_000_000


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "roots"
    folder.mkdir()
    for name, content in (("a.jpg", b"photograph a"), ("b.jpg", b"photograph b")):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    base = tmp_path / "out"
    base.mkdir()
    return Place(base, base / "made_from.json")


def wanted(inputs: Path, **changed: Any) -> Wanted:
    files = {f"roots/{name}": inputs / name for name in ("a.jpg", "b.jpg")}
    options = {"evaluation": {"nvs": {"background": "black", "scale": 1}}}
    return Wanted(**{"step": "nvs", "code_version": "1", "options": options, "files": files, **changed})


def make(place: Place, of: Wanted) -> None:
    making = begin(Unit("nvs", place, of))
    for name in ("table.csv", "image.png"):
        (place.base / name).write_bytes(b"content of " + name.encode())
        os.utime(place.base / name, (LONG_AGO, LONG_AGO))
    making.finish([place.base / "table.csv", place.base / "image.png"])


def look(place: Place, of: Wanted, contents: Contents | None = None) -> Verdict:
    return Unit("nvs", place, of).look(contents)


def test_what_was_just_made_is_made_and_no_file_is_read_to_know_it(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    contents = CountedReads()
    assert look(place, wanted(inputs), contents).state == "made"
    assert contents.read == []


def test_where_no_record_is_it_is_missing(place: Place, inputs: Path) -> None:
    assert look(place, wanted(inputs)).state == "missing"


class CountedReads(Contents):
    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def sha256(self, path: Path | str) -> str:
        self.read.append(Path(path).name)
        return super().sha256(path)


@pytest.mark.parametrize(
    "loses_times", [lambda a, b: shutil.copytree(a, b, copy_function=shutil.copyfile), shutil.move]
)
def test_a_copy_or_move_is_made_and_read_at_most_once(
    tmp_path: Path, place: Place, inputs: Path, loses_times: Callable[[Path, Path], object]
) -> None:
    make(place, wanted(inputs))
    moved, other_inputs = tmp_path / "elsewhere", tmp_path / "other_roots"
    loses_times(place.base, moved)
    loses_times(inputs, other_inputs)
    there = Place(moved, moved / "made_from.json")
    assert look(there, wanted(other_inputs)).state == "made"
    for path in (*moved.iterdir(), *other_inputs.iterdir()):
        if path.suffix != ".json":
            os.utime(path, (LONG_AGO, LONG_AGO))
    assert look(there, wanted(other_inputs)).state == "made"
    contents = CountedReads()
    assert look(there, wanted(other_inputs), contents).state == "made"
    assert contents.read == []


def test_an_edited_output_is_damaged_and_its_sizes_are_told(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    (place.base / "table.csv").write_bytes(b"")
    found = look(place, wanted(inputs))
    assert found.in_words == "damaged: `table.csv` (0 bytes, was 20)"
    assert found.damaged == ("table.csv",)


def test_an_edit_that_kept_size_and_time_is_found_by_reading(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    before = (place.base / "table.csv").stat()
    (place.base / "table.csv").write_bytes(b"CONTENT of table.csv")
    os.utime(place.base / "table.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(place, wanted(inputs)).state == "made"
    assert examine(Unit("nvs", place, wanted(inputs))).in_words == "damaged: `table.csv` (other bytes, as many)"


def test_a_missing_output_is_named(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    (place.base / "image.png").unlink()
    found = look(place, wanted(inputs))
    assert (found.state, found.missing) == ("missing", ("image.png",))


def test_damage_is_said_before_what_is_missing_and_both_before_what_is_stale(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    (place.base / "image.png").unlink()
    (inputs / "a.jpg").write_bytes(b"another photograph")
    assert look(place, wanted(inputs)).state == "missing"
    (place.base / "table.csv").write_bytes(b"")
    found = look(place, wanted(inputs))
    assert found.state == "damaged"
    assert len(found.reasons) == 3


def test_a_changed_and_a_new_input_make_stale_and_are_named(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    (inputs / "a.jpg").write_bytes(b"photograph A")
    assert look(place, wanted(inputs)).in_words == "stale: `roots/a.jpg`: changed"
    (inputs / "a.jpg").write_bytes(b"photograph a")
    (inputs / "c.jpg").write_bytes(b"one more")
    files = {f"roots/{path.name}": path for path in inputs.iterdir()}
    assert look(place, wanted(inputs, files=files)).in_words == "stale: `roots/c.jpg`: new"


def test_a_touched_input_makes_nothing_stale(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    (inputs / "a.jpg").touch()
    assert look(place, wanted(inputs)).state == "made"


def test_an_input_that_is_gone_makes_nothing_stale(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    shutil.rmtree(inputs)
    found = look(place, wanted(inputs))
    assert found.state == "made"
    assert "gone" in found.in_words


def test_another_data_version_of_an_input_makes_stale(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs, made={"predictions": "one"}))
    assert look(place, wanted(inputs, made={"predictions": "one"})).state == "made"
    assert look(place, wanted(inputs, made={"predictions": "two"})).in_words == "stale: `predictions`: made anew"


def test_an_input_that_changes_during_the_work_leaves_the_output_stale(place: Place, inputs: Path) -> None:
    making = begin(Unit("nvs", place, wanted(inputs)))
    (inputs / "a.jpg").write_bytes(b"came during the work")
    (place.base / "table.csv").write_bytes(b"made of the older one")
    record = making.finish([place.base / "table.csv"])
    assert record.inputs["roots/a.jpg"] == CHANGED_MEANWHILE
    assert look(place, wanted(inputs)).state == "stale"


def test_an_older_version_another_tool_and_one_that_is_not_here_make_no_work(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs, tools={"rasteriser": "3", "lpips": "a" * 64}))
    found = look(place, wanted(inputs, code_version="2", tools={"rasteriser": "4"}))
    assert found.state == "made"
    assert found.notes == (
        "by an older version: nvs 1, now 2",
        "with rasteriser 3, here is 4",
        f"with lpips {'a' * 12}, which is not here",
    )


def options(background: str, **more: Any) -> dict[str, Any]:
    return {"evaluation": {"nvs": {"background": background, "scale": 1, **more}}}


def test_an_option_that_the_file_sets_makes_stale_and_a_changed_default_does_not(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    assert look(place, wanted(inputs, options=options("white"), given={"evaluation": {}})).state == "made"
    given = {"evaluation": {"nvs": {"background": "white"}}}
    found = look(place, wanted(inputs, options=options("white"), given=given))
    assert found.in_words == "stale: `evaluation.nvs.background` was black, is white"


def test_an_option_that_came_later_means_what_the_step_did_before_it(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    later = {"options": options("black", crop="none"), "before": {"evaluation.nvs.crop": "none"}}
    assert look(place, wanted(inputs, **later)).state == "made"
    assert look(place, wanted(inputs, **{**later, "options": options("black", crop="person")})).state == "stale"


def test_what_is_made_anew_keeps_the_options_that_the_file_does_not_set() -> None:
    then = {"nvs": {"background": "black", "scale": 1}, "frames": {"stride": 2}}
    now = {"nvs": {"background": "white", "scale": 1, "crop": "none"}, "frames": {"stride": 1}}
    assert kept_options(then, now, {"nvs": {}}) == {
        "nvs": {"background": "black", "scale": 1, "crop": "none"},
        "frames": {"stride": 2},
    }
    assert kept_options(then, now, {"nvs": {"background": "white"}, "frames": {"stride": 1}}) == now
    assert kept_options(then, now, None) == now


def test_an_option_that_is_not_set_any_more_and_stays_is_said() -> None:
    then = {"nvs": {"background": "white", "region": "mask", "groups": []}, "epochs": {"15": {"step": 10}}}
    now = {"nvs": {"background": "black", "region": "mask", "groups": {}, "later": 1}, "epochs": [0, 15]}
    told = ["`nvs.background` stays white: the file does not set it (the default is black)"]
    assert list(kept_defaults(then, now, {"epochs": [0, 15]})) == told
    assert list(kept_defaults(then, now, {"nvs": {"background": "black"}})) == [], "that is stale"


values = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def test_a_key_that_is_taken_out_of_a_table_which_the_file_sets_whole_makes_stale(place: Place, inputs: Path) -> None:
    def weights(**each: float) -> dict[str, Any]:
        return {"generation": {"weights": each, "seed": 0}}

    make(place, wanted(inputs, options=weights(near=1.0, far=2.0)))
    later = {"options": weights(near=1.0), "given": {"generation": {"weights": {"near": 1.0}}}}
    assert look(place, wanted(inputs, **later)).in_words == "stale: `generation.weights.far` was 2.0, is not set"


@drawn(then=tables, now=tables)
def test_with_nothing_set_nothing_differs_and_with_everything_set_only_what_does(
    then: dict[str, Any], now: dict[str, Any]
) -> None:
    from thesis_assets.provenance.options import differences

    assert list(differences(then, now, {}, {})) == []
    assert list(differences(now, now, None, {})) == []


def test_a_step_that_is_not_the_same_twice_has_another_data_version_each_time(place: Place, inputs: Path) -> None:
    trained = wanted(inputs, of_outputs=True)
    versions = set()
    for weights in (b"first", b"second"):
        making = begin(Unit("nvs", place, trained))
        (place.base / "model.pkl").write_bytes(weights)
        versions.add(making.finish([place.base / "model.pkl"]).data_version)
    assert len(versions) == 2


def test_a_record_that_cannot_be_read_is_damaged(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    place.record.write_bytes(b"{")
    assert look(place, wanted(inputs)).state == "damaged"


def test_files_with_several_names_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one file")
    os.link(tmp_path / "a", tmp_path / "b")
    contents = Contents()
    contents.saw(tmp_path / "a", "told")
    assert contents.sha256(tmp_path / "b") == "told"


def test_where_nothing_may_be_written_the_files_are_read_each_time(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    place.stats.unlink()
    place.stats.mkdir()
    assert look(place, wanted(inputs)).state == "made"


def test_an_output_without_a_record_works_and_is_given_one_without_being_made_again(place: Place, inputs: Path) -> None:
    table = place.base / "table.csv"
    table.write_bytes(b"by a version without records")
    older = Older([table], options=options("white"))
    unit = Unit("nvs", place, wanted(inputs, given={}), lambda: older)
    assert unit.look().in_words == "made (not verified yet)"
    record = take_over(unit)
    assert record is not None
    assert record.options == options("white")
    assert unit.look().in_words == "made"
    assert take_over(unit) is None


def test_what_was_lost_before_it_had_a_record_is_missing_or_damaged_after_it_was_taken_over(
    place: Place, inputs: Path
) -> None:
    for name, content in (("whole", b"content"), ("emptied", b"")):
        (place.base / name).write_bytes(content)
        os.utime(place.base / name, (LONG_AGO, LONG_AGO))
    older = Older([place.base / name for name in ("whole", "emptied", "gone")])
    unit = Unit("nvs", place, wanted(inputs), lambda: older)
    take_over(unit)
    found = unit.look()
    assert (found.missing, found.damaged) == (("gone",), ("emptied",))
    assert not found.is_stale


def test_mending_keeps_all_else_of_the_record_also_of_inputs_that_are_gone(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    before = look(place, wanted(inputs)).record
    (inputs / "a.jpg").unlink()
    (place.base / "image.png").write_bytes(b"other bytes, the same pixels")
    assert not look(place, wanted(inputs)).is_stale
    unit = Unit("nvs", place, wanted(inputs))
    record = mend(unit, begin(unit).digested([place.base / "image.png"]))
    assert before is not None
    assert (record.identity, record.inputs, record.data_version) == (before.identity, before.inputs, before.identity)
    assert record.outputs["table.csv"] == before.outputs["table.csv"]
    os.utime(place.base / "image.png", (LONG_AGO, LONG_AGO))
    assert look(place, wanted(inputs)).state == "made"
    contents = CountedReads()
    assert look(place, wanted(inputs), contents).state == "made"
    assert contents.read == []


def test_mending_what_is_not_the_same_twice_gives_another_data_version(place: Place, inputs: Path) -> None:
    trained = Unit("nvs", place, wanted(inputs, of_outputs=True))
    make(place, trained.wanted)
    version = trained.look().data_version
    (place.base / "image.png").write_bytes(b"other")
    assert mend(trained, begin(trained).digested([place.base / "image.png"])).data_version != version


def test_an_edit_beside_what_is_mended_is_still_found(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    unit = Unit("nvs", place, wanted(inputs))
    (place.base / "table.csv").write_bytes(b"edited meanwhile")
    mend(unit, begin(unit).digested([place.base / "image.png"]))
    assert look(place, wanted(inputs)).damaged == ("table.csv",)


def test_what_was_removed_on_purpose_is_not_missing_and_the_rest_keeps_its_version(place: Place, inputs: Path) -> None:
    make(place, wanted(inputs))
    version = look(place, wanted(inputs)).data_version
    (place.base / "image.png").unlink()
    strike(place, ["image.png"])
    assert (look(place, wanted(inputs)).state, look(place, wanted(inputs)).data_version) == ("made", version)


def test_a_file_without_content_was_lost_but_one_that_may_be_empty_was_not(place: Place, inputs: Path) -> None:
    names = ("table.csv", "rows.jsonl")
    paths = [place.base / name for name in names]
    for path in paths:
        path.touch()
    unit = Unit("nvs", place, wanted(inputs), lambda: Older(paths, empty=[place.base / "rows.jsonl"]))
    take_over(unit)
    assert unit.look().damaged == ("table.csv",)
