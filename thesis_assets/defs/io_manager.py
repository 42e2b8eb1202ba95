"""The IO manager of the trees: binds what an asset says should exist to the files the layout names, and loads it again.

Tables are written here through their room's writer; what workers and programs wrote themselves is held against its record. Loaded are typed, lazy handles. Launching is the asset's business, never the IO manager's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from thesis_assets.defs.footprint import footprint
from thesis_assets.defs.metadata import counts_table
from thesis_assets.defs.told_versions import code_version_of
from thesis_assets.errors import InvalidFile, ThesisAssetsError, command_for
from thesis_assets.graph.attempts import note_failure
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import CODE_VERSION, DATA_VERSION, NODES, data_version, of_all
from thesis_assets.graph.platform import Platform
from thesis_assets.samples.triplet_set import TripletSet
from thesis_assets.storage import full_disk_explained

if TYPE_CHECKING:
    from thesis_assets.samples.shards import SampleSet
    from thesis_assets.schemas.samples import SampleRow

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class SplitTriplets:
    """Both sides of a hold-out, as they are loaded."""

    train: TripletSet
    test: TripletSet


@dataclass(frozen=True)
class SplitTables:
    """Both sides of a hold-out, with what the statistics need."""

    rows: "list[SampleRow]"
    result: Any
    split: Any


@dataclass(frozen=True)
class AdapterTable:
    """The rows of `difix/data.json`."""

    train: "list[SampleRow]"
    test: "list[SampleRow]"
    prompt: str


def verify_units(platform: Platform, asset: str, cell: Cell) -> Metadata:
    """What a cell consists of now, as metadata.

    Raises:
        InvalidFile: a unit of it has no record, or lacks a file of it, or the file has other bytes.
    """
    looks = [(unit, unit.look(platform.contents)) for unit in NODES[asset].units(platform, cell)]
    found = of_all(looks)
    if found.state in ("missing", "damaged"):
        raise InvalidFile(
            "what should have been written is not whole",
            key=f"{asset} of {cell}",
            found=found.in_words,
            remedy=f"the log of what writes it says more; `{command_for(asset, cell.exp_name, cell.run_name)}` makes it again",
        )
    records = [verdict.record for _, verdict in looks if verdict.record is not None]
    n_files, n_bytes = footprint(records)
    versions = {DATA_VERSION: data_version(records), CODE_VERSION: code_version_of(asset, looks)}
    return {**versions, "files": n_files, "bytes": n_bytes}


def _write_sample_set(platform: Platform, cell: Cell, value: "SampleSet") -> Metadata:
    from thesis_assets.samples.shards import write_sample_set

    tree = platform.difix(cell)
    write_sample_set(tree, value)
    return {
        "dagster/row_count": len(value.rows),
        "dropped": len(value.dropped),
        "path": dg.MetadataValue.path(tree.all_samples),
    }


def _write_split(platform: Platform, cell: Cell, value: SplitTables) -> Metadata:
    from thesis_assets.samples.shards import collect_sample_set
    from thesis_assets.splits.manifests import write_split_manifests

    tree = platform.difix(cell)
    spec = platform.spec(cell)
    samples = collect_sample_set(tree, platform.scene_names(spec))
    summary = write_split_manifests(tree, value.rows, value.result, value.split, samples.dropped, samples.shards)
    return {
        "train samples": summary.n_train,
        "test samples": summary.n_test,
        "train groups": counts_table("group", _by_group(value.result.train)),
        "test groups": counts_table("group", _by_group(value.result.test)),
        "dagster/row_count": summary.n_all,
        "path": dg.MetadataValue.path(tree.manifests_dir),
    }


def _by_group(rows: "list[SampleRow]") -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        group = f"{row.dataset}/{row.group_id}"
        counts[group] = counts.get(group, 0) + 1
    return counts


def _write_adapter(platform: Platform, cell: Cell, value: AdapterTable) -> Metadata:
    from thesis_assets.samples.snapshot import mend_freeze
    from thesis_assets.splits.data_json import write_data_json

    tree = platform.difix(cell)
    mend_freeze(tree)
    write_data_json(tree, value.train, value.test, value.prompt)
    n_rows = len(value.train) + len(value.test)
    return {"dagster/row_count": n_rows, "path": dg.MetadataValue.path(tree.data_json)}


def _load_shard(platform: Platform, cell: Cell) -> TripletSet:
    from thesis_assets.samples.shards import read_shard

    tree = platform.difix(cell)
    return TripletSet(tree, read_shard(tree, cell.scene_name).rows, device=platform.local_device)


def _load_sample_set(platform: Platform, cell: Cell) -> TripletSet:
    from thesis_assets.samples.sample_rows import read_rows

    tree = platform.difix(cell)
    return TripletSet(tree, read_rows(tree.all_samples), device=platform.local_device)


def _load_split(platform: Platform, cell: Cell) -> SplitTriplets:
    from thesis_assets.samples.sample_rows import read_rows

    tree = platform.difix(cell)
    train, test = (read_rows(path) for path in (tree.split_train, tree.split_test))
    return SplitTriplets(
        TripletSet(tree, train, device=platform.local_device), TripletSet(tree, test, device=platform.local_device)
    )


WRITERS: dict[str, Callable[[Platform, Cell, Any], Metadata]] = {
    "sample_set": _write_sample_set,
    "split_manifests": _write_split,
    "difix_data": _write_adapter,
}
LOADERS: dict[str, Callable[[Platform, Cell], Any]] = {
    "scene_samples": _load_shard,
    "sample_set": _load_sample_set,
    "split_manifests": _load_split,
    "difix_data": _load_split,
}


class TreeIOManager(dg.IOManager):
    """Writes or verifies an asset's files in the trees of both directory documents, and loads them for what is downstream."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write the tables of one cell, and hold what lies there then against its record.

        Raises:
            Failure: a file that should be there is missing or empty; or the disk is full.
        """
        try:
            with full_disk_explained(self._platform.settings.data_home):
                self._publish(context, obj)
        except ThesisAssetsError as error:
            asset = context.asset_key.to_user_string()
            keys = context.asset_partition_keys if context.has_asset_partitions else ()
            cells = [Cell.parse(NODES[asset].kind, key) for key in keys]
            note_failure(self._platform, asset, cells, str(error), context.run_id)
            raise dg.Failure(description=str(error), allow_retries=False) from error

    def _publish(self, context: dg.OutputContext, obj: Any) -> None:
        asset = context.asset_key.to_user_string()
        if asset not in WRITERS:
            return  # written by workers and programs, and held against its records by the step
        kind = NODES[asset].kind
        keys = context.asset_partition_keys if context.has_asset_partitions else [None]
        for cell in (Cell.parse(kind, key) for key in keys):
            context.add_output_metadata(WRITERS[asset](self._platform, cell, obj))
            found = verify_units(self._platform, asset, cell)
            context.add_output_metadata(found)
            if context.step_context is not None:
                context.step_context.set_data_version(context.asset_key, dg.DataVersion(str(found[DATA_VERSION])))

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the upstream value of the one cell that the step works on."""
        asset = context.asset_key.to_user_string()
        key = context.asset_partition_key if context.has_asset_partitions else None
        return LOADERS[asset](self._platform, Cell.parse(NODES[asset].kind, key))
