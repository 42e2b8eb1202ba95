"""The metric tables and result files of a task: written and read with the columns that the output document fixes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from thesis_assets.errors import InvalidFile
from thesis_assets.schemas.evaluation import parse_results

Values = Mapping[str, float | None]

MAX_TABLE_BYTES = 256 * 1024 * 1024
KEY_COLUMNS = ("camera_id", "frame_id")


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, float | int | None]]) -> str:
    """CSV: whole numbers for keys, six decimals for metrics, an empty field for an absent value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(name, row.get(name)) for name in columns])
    return text.getvalue()


def _field(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if name in KEY_COLUMNS else format(value, ".6f")


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, float | None]]:
    """A metric table back. An empty field is None; further columns after the wanted ones are passed over.

    Raises:
        InvalidFile: missing, empty, cut short, other columns in front, or a field that is not a finite number.
    """
    rows = list(csv.reader(_bounded_text(path).splitlines()))
    if not rows or tuple(rows[0][: len(columns)]) != tuple(columns):
        raise InvalidFile(
            "the table has other columns",
            file=path,
            found=",".join(rows[0])[:300] if rows else "no header",
            wanted=",".join(columns) + " first, in this order",
        )
    if len(rows) == 1:
        raise InvalidFile("the table has no rows", file=path)
    return [_row(path, number, columns, len(rows[0]), fields) for number, fields in enumerate(rows[1:], start=2)]


def first_columns(path: Path) -> tuple[str, ...]:
    """The names in a table's first line.

    Raises:
        InvalidFile: missing, empty, or not text.
    """
    lines = _bounded_text(path).splitlines()
    return tuple(next(csv.reader(lines[:1]), []))


def _row(path: Path, number: int, columns: Sequence[str], width: int, fields: list[str]) -> dict[str, float | None]:
    if len(fields) != width:
        raise InvalidFile(
            "a row of the table is cut short", file=path, key=f"line {number}", found=len(fields), wanted=width
        )
    row: dict[str, float | None] = {}
    for name, text in zip(columns, fields, strict=False):
        if text == "" and name not in KEY_COLUMNS:
            row[name] = None
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidFile(
                "a field is not a finite number",
                file=path,
                key=f"line {number}, {name}",
                found=ascii(text[:80]),
                wanted="a finite number" + ("" if name in KEY_COLUMNS else ", or nothing for an absent value"),
            )
        row[name] = value
    return row


def read_results(path: Path, keys: Sequence[str]) -> dict[str, float | None]:
    """An overall results file back; `nan` is None.

    Raises:
        InvalidFile: missing, empty, a line that is not `key: number`, or other keys than wanted in front.
    """
    text = _bounded_text(path)
    try:
        values = parse_results(text)
    except ValueError as error:
        raise InvalidFile("the results file cannot be read", file=path, found=str(error)[:200]) from error
    if tuple(values)[: len(keys)] != tuple(keys) or not text.endswith("\n"):
        raise InvalidFile(
            "the results file has other keys, or is cut short",
            file=path,
            found=", ".join(values) or "nothing",
            wanted=", ".join(keys),
        )
    return {key: None if math.isnan(values[key]) else values[key] for key in keys}


def mean_of(rows: Iterable[Values], metric: str) -> float | None:
    """Mean over the rows that have a value; None where none has."""
    values = [value for row in rows if (value := row[metric]) is not None]
    return math.fsum(values) / len(values) if values else None


def _bounded_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size == 0:
            raise InvalidFile("the file is empty", file=path)
        if size > MAX_TABLE_BYTES:
            raise InvalidFile("the file is larger than any of its kind", file=path, found=f"{size} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error
    except UnicodeDecodeError as error:
        raise InvalidFile("the file is not UTF-8 text", file=path, found=str(error)) from error
