"""Numpy files from strangers: no pickles, no bombs, no half files."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import array_bytes, read_npy, read_npz


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(6).reshape(2, 3), names=np.array(["a", "bc"]))
    arrays = read_npz(tmp_path / "a.npz")
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["names"].tolist() == ["a", "bc"]


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InvalidFile, match="pickled"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(InvalidFile, match="pickled"):
        read_npy(tmp_path / "a.npy")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1_000_000))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    with pytest.raises(InvalidFile, match="larger"):
        read_npz(tmp_path / "a.npz", max_bytes=1_000_000)


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
    with pytest.raises(InvalidFile, match="cut short"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"text"])
def test_a_file_that_is_no_archive_is_an_error_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidFile) as caught:
        read_npz(tmp_path / "a.npz")
    assert caught.value.file == str(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(1000.0))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InvalidFile):
        read_npz(tmp_path / "a.npz")
    whole = array_bytes(np.arange(1000.0))
    (tmp_path / "a.npy").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InvalidFile):
        read_npy(tmp_path / "a.npy")


def test_a_flipped_byte_in_compressed_data_is_an_error_of_ours(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=500))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(bytes(content))
    with pytest.raises(InvalidFile):
        read_npz(tmp_path / "a.npz")


def test_a_missing_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="missing"):
        read_npz(tmp_path / "a.npz")


def test_array_bytes_are_what_numpy_reads(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(array_bytes(np.arange(4, dtype=np.float32)))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
