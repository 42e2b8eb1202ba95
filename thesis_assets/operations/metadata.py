"""What a materialization and a check show in the UI: tables, pictures, paths, outcomes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import dagster as dg
from pydantic import BaseModel

from thesis_assets.graph.check_history import MEND, OFFENDERS, PICTURE, first_of
from thesis_assets.schemas.checks import CheckOutcome, Remedy

Metadata = Mapping[str, Any]
COLUMN_SCHEMA = "dagster/column_schema"
GAIN = "gain dB"
COLUMNS = {
    "scene": "the captured sequence",
    "epoch": "the evaluated epoch; of a refined run 0 is the unrefined render",
    "step": "the checkpoint's training step; empty: the tree does not say",
    "PSNR ↑ dB": "mean over all frames of all cameras; higher is better",
    GAIN: "PSNR minus that of the same scene's unrefined epoch",
    "SSIM ↑": "structural similarity, at most 1; higher is better",
    "LPIPS ↓": "perceptual distance (VGG); lower is better",
    "LPIPS (Alex) ↓": "perceptual distance by AlexNet; empty: not asked for, or not measured",
    "LPIPS (VGG, 3DGS) ↓": "by VGG as 3DGS pipelines compute it; empty: not asked for, or not measured",
    "PSNR* ↑ dB": "of the squared error summed over colour channels, as older tables have it",
    "RR-MPJPE ↓ mm": "mean distance of joints, both bodies moved to their root",
    "RR-MVE ↓ mm": "mean distance of vertices, both bodies moved to their root",
    "CD ↓ mm": "mean distance of the contacts between people",
    "PCDR ↑": "share of pairs of people in the right order of depth",
    "MPJPE ↓ mm": "mean distance of joints in the world",
    "MVE ↓ mm": "mean distance of vertices in the world",
    "PA-MPJPE ↓ mm": "mean distance of joints after the best rotation, scale and shift",
    "PCDR* ↑": "as older tables have it",
    "W-MPJPE ↓ mm": "joints in the world, aligned by the first two frames of each 100",
    "WA-MPJPE ↓ mm": "joints in the world, aligned over each 100 frames",
    "Accel ↓ mm/t²": "difference of the joints' accelerations; t: a second, or a frame where their rate is not known",
    "Jitter ↓ 10 m/s³": "of the predicted joints; empty: the frames a second are not known",
    "views": "images a camera and frame",
    "cameras": "cameras with images",
    "frames": "frames with images",
    "modalities": "kinds of data that the scene has",
    "missing": "what the scene lacks, by the task that needs it",
    "tasks": "tasks whose numbers are complete",
    "epochs": "epochs whose numbers are complete",
    "count": "how many samples",
    "group": "who is seen: never on both sides of a split",
    "reason": "why it is not there",
    "file": "relative to the data home where it lies in it",
    "size": "of the file",
    "absent": "what the files beside it do not have, and so the recording",
    "samples": "held-out samples that were scored",
    "PSNR": "of the refined images against the target, in dB",
    "PSNR of the render": "of the unrefined renders against the target, in dB",
    "gain": "PSNR minus PSNR of the render",
    "LPIPS": "of the refined images; empty: not measured",
    "LPIPS of the render": "of the unrefined renders; empty: not measured",
}
"""What the columns of these tables mean, by name."""
_CODE_OR_ANGLE = re.compile(r"`[^`]*`|<\w[^<>\n]*>(?:[^\s<>`]*<\w[^<>\n]*>)*")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.TableMetadataValue:
    """A table in the UI. Its cells are values, never markup: names from disk show as they are."""
    records = [dg.TableRecord({name: _plain(cell) for name, cell in zip(header, row, strict=True)}) for row in rows]
    columns = [
        dg.TableColumn(name, _column_type(record.data[name] for record in records), description=COLUMNS.get(name))
        for name in header
    ]
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
                description=as_markdown(field.description) if field.description else None,
                constraints=dg.TableColumnConstraints(nullable=not field.is_required()),
            )
            for name, field in model.model_fields.items()
        ]
    )


def _type_name(annotation: object) -> str:
    if isinstance(annotation, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    return {int: "int", float: "float", bool: "bool"}.get(annotation, "string")  # type: ignore[call-overload, no-any-return]


def as_markdown(text: str) -> str:
    """Words that the UI shows as markdown: `<exp_name>` would be HTML, and vanish; as code it stays."""
    return _CODE_OR_ANGLE.sub(lambda found: found[0] if found[0].startswith("`") else f"`{found[0]}`", text)


def counts_table(name: str, counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """A two-column table, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return table((name, "count"), ordered)


def rounded(value: float) -> dg.FloatMetadataValue:
    """Of as many digits as a person reads."""
    return dg.MetadataValue.float(float(f"{value:.5g}"))


def picture(content: bytes) -> dg.MarkdownMetadataValue:
    """A PNG or JPEG, inline. The event log keeps it, so one of 100 KB or more is made smaller first."""
    from thesis_assets.images.contact_sheet import markdown_thumbnail

    return dg.MetadataValue.md(markdown_thumbnail(content))


def picture_file(path: Path) -> dg.MarkdownMetadataValue:
    """A picture on disk, inline."""
    return picture(path.read_bytes())


def check_result(
    asset: str, name: str, outcome: CheckOutcome, *, blocks: bool = True, remedy: Remedy | None = None
) -> dg.AssetCheckResult:
    """A check's result with counts and offenders, on pass as on fail, and with what mends it where it is known."""
    metadata: dict[str, dg.MetadataValue] = {
        key: rounded(value) if isinstance(value, float) else dg.MetadataValue.int(value)
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
        severity=dg.AssetCheckSeverity.ERROR if blocks and not outcome.warns else dg.AssetCheckSeverity.WARN,
        description=outcome.message if outcome.passed else outcome.message + first_of(outcome.offenders),
        metadata=metadata,
    )
