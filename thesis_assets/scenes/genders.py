"""`meta.npz`: the gender of each person, which the SMPL task needs to choose its body model."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.scenes.bounded_files import read_npz


def read_genders(path: Path) -> list[str]:
    """Gender a person.

    Raises:
        InvalidFile: the file cannot be read, has no `genders`, or they are not text.
    """
    values = read_npz(path).get("genders")
    if values is None or values.dtype.kind not in "US":
        raise InvalidFile(
            "the file does not hold genders as text",
            file=path,
            key="genders",
            found=None if values is None else str(values.dtype),
            wanted='text, such as ["female", "male"]',
        )
    return [text.decode() if isinstance(text, bytes) else str(text) for text in values.reshape(-1).tolist()]


def write_genders(path: Path, genders: Sequence[str]) -> None:
    """Write `meta.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, genders=np.array(list(genders), dtype=np.str_))
    storage.write_bytes(path, buffer.getvalue())
