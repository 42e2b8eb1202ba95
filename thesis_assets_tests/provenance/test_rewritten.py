"""Records whose outputs were rewritten for another root, or removed on purpose: the rest stays known without reading."""

import os
from pathlib import Path

import pytest

from thesis_assets.provenance import Output, Place, Unit, Wanted, begin, rewrite, strike, versions_of
from thesis_assets.storage import sha256_bytes
from thesis_assets_tests.provenance.test_provenance import LONG_AGO, CountedReads


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    unit = Unit("weights", Place(tmp_path, tmp_path / "made_from.json"), Wanted("training", "1", of_outputs=True))
    making = begin(unit)
    for name in ("a", "b", "paths.json"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    making.finish([tmp_path / name for name in ("a", "b", "paths.json")])
    return unit


def test_a_rewritten_output_is_as_recorded_under_the_same_version(unit: Unit) -> None:
    version = unit.look().data_version
    path = unit.place.base / "paths.json"
    content = b"/another/root"
    rewrite(unit.place, {path.name: Output(len(content), sha256_bytes(content))}, noted={"root": "/another/root"})
    assert unit.look().state == "damaged", "until it is written"
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    contents = CountedReads()
    verdict = unit.look(contents)
    assert (verdict.state, verdict.data_version) == ("made", version)
    assert verdict.record is not None
    assert verdict.record.noted == {"root": "/another/root"}
    assert contents.read == ["paths.json"]


def test_nothing_that_was_kept_is_read_again_after_something_was_struck(unit: Unit) -> None:
    (unit.place.base / "b").unlink()
    strike(unit.place, ["b"])
    contents = CountedReads()
    assert unit.look(contents).state == "made"
    assert contents.read == []


def test_versions_of_records_that_are_there(unit: Unit, tmp_path: Path) -> None:
    absent = Place(tmp_path, tmp_path / "absent.json")
    assert versions_of({"weights": unit.place, "absent": absent}) == {"weights": unit.look().data_version}
    unit.place.record.write_text("{")
    assert versions_of({"weights": unit.place}) == {}
