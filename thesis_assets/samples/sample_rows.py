"""Rows of the sample manifests: made from a sample id, read and written as JSONL at a million rows' pace.

A validated pydantic model costs 5 us a row; here a row whose keys, types, id and paths are as we write them is put together in
1 us, and any other one goes through the model, which says what is wrong.
"""

import contextlib
import gc
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any

import orjson
from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import MAX_CAMERA_ID, SampleId, check_frame, check_key, dataset_of
from thesis_assets.schemas.samples import SampleRow

_KEYS = tuple(SampleRow.model_fields)
_FIELDS_SET = set(_KEYS)  # shared by all rows: one set a row would be a third of a manifest's memory


def row_of(sample: SampleId, group_id: str) -> SampleRow:
    """The manifest row of a sample: ids, and paths relative to the snapshot."""
    sample_id = str(sample)
    return SampleRow(
        sample_id=sample_id,
        dataset=dataset_of(sample.scene_name),
        scene_name=sample.scene_name,
        group_id=group_id,
        target_cam_id=sample.target_cam_id,
        reference_cam_id=sample.reference_cam_id,
        target_fname=sample.target_fname,
        reference_fname=sample.reference_fname,
        image_path=f"samples/{sample_id}/image.png",
        target_image_path=f"samples/{sample_id}/target_image.jpg",
        ref_image_path=f"samples/{sample_id}/ref_image.jpg",
    )


def sample_of(row: SampleRow) -> SampleId:
    """The identity of a row's sample."""
    return SampleId(row.scene_name, row.target_cam_id, row.reference_cam_id, row.target_fname, row.reference_fname)


def group_key(row: SampleRow) -> str:
    """`<dataset>/<group_id>`: the unit that never stands in both splits. Two datasets may use one group name."""
    return f"{row.dataset}/{row.group_id}"


def write_rows(path: Path, rows: Iterable[SampleRow]) -> str:
    """Write a manifest, one row a line in the given order, atomically and streamed. Returns the sha256 of its bytes."""
    digest = hashlib.sha256()
    with storage.atomic_file(path) as temporary, temporary.open("wb") as handle:
        for block in _blocks(rows):
            digest.update(block)
            handle.write(block)
    return digest.hexdigest()


def rows_sha256(rows: Iterable[SampleRow]) -> str:
    """The sha256 that `write_rows` would return, without writing."""
    digest = hashlib.sha256()
    for block in _blocks(rows):
        digest.update(block)
    return digest.hexdigest()


def _blocks(rows: Iterable[SampleRow], lines: int = 1024) -> Iterator[bytes]:
    """Manifest bytes, some lines at a time: one hash update a line would cost more than the line."""
    block: list[bytes] = []
    for row in rows:
        block.append(orjson.dumps(row.__dict__))
        if len(block) == lines:
            yield b"\n".join(block) + b"\n"
            block.clear()
    if block:
        yield b"\n".join(block) + b"\n"


def read_rows(path: Path) -> list[SampleRow]:
    """Read a manifest, in its order.

    Raises:
        InvalidFile: the file is missing, or a line is not a row; the message has its number.
    """
    with _without_garbage_collection():
        return list(_checked_rows(path))


def first_row(path: Path) -> SampleRow | None:
    """The first row of a manifest; None where it has none.

    Raises:
        InvalidFile: the file is missing, or its first line is not a row.
    """
    return next(_checked_rows(path), None)


def scenes_of_rows(path: Path) -> set[str]:
    """The scenes of a manifest's rows. Of each row that key alone is looked at: it is asked for often, of many rows.

    Raises:
        InvalidFile: the file is missing, or a line names no scene; the message has its number.
    """
    names = set()
    for number, values in enumerate(storage.read_jsonl(path), start=1):
        name = values.get("scene_name") if isinstance(values, dict) else None
        if not isinstance(name, str):
            raise InvalidFile(
                "a line is not a sample row: it names no scene",
                file=path,
                key=f"line {number}: scene_name",
                found=ascii(values)[:200],
                remedy="write the manifest again from the shards",
            )
        names.add(name)
    return names


def _checked_rows(path: Path) -> Iterator[SampleRow]:
    for number, values in enumerate(storage.read_jsonl(path), start=1):
        yield _checked_row(values, path, number)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """The collector would walk over all rows again and again while they are read: half of the time for a million of them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _checked_row(values: Any, path: Path, number: int) -> SampleRow:
    row = _row_as_written(values)
    if row is not None:
        return row
    try:
        row = SampleRow.model_validate(values, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidFile(
            f"a line is not a sample row: {first['msg']}",
            file=path,
            key=f"line {number}: {'.'.join(str(part) for part in first['loc'])}",
            found=ascii(first.get("input"))[:200],
            remedy="write the manifest again from the shards",
        ) from error
    expected = _expected_row(row, path, number)
    if row != expected:
        key = next(name for name in _KEYS if getattr(row, name) != getattr(expected, name))
        raise InvalidFile(
            "a row's id, ids and paths do not belong together",
            file=path,
            key=f"line {number}: {key}",
            found=ascii(getattr(row, key))[:300],
            wanted=getattr(expected, key),
            remedy="write the manifest again from the shards",
        )
    return row


def _expected_row(row: SampleRow, path: Path, number: int) -> SampleRow:
    """What a row with these ids must look like."""
    try:
        check_key(row.group_id, "group_id")
        return row_of(sample_of(row), row.group_id)
    except InvalidKey as error:
        raise InvalidFile(
            f"a line is not a sample row: {error.problem}",
            file=path,
            key=f"line {number}: {error.key}",
            found=error.found,
            wanted=error.wanted,
            remedy="write the manifest again from the shards",
        ) from error


def _row_as_written(values: Any) -> SampleRow | None:
    """The row of a parsed line that has our key order, types, id and paths; else None.

    Written out, because it runs a million times. Names that many rows share are kept once: a fifth of the memory.
    """
    if type(values) is not dict or tuple(values) != _KEYS:
        return None
    sample_id, dataset, scene, group, target, reference, fname, other_fname, image, photo, ref = values.values()
    if (
        type(target) is not int
        or type(reference) is not int
        or not (_is_scene(scene, dataset, group) and _is_frame(fname) and _is_frame(other_fname))
        or not (0 <= target <= MAX_CAMERA_ID and 0 <= reference <= MAX_CAMERA_ID)
        or sample_id != f"{scene}__tcam{target}__rccam{reference}__tf{fname}__rf{other_fname}"
    ):
        return None
    folder = f"samples/{sample_id}/"
    if image != folder + "image.png" or photo != folder + "target_image.jpg" or ref != folder + "ref_image.jpg":
        return None
    return _trusted_row(
        {
            "sample_id": sample_id,
            "dataset": intern(dataset),
            "scene_name": intern(scene),
            "group_id": intern(group),
            "target_cam_id": target,
            "reference_cam_id": reference,
            "target_fname": intern(fname),
            "reference_fname": intern(other_fname),
            "image_path": image,
            "target_image_path": photo,
            "ref_image_path": ref,
        }
    )


@lru_cache(maxsize=4096)
def _is_scene(scene_name: object, dataset: object, group_id: object) -> bool:
    if not isinstance(scene_name, str) or not isinstance(group_id, str):
        return False
    try:
        return dataset_of(scene_name) == dataset and bool(check_key(group_id, "group_id"))
    except InvalidKey:
        return False


@lru_cache(maxsize=65536)
def _is_frame(fname: object) -> bool:
    try:
        return isinstance(fname, str) and bool(check_frame(fname))
    except InvalidKey:
        return False


def _trusted_row(values: dict[str, Any]) -> SampleRow:
    """A row around values that were checked already; the dictionary, in the model's order, becomes the row's own."""
    row = SampleRow.__new__(SampleRow)
    put = object.__setattr__
    put(row, "__dict__", values)
    put(row, "__pydantic_fields_set__", _FIELDS_SET)
    put(row, "__pydantic_extra__", None)
    put(row, "__pydantic_private__", None)
    return row


def unique_rows(rows: Sequence[SampleRow], where: Path) -> list[SampleRow]:
    """Rows sorted by sample id; equal ones once.

    Raises:
        InvalidFile: two rows have one id and other content.
    """
    kept: list[SampleRow] = []
    for row in sorted(rows, key=lambda row: row.sample_id):
        if kept and kept[-1].sample_id == row.sample_id:
            if kept[-1] != row:
                key = next(name for name in _KEYS if getattr(row, name) != getattr(kept[-1], name))
                raise InvalidFile(
                    "two rows have one sample id and other content",
                    file=where,
                    key=f"{row.sample_id}: {key}",
                    found=f"{getattr(kept[-1], key)!r} and {getattr(row, key)!r}",
                    remedy="export the scenes that hold the sample again",
                )
            continue
        kept.append(row)
    return kept
