"""What a materialization and a check show in the UI: tables, pictures, paths, outcomes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import get_args

import dagster as dg
from pydantic import BaseModel

from thesis_assets.schemas.checks import CheckOutcome, Remedy

OFFENDERS = "first offenders"
MEND = "to mend it"
PICTURE = "offenders seen"
COLUMN_SCHEMA = "dagster/column_schema"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.TableMetadataValue:
    """A table in the UI. Its cells are values, never markup: names from disk show as they are."""
    records = [dg.TableRecord({name: _plain(cell) for name, cell in zip(header, row, strict=True)}) for row in rows]
    columns = [dg.TableColumn(name, _column_type(record.data[name] for record in records)) for name in header]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def _plain(cell: object) -> str | int | float | bool:
    return cell if isinstance(cell, str | int | float | bool) else str(cell)


def _column_type(values: Iterable[object]) -> str:
    kinds = {type(value) for value in values}
    return {frozenset({int}): "int", frozenset({float}): "float", frozenset({bool}): "bool"}.get(
        frozenset(kinds), "string"
    )


def column_schema(model: type[BaseModel]) -> dg.TableSchema:
    """The columns of a table that is written one model a row: what the UI shows beside the asset's data."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                name,
                _type_name(field.annotation),
                description=field.description,
                constraints=dg.TableColumnConstraints(nullable=not field.is_required()),
            )
            for name, field in model.model_fields.items()
        ]
    )


def _type_name(annotation: object) -> str:
    if isinstance(annotation, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    return {int: "int", float: "float", bool: "bool"}.get(annotation, "string")  # type: ignore[call-overload, no-any-return]


def counts_table(name: str, counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """A two-column table, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return table((name, "count"), ordered)


def picture(content: bytes) -> dg.MarkdownMetadataValue:
    """A PNG or JPEG, inline. The event log keeps it, so one of 100 KB or more is made smaller first."""
    from thesis_assets.images.contact_sheet import markdown_thumbnail

    return dg.MetadataValue.md(markdown_thumbnail(content))


def picture_file(path: Path) -> dg.MarkdownMetadataValue:
    """A picture on disk, inline."""
    return picture(path.read_bytes())


def first_of(offenders: Sequence[str]) -> str:
    """What a description ends with where a check failed: a list of checks shows no more of each."""
    return f"; first: {offenders[0]}" if offenders else ""


def check_result(
    asset: str, name: str, outcome: CheckOutcome, *, blocks: bool = True, remedy: Remedy | None = None
) -> dg.AssetCheckResult:
    """A check's result with counts and offenders, on pass as on fail, and with what mends it where it is known."""
    metadata: dict[str, dg.MetadataValue] = {
        key: dg.MetadataValue.float(float(value)) if isinstance(value, float) else dg.MetadataValue.int(value)
        for key, value in outcome.counts.items()
    }
    if remedy is not None:
        metadata[MEND] = dg.MetadataValue.text(str(remedy))
    if outcome.offenders:
        metadata[OFFENDERS] = dg.MetadataValue.json(outcome.offenders)
    if outcome.picture:
        metadata[PICTURE] = picture(outcome.picture)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description=outcome.message if outcome.passed else outcome.message + first_of(outcome.offenders),
        metadata=metadata,
    )
