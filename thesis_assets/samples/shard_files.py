"""The three files of one scene's shard, and the table of dropped samples."""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree, SceneRunTree
from thesis_assets.samples.sample_rows import read_rows, write_rows
from thesis_assets.schemas.samples import DROPPED_COLUMNS, DroppedSample, SampleRow, ShardStats


@dataclass(frozen=True)
class Shard:
    """The finished samples of one scene, sorted by sample id."""

    stats: ShardStats
    rows: list[SampleRow]
    dropped: list[DroppedSample]


def write_shard(shard_tree: SceneRunTree, shard: Shard) -> None:
    """Write the shard's files; `run_stats.json` last: a shard without it is not finished."""
    write_rows(shard_tree.all_samples, shard.rows)
    write_dropped(shard_tree.dropped_samples, shard.dropped)
    storage.write_json(shard_tree.run_stats, shard.stats)


def read_shard(tree: DifixTree, scene_name: str) -> Shard:
    """Read a finished shard.

    Raises:
        InvalidFile: the shard is not there, not finished, or its rows are not those that `run_stats.json` speaks of.
    """
    shard_tree = tree.scene_run(scene_name)
    remedy = f"export it: materialize scene_samples of {tree.exp_name} and {scene_name}"
    if not shard_tree.run_stats.exists():
        raise InvalidFile(f"the scene `{scene_name}` has no finished shard", file=shard_tree.run_stats, remedy=remedy)
    stats = storage.read_json(shard_tree.run_stats, ShardStats)
    found = storage.sha256_file(shard_tree.all_samples) if shard_tree.all_samples.exists() else "no such file"
    if found != stats.rows_sha256:
        raise InvalidFile(
            "the shard's rows are not those that its statistics speak of",
            file=shard_tree.all_samples,
            key="rows_sha256",
            found=found,
            wanted=stats.rows_sha256,
            remedy=remedy,
        )
    return Shard(stats, read_rows(shard_tree.all_samples), read_dropped(shard_tree.dropped_samples))


def finished_shards(tree: DifixTree) -> list[str]:
    """Names of the scenes that have a finished shard, sorted."""
    return sorted(path.parent.name for path in tree.scene_runs_dir.glob("*/run_stats.json"))


def write_dropped(path: Path, dropped: Iterable[DroppedSample]) -> str:
    """Write the table of dropped samples, in the given order; with no row it has its header. Returns its sha256."""
    content = dropped_bytes(dropped)
    storage.write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def dropped_bytes(dropped: Iterable[DroppedSample]) -> bytes:
    """The table as CSV, `\\n` line ends."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(DROPPED_COLUMNS)
    for row in dropped:
        writer.writerow([getattr(row, column) for column in DROPPED_COLUMNS])
    return text.getvalue().encode("utf-8")


def read_dropped(path: Path) -> list[DroppedSample]:
    """Read a table of dropped samples.

    Raises:
        InvalidFile: it is missing, or a line is not a row of it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error
    except UnicodeDecodeError as error:
        raise InvalidFile("the file is not UTF-8 text", file=path, found=str(error)[:200]) from error
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    if tuple(header) != DROPPED_COLUMNS:
        raise InvalidFile(
            "the table has other columns", file=path, found=",".join(header)[:200], wanted=",".join(DROPPED_COLUMNS)
        )
    rows = []
    for cells in lines:
        try:
            rows.append(DroppedSample.model_validate(dict(zip(DROPPED_COLUMNS, cells, strict=True))))
        except (ValidationError, ValueError) as error:
            raise InvalidFile(
                "a line is not a dropped sample",
                file=path,
                key=f"line {lines.line_num}",
                found=ascii(",".join(cells))[:200],
                wanted=",".join(DROPPED_COLUMNS),
            ) from error
    return rows


def sorted_dropped(dropped: Sequence[DroppedSample]) -> list[DroppedSample]:
    """By scene, then sample id: one order whatever order they were dropped in."""
    return sorted(dropped, key=lambda row: (row.scene_name, row.sample_id, row.reason))
