"""Files read with limits: bytes, and numpy archives without pickled objects that unpack to no more than they may.

Does not belong here: what the arrays mean (camera.py, bodies.py).
"""

import lzma
import math
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from thesis_assets.errors import InvalidFile

Array = np.ndarray[Any, np.dtype[Any]]

MAX_ARCHIVE_BYTES = 256 * 1024 * 1024
"""Of one frame's arrays, unpacked. Two SMPL-X people with vertices take 0.5 MB."""
MAX_ARCHIVE_ARRAYS = 256


def read_npz(path: Path, *, max_bytes: int = MAX_ARCHIVE_BYTES) -> dict[str, Array]:
    """All arrays of an `.npz` file.

    Args:
        max_bytes: upper bound of all arrays together, unpacked; checked before anything is unpacked.

    Raises:
        InvalidFile: it is missing, empty, not an archive of arrays, too large, or holds pickled objects.
    """
    return parse_npz(read_bounded(path, max_bytes), path, max_bytes=max_bytes)


def parse_npz(content: bytes, path: Path, *, max_bytes: int = MAX_ARCHIVE_BYTES) -> dict[str, Array]:
    """As `read_npz`, from the bytes of the file that messages name `path`."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            total = sum(member.file_size for member in members)
            if total > max_bytes or len(members) > MAX_ARCHIVE_ARRAYS:
                raise InvalidFile(
                    "the archive is larger than any of its kind",
                    file=path,
                    found=f"{len(members)} arrays, {total} bytes unpacked",
                    wanted=f"at most {MAX_ARCHIVE_ARRAYS} arrays, {max_bytes} bytes",
                )
            return {member.filename[:-4]: _parse_npy(archive.read(member), path) for member in members}
    # A damaged archive can name any way of packing, and each fails in its own.
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InvalidFile("the file is not a readable .npz archive", file=path, found=str(error)[:200]) from error


def read_npy(path: Path, *, max_bytes: int = MAX_ARCHIVE_BYTES) -> Array:
    """The array of an `.npy` file.

    Raises:
        InvalidFile: it is missing, empty, too large, not an array, or holds pickled objects.
    """
    return _parse_npy(read_bounded(path, max_bytes), path)


def read_depth(path: Path, size: tuple[int, int] | None = None) -> Array:
    """(H, W) float32 metres of a depth map; 0, negative and not finite: unknown.

    Args:
        size: (height, width) of its photograph, pixels; None: not known, and not asked.

    Raises:
        InvalidFile: it cannot be read, or is no such array: of integers (millimetres, mostly), of another number of axes, or of
            another size.
    """
    array = read_npy(path)
    if array.ndim == 2 and array.dtype.kind == "f" and array.size:
        if size is not None and array.shape != size:
            raise InvalidFile(
                "a depth map has another size than its photograph",
                file=path,
                found=f"{array.shape[1]} x {array.shape[0]}",
                wanted=f"{size[1]} x {size[0]}",
                remedy="write it at the photograph's size, for instance by repeating its values",
            )
        return array.astype(np.float32, copy=False)
    remedy = "save `depth.astype(np.float32)`"
    if array.dtype.kind in "iu":
        remedy = "these seem to be millimetres: save `depth.astype(np.float32) / 1000`"
    elif array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        remedy = "save `depth.squeeze()`"
    raise InvalidFile(
        "the file is no depth map",
        file=path,
        found=f"{array.shape} {array.dtype}",
        wanted="(height, width) float32, metres",
        remedy=remedy,
    )


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file of at most `max_bytes`.

    Raises:
        InvalidFile: it is missing, larger, or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InvalidFile(
                "the file is larger than any of its kind", file=path, found=f"{size} bytes", wanted=f"<= {max_bytes}"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error
    except OSError as error:
        raise InvalidFile("the file cannot be read", file=path, found=str(error)[:200]) from error


def _parse_npy(content: bytes, path: Path) -> Array:
    """One array from the bytes of an `.npy` file; the header's shape is held against the bytes before memory is taken."""
    try:
        header = BytesIO(content)
        version = npy_format.read_magic(header)
        read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = read_header(header)
        if dtype.hasobject:
            raise InvalidFile(
                "an array holds pickled Python objects, which are not read",
                file=path,
                wanted="numbers or text",
                remedy="save it with numpy.savez from arrays whose dtype is not object",
            )
        if math.prod(shape) * dtype.itemsize > len(content) - header.tell():
            raise InvalidFile("an array is cut short", file=path, found=f"{len(content)} bytes for shape {shape}")
        array: Array = npy_format.read_array(BytesIO(content), allow_pickle=False)
    # The header is a line of Python: what is wrong with it is told by its parser.
    except (ValueError, EOFError, MemoryError, SyntaxError, OverflowError, RecursionError, TokenError) as error:
        raise InvalidFile("an array cannot be read", file=path, found=str(error)[:200]) from error
    return array


def array_bytes(array: Array) -> bytes:
    """The bytes of an `.npy` file; the same array gives the same bytes."""
    buffer = BytesIO()
    npy_format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
