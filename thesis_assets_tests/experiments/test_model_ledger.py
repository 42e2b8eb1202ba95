"""The ledger of models: what an entry may say, and how a bad one is told."""

import re
from pathlib import Path

import pytest

from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.experiments.model_ledger import read_model_entry
from thesis_assets.layout import ModelLedger
from thesis_assets.schemas.models import ModelEntry

ROOT = Path(__file__).parents[2]


def entry(tmp_path: Path, text: str, model_id: str = "nvidia/difix_ref") -> ModelEntry | None:
    path = ModelLedger(tmp_path).entry(model_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read_model_entry(ModelLedger(tmp_path), model_id)


def test_an_entry_says_whom_a_model_had_seen_and_where_that_is_written(tmp_path: Path) -> None:
    found = entry(tmp_path, "trained_on: {hi4d: [pair17, hi4d_pair02_hug], chi3d: '*'}\nsource: the paper, 4.1\n")
    assert found == ModelEntry(
        trained_on={"hi4d": ("pair17", "hi4d_pair02_hug"), "chi3d": ("*",)}, source="the paper, 4.1"
    )
    assert (tmp_path / "nvidia" / "difix_ref.yaml").is_file()


def test_a_model_without_a_file_is_unknown(tmp_path: Path) -> None:
    assert read_model_entry(ModelLedger(tmp_path), "nvidia/difix") is None


@pytest.mark.parametrize(
    ("text", "line", "key", "found"),
    [
        ("source: x\ntrained_on: {hi4d: [17]}\n", 2, "trained_on.hi4d.0", "17"),
        ("source: x\ntrained_on: {hi4d: pair17}\n", 2, "trained_on.hi4d", "pair17"),
        ("source: x\ntrained_on:\n  hi4d_pair17: [fight]\n", 2, "trained_on", "hi4d_pair17"),
        ("source: x\ntrained_on:\n  hi4d: ['../x']\n", 2, "trained_on", "../x"),
        ("trained_on: {}\nsource: ''\n", 2, "source", "''"),
        ("trained_on: {}\nsource: x\nseen: 1\n", 3, "seen", "1"),
    ],
)
def test_a_bad_entry_is_told_with_its_line_and_key(tmp_path: Path, text: str, line: int, key: str, found: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        entry(tmp_path, text)
    error = caught.value
    assert (error.file, error.key) == (f"{tmp_path}/nvidia/difix_ref.yaml:{line}", key)
    assert found in str(error.found)
    assert "trained_on: {<dataset>: [<group>, ...]}" in str(error.wanted)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n", "trained_on: {}\n"])
def test_what_is_no_entry_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        entry(tmp_path, text)
    assert "ledger's entry of a model" in caught.value.problem


def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey):
        read_model_entry(ModelLedger(tmp_path), "../../etc/passwd")


def test_the_entries_of_the_repository_are_valid() -> None:
    ledger = ModelLedger(ROOT / "models")
    names = [str(path.relative_to(ledger.base).with_suffix("")) for path in ledger.base.rglob("*.yaml")]
    assert set(names) >= {"lpips-vgg", "lpips-alex"}
    for name in names:
        assert read_model_entry(ledger, name) is not None


def test_the_entry_of_the_page_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "curate.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(# models/.*?)^```", page, re.DOTALL | re.MULTILINE)
    found = entry(tmp_path, block)
    assert found is not None
    assert found.trained_on["lab"] == ("*",)
