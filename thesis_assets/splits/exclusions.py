"""Samples that a person leaves out: `experiments/<exp_name>.exclude.csv`, and what the split was made with, `meta/exclude.csv`.

They stand in neither half; they are rendered, collected and counted all the same. Does not belong here: which half a sample is of.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.schemas.samples import Exclusion

COLUMNS = tuple(Exclusion.model_fields)


def read_exclusions(path: Path) -> list[Exclusion]:
    """The exclusions of a file, sorted by sample; none where there is no file. Of a sample that stands twice the later line counts.

    Raises:
        InvalidFile: it is no such table; the message has the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise _refusal(path, f"byte {error.start} is no UTF-8", 1) from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, Exclusion] = {}
    try:
        names = reader.fieldnames or []
        if "sample_id" not in names or not set(names) <= set(COLUMNS):
            raise _refusal(path, f"the columns {', '.join(names) or 'none'}", 1)
        for row in reader:
            if None in row or None in row.values():
                raise _refusal(path, "another number of cells than the header has", reader.reader.line_num)
            sample_id = row["sample_id"].strip()
            SampleId.parse(sample_id)
            found[sample_id] = Exclusion(**{**row, "sample_id": sample_id})
    except InvalidKey as error:
        raise _refusal(path, f"{error.found} is no sample id", reader.reader.line_num) from error
    except csv.Error as error:
        raise _refusal(path, str(error), reader.reader.line_num) from error
    return [found[sample_id] for sample_id in sorted(found)]


def _refusal(path: Path, found: str, line: int) -> InvalidFile:
    return InvalidFile(
        "the file is no table of exclusions",
        file=path,
        key=f"line {line}",
        found=found,
        wanted=f"a CSV with the columns {','.join(COLUMNS)}, of which the first is needed; a line a sample",
        remedy="correct the line, or write the file by `thesis-assets samples exclude`",
    )


def write_exclusions(path: Path, exclusions: Iterable[Exclusion]) -> None:
    """Write the table, sorted by sample, a line each, by one rename."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in sorted(exclusions, key=lambda each: each.sample_id):
        writer.writerow([" ".join(cell.split()) for cell in each.model_dump().values()])
    storage.write_text(path, text.getvalue())


def with_added(present: Sequence[Exclusion], new: Sequence[Exclusion]) -> list[Exclusion]:
    """Both; one that is there already stays as it is, with whoever named it first."""
    return list({each.sample_id: each for each in (*new, *present)}.values())


def as_option(exclusions: Sequence[Exclusion]) -> str | None:
    """What stands in a record: how many samples, and which, as a digest; reasons shape nothing. None without any."""
    if not exclusions:
        return None
    return f"{len(exclusions)} samples, {storage.sha256_value(sorted(each.sample_id for each in exclusions))[:16]}"


def excluded_from(tree: DifixTree) -> frozenset[str]:
    """The samples that a snapshot's halves were made without."""
    return frozenset(each.sample_id for each in read_exclusions(tree.exclusions))
