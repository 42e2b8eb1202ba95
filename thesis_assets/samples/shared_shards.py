"""Equal shards of other experiments: linked in place of being rendered again, so that a fork costs only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import Contents, MadeFrom, Making, Output, Unit, begin
from thesis_assets.samples.shard_files import Shard, read_shard
from thesis_assets.samples.shard_identity import in_other_experiment
from thesis_assets.schemas.samples import SAMPLE_FILES


@dataclass(frozen=True)
class LinkedShard:
    """A shard whose samples were taken over.

    Attributes:
        outputs: what its record says of their files.
        making: of the record here, by the tools of the one there.
    """

    shard: Shard
    outputs: dict[str, Output]
    noted: Mapping[str, Any]
    making: Making


def link_equal_shard(
    tree: DifixTree, unit: Unit, link_mode: Literal["auto", "copy"], contents: Contents
) -> LinkedShard | None:
    """Take over the samples of an equal shard of another experiment under the same root: made from the same, by today's tools.

    Each sample's folder appears by one rename; the shard's files are the caller's to write. None where no experiment has one.
    """
    for source, theirs in _siblings(tree, unit):
        record = _equal_record(theirs, contents)
        if record is None:
            continue
        started = time.monotonic()
        try:
            shard = read_shard(source, theirs.place.record.parent.name)
            for row in shard.rows:
                _link_sample(source, tree, row.sample_id, link_mode)
        except (FileNotFoundError, InvalidFile):
            continue  # it was exported anew while we looked
        making = begin(replace(theirs, place=unit.place), contents)
        if _equal_record(theirs, contents) != record:
            continue  # An export anew takes the statistics away first: what was linked may be of two makings.
        for name, sha256 in record.inputs.items():  # ours too: they were compared just now
            contents.saw(unit.wanted.files[name], sha256)
        taken = shard.stats.model_copy(update={"seconds": round(time.monotonic() - started, 3), "bytes_written": 0})
        outputs = {name: Output(*each) for name, each in record.outputs.items() if name.startswith("samples/")}
        return LinkedShard(Shard(taken, shard.rows, shard.dropped), outputs, record.noted, making)
    return None


def has_equal_shard(tree: DifixTree, unit: Unit) -> bool:
    """Whether the experiment itself or another one under the same root has a whole shard that is equal to this one."""
    contents = Contents()
    return unit.look(contents).is_made or any(_equal_record(theirs, contents) for _, theirs in _siblings(tree, unit))


def _equal_record(theirs: Unit, contents: Contents) -> MadeFrom | None:
    """The record of a shard that is whole and what one would make now: by this version and these tools, from all that is here."""
    verdict = theirs.look(contents)
    record = verdict.record
    if record is None or not verdict.is_made or verdict.notes:
        return None
    return record if record.inputs.keys() == theirs.wanted.files.keys() else None


def _siblings(tree: DifixTree, unit: Unit) -> Iterator[tuple[DifixTree, Unit]]:
    """Experiments under the same root that have a record of the scene's shard, by name, each with that shard."""
    name = unit.place.name(unit.place.record)
    for record in sorted(tree.root.glob(f"*/{name}")):
        try:
            sibling = DifixTree(tree.root, record.parents[2].name)
        except InvalidKey:
            continue  # no experiment of ours
        if sibling.exp_name != tree.exp_name:
            yield sibling, in_other_experiment(unit, sibling, record.parent.name)


def _link_sample(source: DifixTree, tree: DifixTree, sample_id: str, link_mode: Literal["auto", "copy"]) -> None:
    with storage.atomic_directory(tree.samples_dir / sample_id) as folder:
        for name in SAMPLE_FILES:
            storage.link_or_copy(source.samples_dir / sample_id / name, folder / name, link_mode=link_mode)
