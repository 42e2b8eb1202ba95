"""Files and directories are there whole or not at all; a cell has one writer."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets import storage
from thesis_assets.errors import CellLocked, InvalidFile
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.checks import CheckOutcome

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=10,
)


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt and SystemExit, which are no `Exception` either."""


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- whole files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [ValueError, OSError, Interrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("old")

    def write() -> None:
        with storage.atomic_file(path) as temporary:
            temporary.write_text("half of the new")
            raise failure

    with pytest.raises(failure):
        write()

    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["manifest.json"]


def test_a_reader_sees_the_new_file_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "model_7.pkl"

    with storage.atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert not list(path.parent.glob("*.pkl"))

    assert path.read_text() == "new"
    assert names_in(path.parent) == ["model_7.pkl"]


def test_a_reader_of_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("old")

    with path.open() as reader:
        storage.write_text(path, "new")
        assert reader.read() == "old"

    assert path.read_text() == "new"


def test_linking_twice_leaves_no_temporary_name(tmp_path: Path) -> None:
    (tmp_path / "source.jpg").write_text("pixels")

    for _ in range(2):
        assert storage.link_or_copy(tmp_path / "source.jpg", tmp_path / "target.jpg") == "hard_link"

    assert names_in(tmp_path) == ["source.jpg", "target.jpg"]


def test_a_killed_writer_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("old")
    program = (
        "import sys, time; from pathlib import Path; from thesis_assets import storage\n"
        "with storage.atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"

    writer.kill()
    writer.wait(timeout=20)

    assert path.read_text() == "old"
    assert [path for path in names_in(tmp_path) if not path.startswith(".tmp-")] == ["manifest.json"]


# --- JSON ------------------------------------------------------------------------------------------------------------


@given(JSON_VALUES)
def test_json_reads_back_and_the_same_value_gives_the_same_bytes(value: object) -> None:
    import orjson

    written = storage.to_json_bytes(value)

    assert orjson.loads(written) == value
    assert storage.to_json_bytes(orjson.loads(written)) == written


@given(st.dictionaries(st.text(), JSON_VALUES, min_size=2, max_size=5))
def test_a_values_digest_does_not_depend_on_the_order_of_its_keys(value: dict[str, object]) -> None:
    assert storage.sha256_value(value) == storage.sha256_value(dict(reversed(value.items())))


def test_rows_read_back_in_their_order(tmp_path: Path) -> None:
    rows = [{"b": 2, "a": "é\n"}, {"a": 1}]

    (tmp_path / "rows.jsonl").write_bytes(b"".join(storage.to_json_bytes(row, indent=False) for row in rows))

    assert list(storage.read_jsonl(tmp_path / "rows.jsonl")) == rows


def test_a_broken_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')

    with pytest.raises(InvalidFile) as refused:
        list(storage.read_jsonl(path))
    assert refused.value.key == "line 2"
    assert refused.value.file == str(path)


@pytest.mark.parametrize("content", ["", "{", "nonsense", '{"a": 1}}', "\udcff", "[" * 100_000])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stats.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(InvalidFile) as refused:
        storage.read_json_value(path)
    assert refused.value.file == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (storage.read_json_value, lambda path: list(storage.read_jsonl(path))):
        with pytest.raises(InvalidFile, match="missing"):
            read(tmp_path / "stats.json")


def test_a_file_larger_than_any_of_its_kind_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    path.write_text("[" + "1," * 100 + "1]")

    with pytest.raises(InvalidFile, match="larger"):
        storage.read_json_value(path, max_bytes=100)


def test_a_file_of_another_shape_is_refused_with_its_key(tmp_path: Path) -> None:
    class Inner(FileModel):
        steps: list[int]

    class Outer(FileModel):
        run: Inner

    path = tmp_path / "run.json"
    path.write_text('{"run": {"steps": [1, "two"]}}')

    with pytest.raises(InvalidFile) as refused:
        storage.read_json(path, Outer)
    assert refused.value.key == "run.steps.1"
    assert refused.value.found == "'two'"
    assert "Outer" in str(refused.value)


def test_a_model_reads_back_from_its_file(tmp_path: Path) -> None:
    outcome = CheckOutcome.of(["a", "b"], message="two are wrong", counts={"looked_at": 5})

    storage.write_json(tmp_path / "outcome.json", outcome)

    assert storage.read_json(tmp_path / "outcome.json", CheckOutcome) == outcome


# --- directories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [ValueError, Interrupt])
def test_a_failed_directory_leaves_the_old_one_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    final = tmp_path / "sample"
    final.mkdir()
    (final / "image.png").write_text("old")

    def write() -> None:
        with storage.atomic_directory(final) as temporary:
            (temporary / "image.png").write_text("new")
            raise failure

    with pytest.raises(failure):
        write()

    assert (final / "image.png").read_text() == "old"
    assert names_in(tmp_path) == ["sample"]


def test_a_published_directory_replaces_the_old_one_whole(tmp_path: Path) -> None:
    final = tmp_path / "sample"
    final.mkdir()
    (final / "left over.txt").write_text("old")

    with storage.atomic_directory(final) as temporary:
        (temporary / "image.png").write_text("new")
        assert names_in(final) == ["left over.txt"]

    assert names_in(final) == ["image.png"]
    assert names_in(tmp_path) == ["sample"]


def test_the_old_directory_comes_back_where_the_new_one_cannot_be_put_in_place(tmp_path: Path) -> None:
    final = tmp_path / "sample"
    final.mkdir()
    (final / "image.png").write_text("old")

    with pytest.raises(OSError, match="No such file"):
        storage.publish_directory(tmp_path / "never made", final)

    assert (final / "image.png").read_text() == "old"
    assert names_in(tmp_path) == ["sample"]


# --- links -----------------------------------------------------------------------------------------------------------


def test_a_link_is_the_same_file_and_takes_no_room(tmp_path: Path) -> None:
    source = tmp_path / "000001.jpg"
    source.write_text("pixels")

    assert storage.link_or_copy(source, tmp_path / "sample" / "target_image.jpg") == "hard_link"
    assert (tmp_path / "sample" / "target_image.jpg").samefile(source)
    assert names_in(tmp_path / "sample") == ["target_image.jpg"]


def test_the_tree_holds_files_where_the_scene_holds_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real.jpg").write_text("pixels")
    (tmp_path / "link.jpg").symlink_to("real.jpg")

    storage.link_or_copy(tmp_path / "link.jpg", tmp_path / "target.jpg")

    assert not (tmp_path / "target.jpg").is_symlink()
    assert (tmp_path / "target.jpg").read_text() == "pixels"


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_bytes_are_copied_where_the_file_system_cannot_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source.jpg").write_text("pixels")

    assert storage.link_or_copy(tmp_path / "source.jpg", tmp_path / "target.jpg") in ("copy", "reflink")
    assert (tmp_path / "target.jpg").read_text() == "pixels"
    assert not (tmp_path / "target.jpg").samefile(tmp_path / "source.jpg")


def test_a_copy_shares_nothing_with_its_source_even_where_it_was_linked(tmp_path: Path) -> None:
    source, target = tmp_path / "source.jpg", tmp_path / "target.jpg"
    source.write_text("pixels")
    storage.link_or_copy(source, target)

    assert storage.link_or_copy(source, target, link_mode="copy") == "copy"
    source.write_text("changed later")

    assert target.read_text() == "pixels"


@pytest.mark.parametrize("link_mode", ["auto", "copy"])
def test_linking_a_file_onto_itself_keeps_it(tmp_path: Path, link_mode: str) -> None:
    source = tmp_path / "source.jpg"
    source.write_text("pixels")
    (tmp_path / "link.jpg").symlink_to("source.jpg")

    storage.link_or_copy(source, source, link_mode=link_mode)  # type: ignore[arg-type]
    storage.link_or_copy(tmp_path / "link.jpg", source, link_mode=link_mode)  # type: ignore[arg-type]

    assert source.read_text() == "pixels"
    assert names_in(tmp_path) == ["link.jpg", "source.jpg"]


def test_a_copy_that_runs_out_of_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(reading: object, writing: object, *_: object) -> None:
        writing.write(b"pix")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.shutil, "copyfileobj", half)
    (tmp_path / "source.jpg").write_text("pixels")
    (tmp_path / "target.jpg").write_text("old")

    with pytest.raises(OSError, match="No space"):
        storage.link_or_copy(tmp_path / "source.jpg", tmp_path / "target.jpg", link_mode="copy")

    assert (tmp_path / "target.jpg").read_text() == "old"
    assert names_in(tmp_path) == ["source.jpg", "target.jpg"]


def test_a_link_that_fails_for_another_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source.jpg").write_text("pixels")

    with pytest.raises(OSError, match="Input/output"):
        storage.link_or_copy(tmp_path / "source.jpg", tmp_path / "target.jpg")


# --- one writer a cell -----------------------------------------------------------------------------------------------

HOLDER = (
    "import sys, time; from pathlib import Path; from thesis_assets import storage\n"
    "with storage.cell_lock(Path(sys.argv[1]), 'the other'):\n"
    "    print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "cell.lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait(timeout=20)


def test_a_cell_at_work_elsewhere_is_refused_with_who_holds_it(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(CellLocked) as refused, storage.cell_lock(tmp_path / "cell.lock", "scene hi4d_a"):
        pass

    message = str(refused.value)
    assert "scene hi4d_a" in message
    assert f'"pid": {holder.pid}' in message
    assert os.uname().nodename in message
    assert time.strftime("%Y-%m-%d") in message


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_dead_holders_lock_is_free(tmp_path: Path, holder: subprocess.Popen[bytes], end: signal.Signals) -> None:
    holder.send_signal(end)
    holder.wait(timeout=20)

    with storage.cell_lock(tmp_path / "cell.lock", "scene hi4d_a"):
        assert f'"pid": {os.getpid()}' in (tmp_path / "cell.lock").read_text()


def test_a_lock_is_free_again_after_its_holder_failed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "cell.lock"
    with pytest.raises(ValueError, match="failed"), storage.cell_lock(path, "scene hi4d_a"):
        raise ValueError("failed")

    with storage.cell_lock(path, "scene hi4d_a"), pytest.raises(CellLocked), storage.cell_lock(path, "scene hi4d_a"):
        pass
    assert path.read_text() == ""


def test_a_file_system_without_locks_is_not_taken_for_a_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(storage.fcntl, "flock", refuse)

    with pytest.raises(OSError, match="No locks"), storage.cell_lock(tmp_path / "cell.lock", "scene hi4d_a"):
        pass
