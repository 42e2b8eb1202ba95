"""What a materialization and a check show in the UI: tables, pictures, paths, outcomes.

Text that comes from files is escaped before it becomes markdown.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from thesis_assets.schemas.checks import CheckOutcome

OFFENDERS = "first offenders"


def escaped(text: object) -> str:
    """Text that renders as itself in markdown and HTML."""
    plain = html.escape(str(text))
    for character in "\\`*_{}[]()#+!|<>~":
        plain = plain.replace(character, f"&#{ord(character)};")
    return plain.replace("\n", " ")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A table of escaped cells."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def counts_table(name: str, counts: Mapping[str, int | float]) -> dg.MarkdownMetadataValue:
    """A two-column table, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return markdown_table([name, "count"], ordered)


def picture(content: bytes) -> dg.MarkdownMetadataValue:
    """A PNG or JPEG, inline. The event log keeps it, so one of 100 KB or more is made smaller first."""
    from thesis_assets.images.contact_sheet import markdown_thumbnail

    return dg.MetadataValue.md(markdown_thumbnail(content))


def picture_file(path: Path) -> dg.MarkdownMetadataValue:
    """A picture on disk, inline."""
    return picture(path.read_bytes())


def check_result(
    asset: str, name: str, outcome: CheckOutcome, *, blocking_severity: bool = True
) -> dg.AssetCheckResult:
    """A check's result with counts and offenders, on pass as on fail."""
    metadata: dict[str, dg.MetadataValue] = {
        key: dg.MetadataValue.float(float(value)) if isinstance(value, float) else dg.MetadataValue.int(value)
        for key, value in outcome.counts.items()
    }
    if outcome.offenders:
        metadata[OFFENDERS] = dg.MetadataValue.json(outcome.offenders)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if blocking_severity else dg.AssetCheckSeverity.WARN,
        description=outcome.message if outcome.passed else "; first: ".join([outcome.message, *outcome.offenders[:1]]),
        metadata=metadata,
    )
